// The database as a machine on the network: queries travel, execute one after another, and their answers travel back; any of
// it may fail. What a client cannot tell apart (not executed, executed and not heard of, executed later) happens here.
import { AppError } from "../../shared/errors.ts";
import type { SimProcess } from "./kernel/process.ts";
import type { SeededRandom } from "./kernel/random.ts";
import type { World } from "./kernel/world.ts";
import { ModelDatabase, type Commit } from "./model/database.ts";
import type { Carry } from "./model/store.ts";
import type { Network, Place } from "./network.ts";

export interface DatabaseRates {
  /** The connection breaks before the query executes, or after its commit and before its answer. */
  breakBefore: number;
  breakAfter: number;
  /** The client hears of the break first and the commit happens later. */
  commitLate: number;
  /** Deadlock or serialization failure: rolled back, to be tried again. */
  conflict: number;
  /** Longest service time of a query, milliseconds. */
  slowestMs: number;
}

export const calmRates: DatabaseRates = { breakBefore: 0, breakAfter: 0, commitLate: 0, conflict: 0, slowestMs: 4 };

export const databasePlace: Place = "database";
const queryTimeoutMs = 11_000;

/** A statement that executed, whether or not its answer arrives. */
export interface Executed {
  readonly place: Place;
  readonly name: string;
  readonly items: unknown;
  readonly answer: unknown;
}

export class DatabaseServer {
  readonly world: World;
  readonly #network: Network;
  readonly #random: SeededRandom;
  readonly model: ModelDatabase;
  clockOffsetMs = 0;
  rates: DatabaseRates = { ...calmRates };
  state: "up" | "down" = "up";
  #epoch = 0;
  onExecuted: (executed: Executed) => void = () => undefined;
  /** Whose statement is being executed. */
  executing: Place | undefined;

  constructor(network: Network) {
    this.#network = network;
    this.world = network.world;
    this.#random = network.world.random("database");
    this.model = new ModelDatabase(() => 1_795_000_000_000 + this.world.nowMs + this.clockOffsetMs);
  }

  crash(): string[] {
    this.state = "down";
    this.#epoch += 1;
    return this.model.crash((most) => this.#random.below(most));
  }

  failOver(lostMs: number): string[] {
    this.state = "down";
    this.#epoch += 1;
    return this.model.failOver(lostMs);
  }

  recover(): void {
    this.state = "up";
  }

  /** Connections of one node's process to this database. */
  linkOf(process: SimProcess, place: Place): Carry {
    return (name, commit, act, items) =>
      new Promise((resolve, reject) => this.#query({ process, place, name, commit, act, items, resolve, reject }));
  }

  #query<Answer>(query: {
    readonly process: SimProcess;
    readonly place: Place;
    readonly name: string;
    readonly commit: Commit | "read";
    readonly act: (db: ModelDatabase) => Answer;
    readonly items: unknown;
    readonly resolve: (answer: Answer) => void;
    readonly reject: (error: AppError) => void;
  }): void {
    const { process, place, name, commit, act, items, resolve, reject } = query;
    if (!process.mayAct()) return;
    const { rates } = this;
    const random = this.#random;
    let isSettled = false;
    const fail = (code: "database.unavailable" | "database.conflict", text: string, delayMs: number): void => {
      process.schedule(delayMs, () => {
        if (isSettled) return;
        isSettled = true;
        reject(new AppError(code, `database: ${name}: ${text}`));
      });
    };
    const back = (): number => this.#network.delayMs(databasePlace, place) / 4;
    fail("database.unavailable", "no answer in time", queryTimeoutMs);
    const epoch = this.#epoch;
    const execute = (): void => {
      if (this.#network.isCut(place, databasePlace)) {
        this.#network.whenWhole(place, databasePlace, execute);
        return;
      }
      if (this.state === "down" || this.#epoch !== epoch) {
        fail("database.unavailable", "connection refused", back());
        return;
      }
      if (random.chance(rates.conflict)) {
        fail("database.conflict", "deadlock detected", back());
        return;
      }
      let answer: Answer;
      this.executing = place;
      try {
        answer = commit === "read" ? act(this.model) : this.model.transaction(commit, name, () => act(this.model));
      } catch (cause) {
        this.world.fail(cause);
        return;
      }
      this.executing = undefined;
      this.onExecuted({ place, name, items, answer });
      if (random.chance(rates.breakAfter)) {
        fail("database.unavailable", "connection reset", back());
        return;
      }
      const answered = (): void => {
        if (this.#network.isCut(databasePlace, place)) {
          this.#network.whenWhole(databasePlace, place, answered);
          return;
        }
        process.schedule(0, () => {
          if (isSettled) return;
          isSettled = true;
          resolve(answer);
        });
      };
      this.world.schedule(back(), answered);
    };
    const there = this.#network.delayMs(place, databasePlace) / 4 + random.skewed(0.3, rates.slowestMs);
    if (random.chance(rates.breakBefore)) {
      fail("database.unavailable", "connection reset", there);
      return;
    }
    if (commit !== "read" && random.chance(rates.commitLate)) {
      fail("database.unavailable", "connection reset", there);
      this.world.schedule(there + random.between(1, 1_500), execute);
      return;
    }
    this.world.schedule(there, execute);
  }
}
