// Arms failpoints in processes that run failpoint-hook.ts and tells what became of them. One file per process and kind.
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

export type FailpointAction = "kill" | "stop" | "drop";

export interface Harm {
  readonly step: string;
  readonly action: FailpointAction;
}

export interface Armed extends Harm {
  /** Connections are dropped as soon as it is armed, for the step comes with a greeting. */
  readonly reconnect: boolean;
}

export interface Arming {
  readonly turn: number;
  readonly armed: readonly Armed[];
}

const hook = pathToFileURL(join(import.meta.dirname, "failpoint-hook.ts")).href;
/** Statements and frames of a greeting. */
const greeting = /hello|welcome|nodes|greet|read-open|presence|ready/;

export class Failpoints {
  readonly #place: string;
  /** Of the harms it was armed with last; the process repeats it when it has read them. */
  #turn = 0;

  /** `role` names the process within `folder`. */
  constructor(folder: string, role: string) {
    this.#place = join(folder, `failpoints-${role}`);
  }

  /** What the process must be started with. */
  get environment(): Record<string, string> {
    return { HOLDFAST_TEST_FAILPOINTS: this.#place, NODE_OPTIONS: `--import=${hook}` };
  }

  /**
   * Each strikes once, the next only after the one before it. Takes effect when the process has taken them: it looks when
   * it starts and when it gets SIGUSR2, and a busy one may answer requests that came after the signal first.
   */
  arm(harms: readonly Harm[]): void {
    this.#turn += 1;
    const armed = harms.map((harm) => ({ ...harm, reconnect: greeting.test(harm.step) }));
    writeArmed(this.#place, { turn: this.#turn, armed });
  }

  /** Whether the process has looked since it was last armed. */
  get isTaken(): boolean {
    const path = `${this.#place}.taken`;
    return existsSync(path) && readFileSync(path, "utf8") === String(this.#turn);
  }

  disarm(): void {
    rmSync(`${this.#place}.arm`, { force: true });
  }

  forgetFired(): void {
    rmSync(`${this.#place}.fired`, { force: true });
  }

  hasFired({ step, action }: Harm): boolean {
    const path = `${this.#place}.fired`;
    return existsSync(path) && readFileSync(path, "utf8").split("\n").includes(firedLine({ step, action }));
  }

  /** Every step the process has come by so far. */
  get steps(): string[] {
    const path = `${this.#place}.steps`;
    return existsSync(path) ? [...new Set(readFileSync(path, "utf8").trim().split("\n"))] : [];
  }
}

export function firedLine({ step, action }: Harm): string {
  return `${action} ${step}`;
}

/** Whole or not at all: a process that starts this moment reads it. */
export function writeArmed(place: string, arming: Arming): void {
  writeFileSync(`${place}.arm.new`, JSON.stringify(arming));
  renameSync(`${place}.arm.new`, `${place}.arm`);
}
