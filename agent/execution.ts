// Carries out what the core of one attempt decides: prepares, spawns the shim, follows its files, kills, measures. Leaves
// every decision to attempt.ts and every touch of the machine to the host it is given. Invariant: it survives being created
// from nothing but the folder on disk, and whatever it sees is told as an event, never acted on.
import type { Clock, Timer } from "../shared/clock.ts";
import { AppError, describeError } from "../shared/errors.ts";
import type { AttemptId } from "../shared/ids.ts";
import type { Logger } from "../shared/logger.ts";
import type { ProgressLine } from "../shared/progress-line.ts";
import type { ScriptSpec, Stream } from "../shared/task.ts";
import { streams } from "../shared/task.ts";
import type { AttemptEffect, AttemptEvent, Measurement } from "./attempt.ts";
import type { AttemptFiles, AttemptHost, OutputSpool, ShimEnd } from "./attempt-host.ts";
import type { EndCause } from "./exit.ts";
import { FolderFollower, type Look } from "./folder-follower.ts";
import type { AttemptFacts } from "./journal-record.ts";
import { LastWords } from "./last-words.ts";
import { LogShipper } from "./log-shipper.ts";
import { paceOf } from "./pace.ts";
import type { LogOutlet } from "./log-shipper.ts";
import type { ShimMark } from "./shim-report.ts";
import type { KillDeps, Member, Tree } from "./process-tree.ts";
import { endTree, lingerMs } from "./tree-end.ts";

export interface ExecutionDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onEvent: (event: AttemptEvent) => void;
  /** Every byte was sent through the home that is attached now. */
  readonly onDrained: () => void;
}

export interface ExecutionOptions {
  readonly attempt: AttemptId;
  /** Missing when a damaged journal lost them: then there is only a finished attempt's log to send. */
  readonly facts: AttemptFacts | undefined;
  readonly host: AttemptHost;
  /** How long a shim that won the gate may take to sign. Default 5,000. */
  readonly signMs?: number;
  /** How long killed processes may take to go before they are reported. Default 30,000. */
  readonly verifyMs?: number;
  /** Between two looks at a watched folder in which nothing happens. Default 1,000. */
  readonly slowestPollMs?: number;
}

/** Exit code of the shim when somebody else won the gate. */
const gateLost = 75;
const defaultVerifyMs = 30_000;

export class Execution {
  readonly #deps: ExecutionDeps;
  readonly #options: ExecutionOptions;
  readonly #host: AttemptHost;
  readonly #folder: AttemptFiles;
  readonly #spools: Readonly<Record<Stream, OutputSpool>>;
  readonly #shippers: Readonly<Record<Stream, LogShipper>>;
  readonly #lastWords: LastWords;
  readonly #ended = new AbortController();
  #prepared: Promise<void> | undefined;
  #mark: ShimMark | undefined;
  #phase: "idle" | "following" | "seen-exit" = "idle";
  #followedAtMs = 0;
  readonly #follower: FolderFollower;
  #deadline: Timer | undefined;
  /** Whether the script had ended by itself before anything was signalled; the first kill finds out. */
  #wasOver: boolean | undefined;

