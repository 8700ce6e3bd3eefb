// One attempt on a simulated machine: what agent/local-host.ts is on a real one. The execution on top of it is the shipped one.
// Invariant: whoever died does nothing here any more, and hears nothing.
import type { AttemptFiles, AttemptHost, FolderWatch, ShimEnd } from "../../agent/attempt-host.ts";
import type { Marker } from "../../agent/attempt-folder.ts";
import type { AttemptFacts } from "../../agent/journal-record.ts";
import { noOutputs, type ScriptOutputs } from "../../agent/output-variables.ts";
import type { ProcessControl } from "../../agent/process-tree.ts";
import type { ExitReport } from "../../agent/shim-report.ts";
import { AppError } from "../../shared/errors.ts";
import type { AttemptId } from "../../shared/ids.ts";
import type { Stream } from "../../shared/task.ts";
import type { SimProcess } from "./kernel/process.ts";
import type { SeededRandom } from "./kernel/random.ts";
import type { Machine } from "./machine.ts";
import { SimSpool } from "./spool.ts";

export interface SpoolBounds {
  readonly headBytes: number;
  readonly tailBytes: number;
}

export interface SimHostOptions {
  readonly attempt: AttemptId;
  readonly facts: AttemptFacts | undefined;
  readonly machine: Machine;
  readonly process: SimProcess;
  readonly random: SeededRandom;
  readonly bounds: SpoolBounds;
  /** Probability that an act fails for want of a descriptor and has to be repeated. */
  readonly failure: number;
}

export class SimHost implements AttemptHost {
  readonly #options: SimHostOptions;
  readonly output: Readonly<Record<Stream, SimSpool>>;

  constructor(options: SimHostOptions) {
    this.#options = options;
    this.output = { out: new SimSpool(options, "out"), err: new SimSpool(options, "err") };
  }

  bootMs(): number {
    return this.#options.machine.bootMs;
  }

  async prepare(): Promise<void> {
    await this.#pass(2);
    this.#options.machine.makeFolder(this.#options.attempt);
  }

  async spawn(onEnd: (end: ShimEnd) => void): Promise<void> {
    const { machine, attempt, facts, process, random } = this.#options;
    if (facts?.spec.kind !== "script") throw new AppError("internal", "no script to run");
    await this.#pass(4);
    this.#mayFail("fork refused");
    machine.processes.spawn(attempt, facts.spec.script, (code) => {
      process.schedule(random.skewed(0.1, 10), () => onEnd({ kind: "exited", code }));
    });
  }

  /** File events come soon or long after the next look. */
  watch(onChange: () => void): FolderWatch {
    const { machine, attempt, process, random } = this.#options;
    const folder = machine.folder(attempt);
    if (folder === undefined) throw new AppError("internal", "no folder to watch");
    const noticed = (): void => void process.schedule(random.skewed(0.1, 250), onChange);
    folder.watchers.add(noticed);
    return { close: () => folder.watchers.delete(noticed) };
  }

  signedAtMs(): undefined {
    return undefined;
  }

  ranOutOfMemory(): boolean {
    return false;
  }

  outputs(): ScriptOutputs {
    return noOutputs;
  }

  progress(): undefined {
    return undefined;
  }

  release(): void {
    // There are no control groups here.
  }

  readonly folder: AttemptFiles = {
    marker: () => this.#marker(),
    exit: () => this.#exit(),
    endedFor: () => this.#folder?.endedFor,
    markEnding: (cause) => {
      const { machine, attempt, process } = this.#options;
      if (process.mayAct()) machine.markEnding(attempt, cause);
    },
    isConcluding: () => this.#folder?.isOver === true || this.#folder?.exit !== undefined,
    isDeclaredNever: () => this.#folder?.gate === "never",
    declareNever: async (ending) => {
      const { machine, attempt } = this.#options;
      await this.#pass(3);
      this.#mayFail("out of descriptors");
      const winner = machine.winGate(attempt);
      if (winner === "us") {
        // The marker is a write of its own: who dies here leaves a gate that nobody signed.
        await this.#pass(3);
        machine.leaveNever(attempt, ending);
      }
      await this.#pass(1);
      return winner;
    },
    hasLost: () => false,
    markLost: () => undefined,
    relays: () => [...(this.#folder?.relays ?? [])],
  };

  readonly processes: ProcessControl = {
    isAlive: (mark) => this.#options.machine.processes.isAlive(mark),
    isIdle: () => true,
    membersOf: (tree) => {
      // There are many looks in one kill, and one of them is enough to make it fail.
      this.#mayFail("out of descriptors", 20);
      return this.#options.machine.processes.membersOf(tree);
    },
    signal: (pid, name) => {
      const { machine, process } = this.#options;
      if (process.mayAct()) machine.processes.signal(pid, name);
    },
  };

  get #folder(): ReturnType<Machine["folder"]> {
    return this.#options.machine.folder(this.#options.attempt);
  }

  #marker(): Marker {
    const folder = this.#folder;
    if (folder === undefined || folder.gate === "open") return { kind: "none" };
    if (folder.mark !== undefined) return { kind: "shim", mark: folder.mark };
    return folder.gate === "never" ? { kind: "never", ending: folder.ending } : { kind: "unclear" };
  }

  #exit(): ExitReport | undefined {
    const exit = this.#options.machine.exitOf(this.#options.attempt);
    return exit === undefined ? undefined : { exit, uptimeMs: this.#folder?.exitUptimeMs ?? 0 };
  }

  /** A moment of this process passes; if it dies meanwhile, nothing after it happens. */
  #pass(mostMs: number): Promise<void> {
    const { process, random } = this.#options;
    return new Promise((resolve) => {
      process.schedule(random.skewed(0.05, mostMs), () => {
        if (process.mayAct()) resolve();
      });
    });
  }

  #mayFail(why: string, acts = 1): void {
    const { random, failure } = this.#options;
    if (random.chance(failure / acts)) throw new AppError("internal", why);
  }
}