  constructor(deps: ExecutionDeps, options: ExecutionOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#host = options.host;
    this.#folder = options.host.folder;
    this.#spools = options.host.output;
    const { clock } = deps;
    const { folder, processes } = options.host;
    const sizeOf = (stream: Stream): number => this.#spools[stream].size;
    this.#lastWords = new LastWords(
      { clock, folder, processes, sizeOf },
      { lingerMs, storeMs: options.verifyMs ?? defaultVerifyMs },
    );
    const { slowestPollMs } = options;
    this.#follower = new FolderFollower(
      {
        clock,
        watch: (onChange) => options.host.watch(onChange),
        onUnwatched: (cause) => deps.logger.debug({ err: cause }, "the attempt's folder cannot be watched"),
        onLook: (look) => this.#look(look),
        size: () => this.#spools.out.size + this.#spools.err.size,
      },
      slowestPollMs === undefined ? {} : { slowestPollMs },
    );
    const shipperOf = (stream: Stream): LogShipper =>
      new LogShipper({
        clock: deps.clock,
        spool: this.#spools[stream],
        pace: paceOf(options.facts, deps.clock.monotonicMs()),
        onDrained: () => {
          if (streams.every((other) => this.#shippers[other].isDrained)) deps.onDrained();
        },
        onError: (cause) =>
          deps.logger.error({ err: cause, stream }, `cannot read the output: ${describeError(cause)}`),
      });
    this.#shippers = { out: shipperOf("out"), err: shipperOf("err") };
  }

  perform(effect: AttemptEffect): Promise<void> {
    switch (effect.kind) {
      case "prepare":
        this.#prepared = this.#host.prepare();
        return this.#prepared;
      case "spawn":
        return this.#spawn();
      case "adopt":
        this.#follow();
        return Promise.resolve();
      case "declare-never":
        return this.#folder.declareNever(effect.ending).then((winner) => this.#deps.onEvent({ kind: "gate", winner }));
      case "arm-deadline":
        this.#armDeadline();
        return Promise.resolve();
      case "kill":
        return this.#kill(effect.cause, effect.graceMs);
      case "sweep":
        return this.#sweep();
      case "measure":
        return this.#measure();
      default:
        return Promise.resolve();
    }
  }

  attach(outlets: Readonly<Record<Stream, LogOutlet>>, from: "start" | "node"): void {
    for (const stream of streams) this.#shippers[stream].attach(outlets[stream], from);
  }

  detach(): void {
    for (const stream of streams) this.#shippers[stream].detach();
  }

  shipper(stream: Stream): LogShipper {
    return this.#shippers[stream];
  }

  progress(): ProgressLine | undefined {
    return this.#host.progress();
  }

  /** For an attempt that finished under an earlier process: its files are as long as its result says. */
  seal(lengths: Readonly<Record<Stream, number>>): void {
    this.#phase = "seen-exit";
    for (const stream of streams) {
      this.#spools[stream].seal(lengths[stream]);
      this.#shippers[stream].seal();
    }
  }

  /** Stops following; the script goes on. */
  async stop(): Promise<void> {
    this.#ended.abort();
    this.#follower.stop();
    this.#deadline?.cancel();
    this.detach();
    for (const stream of streams) {
      await this.#shippers[stream].settle();
      this.#spools[stream].close();
    }
  }

  get #facts(): AttemptFacts & { readonly spec: ScriptSpec } {
    const { attempt, facts } = this.#options;
    if (facts?.spec.kind !== "script") throw new AppError("internal", `attempt ${attempt} has no script to run`);
    return { ...facts, spec: facts.spec };
  }

  async #spawn(): Promise<void> {
    try {
      await this.#prepared;
      await this.#host.spawn((end) => this.#shimEnded(end));
    } catch (cause) {
      this.#deps.onEvent({ kind: "not-started", detail: describeError(cause) });
      return;
    }
    this.#follow();
  }

  #shimEnded(end: ShimEnd): void {
    if (this.#ended.signal.aborted) return;
    if (end.kind === "refused") {
      this.#deps.onEvent({ kind: "not-started", detail: describeError(end.cause) });
      return;
    }
    this.#look("files");
    if (this.#mark !== undefined || this.#phase === "seen-exit") return;
    // An older shim won the gate: it is followed as if it were ours. Anything else never got to its signature.
    if (end.code === gateLost && !this.#folder.isDeclaredNever()) return;
    this.#deps.onEvent({ kind: "not-started", detail: `the shim ended with ${String(end.code)} before it signed` });
  }

  #follow(): void {
    if (this.#phase !== "idle") return;
    this.#phase = "following";
    this.#followedAtMs = this.#deps.clock.monotonicMs();
    this.#follower.start();
  }

  /** Called by timers and file events: what cannot be read now (no descriptor left, a bad block) is read at the next look. */
  #look(look: Look): void {
    if (this.#phase !== "following") return;
    try {
      this.#lookAt(look);
    } catch (cause) {
      this.#deps.logger.warn({ err: cause }, `cannot look at the attempt's files: ${describeError(cause)}`);
    }
  }

  /** What there is to see, in the order in which it comes to be: signature, bytes, exit, death. */
  #lookAt(look: Look): void {
    const hadSigned = this.#mark !== undefined;
    if (!hadSigned) this.#lookForMark();
    for (const stream of streams) this.#grow(stream);
    if (hadSigned && look === "output") return;
    const exit = this.#folder.exit();
    if (exit !== undefined) {
      this.#phase = "seen-exit";
      this.#follower.stop();
      this.#deps.onEvent({ kind: "exited", exit: exit.exit });
      return;
    }
    if (this.#mark === undefined) return;
    if (!this.#host.processes.isAlive(this.#mark)) this.#vanished();
    else if (look === "everything") this.#lastWords.look(this.#mark);
    else if (this.#folder.isConcluding()) this.#follower.hasten();
  }

  #lookForMark(): void {
    const marker = this.#folder.marker();
    if (marker.kind === "shim") {
      this.#mark = marker.mark;
      this.#deps.onEvent({ kind: "started", startedAtMs: this.#startedAtMs(marker.mark) });
      return;
    }
    const waitedMs = this.#deps.clock.monotonicMs() - this.#followedAtMs;
    if (marker.kind === "unclear" && waitedMs > (this.#options.signMs ?? 5_000)) {
      this.#phase = "seen-exit";
      this.#follower.stop();
      this.#deps.onEvent({ kind: "vanished", reason: "shim-never-signed" });
    }
  }

  #grow(stream: Stream): void {
    const spool = this.#spools[stream];
    const before = spool.size;
    if (spool.refresh() > before) this.#shippers[stream].pump();
  }

  /** The shim is dead; its rename of `exit` may have come between our look at the file and at the process. */
  #vanished(): void {
    const exit = this.#folder.exit();
    this.#phase = "seen-exit";
    this.#follower.stop();
    this.#deps.onEvent(
      exit === undefined ? { kind: "vanished", reason: "shim-died" } : { kind: "exited", exit: exit.exit },
    );
  }

  #armDeadline(): void {
    const ranMs = this.#mark === undefined ? 0 : Math.max(0, this.#host.bootMs() - this.#mark.uptimeMs);
    this.#deadline = this.#deps.clock.after(this.#facts.spec.timeoutMs - ranMs, () =>
      this.#deps.onEvent({ kind: "deadline" }),
    );
  }

  /** Ends the tree, unless the script had already ended by itself and nothing was signalled yet: then its exit stands. */
  async #kill(cause: EndCause, graceMs: number): Promise<void> {
    this.#deadline?.cancel();
    let isOurs = this.#folder.endedFor() !== undefined;
    this.#wasOver ??= this.#folder.isConcluding() && !isOurs;
    const beforeFirstSignal = (members: readonly Member[]): void => {
      // Between a script's end and the shim's word of it, only what it left behind is there to be signalled.
      if (!members.some(({ isScript }) => isScript)) return;
      isOurs = true;
      this.#markEnding(cause);
    };
    // What outlived a script that had ended is swept, and says nothing about its end.
    const left = await (this.#wasOver
      ? this.#endTree(0, "killed")
      : this.#endTree(graceMs, "killed", beforeFirstSignal));
    const exit = this.#folder.exit()?.exit;
    this.#phase = "seen-exit";
    this.#follower.stop();
    this.#deps.onEvent(!isOurs && exit !== undefined ? { kind: "outrun", exit, left } : { kind: "killed", exit, left });
  }

  /** Unwritten, the script is ended all the same; only a successor of this very moment would name another reason. */
  #markEnding(cause: EndCause): void {
    try {
      if (this.#folder.endedFor() === undefined) this.#folder.markEnding(cause);
    } catch (failure) {
      this.#deps.logger.warn({ err: failure }, `cannot write down why the script is ended: ${describeError(failure)}`);
    }
  }

  async #sweep(): Promise<void> {
    this.#deadline?.cancel();
    const left = await this.#endTree(0, "swept");
    this.#phase = "seen-exit";
    this.#follower.stop();
    this.#deps.onEvent({ kind: "killed", exit: this.#folder.exit()?.exit, left });
  }

  #endTree(
    graceMs: number,
    ending: Tree["ending"],
    beforeFirstSignal?: KillDeps["beforeFirstSignal"],
  ): Promise<number[]> {
    const { attempt, verifyMs = defaultVerifyMs } = this.#options;
    return endTree(
      { attempt, folder: this.#folder, ending },
      { graceMs, verifyMs },
      {
        clock: this.#deps.clock,
        processes: this.#host.processes,
        signal: this.#ended.signal,
        ...(beforeFirstSignal === undefined ? {} : { beforeFirstSignal }),
      },
    );
  }

  async #measure(): Promise<void> {
    for (const stream of streams) this.#spools[stream].seal();
    const [out, err] = await Promise.all([this.#spools.out.digest(), this.#spools.err.digest()]);
    const report = this.#folder.exit();
    const marker = this.#folder.marker();
    const mark = marker.kind === "shim" ? marker.mark : undefined;
    const nowMs = Math.trunc(this.#deps.clock.wallMs());
    const endUptimeMs = report?.uptimeMs ?? this.#host.bootMs();
    // After a reboot the two clocks have nothing in common.
    const durationMs = mark === undefined ? 0 : Math.max(0, Math.round(endUptimeMs - mark.uptimeMs));
    const startedAtMs = mark === undefined ? null : this.#startedAtMs(mark);
    const { variables, dropped } = this.#host.outputs();
    const outputs = variables.length === 0 ? {} : { outputs: variables };
    const measurement: Measurement = { out, err, durationMs, startedAtMs, finishedAtMs: nowMs, ...outputs };
    for (const stream of streams) this.#shippers[stream].seal();
    const output = streams.some((stream) => this.#folder.hasLost(stream)) ? "lost" : "complete";
    const memory = this.#host.ranOutOfMemory() ? "exceeded" : "kept";
    this.#host.release();
    this.#deps.onEvent({ kind: "measured", measurement, output, memory, droppedOutputs: dropped });
  }

  /** The signature's time on the wall clock. */
  #startedAtMs(mark: ShimMark): number {
    const { clock } = this.#deps;
    const signedAtMs = this.#host.signedAtMs(mark) ?? clock.wallMs() - (this.#host.bootMs() - mark.uptimeMs);
    return Math.max(0, Math.trunc(signedAtMs));
  }
}
