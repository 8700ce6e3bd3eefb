// The driver of one attempt on a simulated machine: what execution.ts is on a real one, with the shipped log shipper on
// spools made of nothing. Whatever it sees is told as an event, never acted on.
import { createHash } from "node:crypto";
import type { AttemptEffect, AttemptEvent, Measurement } from "../../agent/attempt.ts";
import type { ExecutionDeps } from "../../agent/execution.ts";
import type { EndCause } from "../../agent/exit.ts";
import type { AttemptFacts } from "../../agent/journal-record.ts";
import { LogShipper, type LogOutlet } from "../../agent/log-shipper.ts";
import type { ShimMark } from "../../agent/shim-report.ts";
import type { AttemptExecution } from "../../agent/site.ts";
import { AppError } from "../../shared/errors.ts";
import type { AttemptId } from "../../shared/ids.ts";
import { streams, type Stream } from "../../shared/task.ts";
import { logFrameBytes } from "../../shared/wire/fields.ts";
import type { LogContent } from "../../shared/wire/log.ts";
import type { SimProcess } from "./kernel/process.ts";
import type { SeededRandom } from "./kernel/random.ts";
import type { Machine } from "./machine.ts";
import { bytesAt } from "./script.ts";

export interface SpoolBounds {
  readonly headBytes: number;
  readonly tailBytes: number;
}

export interface SimExecutionOptions {
  readonly attempt: AttemptId;
  readonly facts: AttemptFacts | undefined;
  readonly machine: Machine;
  readonly process: SimProcess;
  readonly random: SeededRandom;
  readonly bounds: SpoolBounds;
  /** Probability that an act fails for want of a descriptor and has to be repeated. */
  readonly failure: number;
}

const signMs = 5_000;

/** One output file: its length is the machine's, its bytes a function, its middle punched out beyond head and tail. */
class SimSpool {
  readonly #options: SimExecutionOptions;
  readonly #stream: Stream;
  #end: number | undefined;
  #size = 0;
  #holeEnd = 0;

  constructor(options: SimExecutionOptions, stream: Stream) {
    this.#options = options;
    this.#stream = stream;
  }

  get size(): number {
    return this.#end ?? this.#size;
  }

  refresh(): number {
    if (this.#end !== undefined) return this.#end;
    const { machine, attempt, bounds } = this.#options;
    this.#size = machine.folder(attempt)?.size[this.#stream] ?? 0;
    const to = this.#size - bounds.tailBytes;
    if (to - Math.max(bounds.headBytes, this.#holeEnd) > bounds.tailBytes / 2) {
      this.#holeEnd = to;
      machine.truth.script(attempt, machine.place).isPunched = true;
    }
    return this.#size;
  }

  seal(length?: number): number {
    this.refresh();
    this.#end ??= length ?? this.#size;
    return this.#end;
  }

  async piece(offset: number, most: number): Promise<LogContent | undefined> {
    const { attempt, bounds, process, random } = this.#options;
    await new Promise<void>((resolve) => process.schedule(random.skewed(0.02, 2), resolve));
    if (offset >= bounds.headBytes && offset < this.#holeEnd)
      return { omitted: Math.min(this.#holeEnd, this.size) - offset };
    const end = offset < bounds.headBytes && this.#holeEnd > bounds.headBytes ? bounds.headBytes : this.size;
    const count = Math.min(most, logFrameBytes, end - offset);
    if (count <= 0) return undefined;
    // Power loss took what was never synced: a sealed stream may be longer than its file.
    const there = this.#options.machine.folder(attempt)?.size[this.#stream] ?? 0;
    if (offset >= there) return { omitted: this.size - offset };
    const length = Math.min(count, there - offset);
    return { bytes: bytesAt({ attempt, stream: this.#stream }, offset, length) };
  }

  digest(): { readonly length: number; readonly sha256: string } {
    const length = this.seal();
    const { attempt } = this.#options;
    const { headBytes } = this.#options.bounds;
    const hash = createHash("sha256");
    const place = { attempt, stream: this.#stream };
    if (this.#holeEnd > headBytes) {
      hash.update(bytesAt(place, 0, headBytes));
      hash.update(bytesAt(place, this.#holeEnd, length - this.#holeEnd));
    } else hash.update(bytesAt(place, 0, length));
    return { length, sha256: hash.digest("hex") };
  }
}

export class SimExecution implements AttemptExecution {
  readonly #deps: ExecutionDeps;
  readonly #options: SimExecutionOptions;
  readonly #spools: Readonly<Record<Stream, SimSpool>>;
  readonly #shippers: Readonly<Record<Stream, LogShipper>>;
  readonly #ended = new AbortController();
  #phase: "idle" | "following" | "seen-exit" = "idle";
  #mark: ShimMark | undefined;
  #followedAtMs = 0;
  #looking: { cancel(): void } | undefined;
  #deadline: { cancel(): void } | undefined;
  #wasOver = false;
  #hasSignalled = false;
  readonly #noticed = (): void => this.#lookSoon();

  constructor(deps: ExecutionDeps, options: SimExecutionOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#spools = { out: new SimSpool(options, "out"), err: new SimSpool(options, "err") };
    const shipperOf = (stream: Stream): LogShipper =>
      new LogShipper({
        clock: deps.clock,
        spool: this.#spools[stream],
        onDrained: () => {
          if (streams.every((other) => this.#shippers[other].isDrained)) deps.onDrained();
        },
        onError: (cause) => options.process.world.fail(cause),
      });
    this.#shippers = { out: shipperOf("out"), err: shipperOf("err") };
  }

  async perform(effect: AttemptEffect): Promise<void> {
    const { machine, attempt, process, random, failure } = this.#options;
    if (!process.mayAct()) return this.#never();
    switch (effect.kind) {
      case "prepare":
        await this.#pass(2);
        machine.makeFolder(attempt);
        return;
      case "spawn":
        return this.#spawn();
      case "adopt":
        this.#follow();
        return;
      case "declare-never": {
        await this.#pass(3);
        if (random.chance(failure)) throw new AppError("internal", "out of descriptors");
        const winner = machine.winGate(attempt);
        if (winner === "us") {
          // The marker is a write of its own: who dies here leaves a gate that nobody signed.
          await this.#pass(3);
          machine.leaveNever(attempt, effect.ending);
        }
        await this.#pass(1);
        this.#post({ kind: "gate", winner });
        return;
      }
      case "arm-deadline":
        this.#armDeadline();
        return;
      case "kill":
        return this.#kill(effect.cause, effect.graceMs);
      case "sweep":
        return this.#sweep();
      case "measure":
        return this.#measure();
      default:
        return;
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

  seal(lengths: Readonly<Record<Stream, number>>): void {
    this.#phase = "seen-exit";
    for (const stream of streams) {
      this.#spools[stream].seal(lengths[stream]);
      this.#shippers[stream].seal();
    }
  }

  async stop(): Promise<void> {
    this.#ended.abort();
    this.#unfollow();
    this.#deadline?.cancel();
    this.detach();
    for (const stream of streams) await this.#shippers[stream].settle();
  }

  #post(event: AttemptEvent): void {
    if (!this.#ended.signal.aborted) this.#deps.onEvent(event);
  }

  #never(): Promise<void> {
    return new Promise(() => undefined);
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

  async #spawn(): Promise<void> {
    const { machine, attempt, facts, process, random, failure } = this.#options;
    if (facts?.spec.kind !== "script") throw new AppError("internal", "no script to run");
    await this.#pass(4);
    if (random.chance(failure)) {
      this.#post({ kind: "not-started", detail: "fork refused" });
      return;
    }
    machine.spawnShim(attempt, facts.spec.script, (code) => {
      process.schedule(random.skewed(0.1, 10), () => this.#shimEnded(code));
    });
    this.#follow();
  }

  #shimEnded(code: number): void {
    if (this.#ended.signal.aborted) return;
    this.#look();
    if (this.#mark !== undefined || this.#phase === "seen-exit") return;
    if (code === 75 && this.#options.machine.folder(this.#options.attempt)?.gate !== "never") return;
    this.#post({ kind: "not-started", detail: `the shim ended with ${code} before it signed` });
  }

  #follow(): void {
    if (this.#phase !== "idle") return;
    this.#phase = "following";
    this.#followedAtMs = this.#deps.clock.monotonicMs();
    const { machine, attempt } = this.#options;
    machine.folder(attempt)?.watchers.add(this.#noticed);
    this.#look();
    this.#poll();
  }

  /** File events come soon or, when watching failed, with the next poll. */
  #lookSoon(): void {
    if (this.#looking !== undefined || this.#phase !== "following") return;
    const { process, random } = this.#options;
    this.#looking = process.schedule(random.skewed(0.1, 250), () => {
      this.#looking = undefined;
      this.#look();
    });
  }

  #poll(): void {
    this.#options.process.schedule(2_000, () => {
      if (this.#phase !== "following") return;
      this.#look();
      this.#poll();
    });
  }

  #look(): void {
    if (this.#phase !== "following") return;
    const { machine, attempt } = this.#options;
    const folder = machine.folder(attempt);
    if (folder === undefined) return;
    if (this.#mark === undefined && folder.mark !== undefined) {
      this.#mark = folder.mark;
      this.#post({ kind: "started", startedAtMs: Math.trunc(this.#deps.clock.wallMs()) });
    }
    const waitedMs = this.#deps.clock.monotonicMs() - this.#followedAtMs;
    if (this.#mark === undefined && folder.gate === "won" && waitedMs > signMs && folder.exit === undefined) {
      this.#unfollow();
      this.#post({ kind: "vanished", reason: "shim-never-signed" });
      return;
    }
    for (const stream of streams) {
      const before = this.#spools[stream].size;
      if (this.#spools[stream].refresh() > before) this.#shippers[stream].pump();
    }
    const exit = machine.exitOf(attempt);
    if (exit !== undefined) {
      this.#unfollow();
      this.#post({ kind: "exited", exit });
    } else if (this.#mark !== undefined && !machine.isAlive(this.#mark)) {
      this.#unfollow();
      this.#post({ kind: "vanished", reason: "shim-died" });
    }
  }

  #unfollow(): void {
    this.#phase = "seen-exit";
    this.#looking?.cancel();
    const { machine, attempt } = this.#options;
    machine.folder(attempt)?.watchers.delete(this.#noticed);
  }

  #armDeadline(): void {
    const { machine, facts } = this.#options;
    if (facts?.spec.kind !== "script") return;
    const ranMs = this.#mark === undefined ? 0 : Math.max(0, machine.bootMs - this.#mark.uptimeMs);
    this.#deadline = this.#deps.clock.after(Math.max(0, facts.spec.timeoutMs - ranMs), () =>
      this.#post({ kind: "deadline" }),
    );
  }

  async #kill(cause: EndCause, graceMs: number): Promise<void> {
    this.#deadline?.cancel();
    const { machine, attempt } = this.#options;
    await this.#endTree(graceMs, cause);
    const isOurs = machine.folder(attempt)?.endedFor !== undefined;
    const exit = machine.folder(attempt)?.exit;
    this.#unfollow();
    this.#post(!isOurs && exit !== undefined ? { kind: "outrun", exit, left: [] } : { kind: "killed", exit, left: [] });
  }

  async #sweep(): Promise<void> {
    this.#deadline?.cancel();
    await this.#endTree(0);
    this.#unfollow();
    this.#post({ kind: "killed", exit: this.#options.machine.exitOf(this.#options.attempt), left: [] });
  }

  /** With a cause, it is written down before the first signal to a script that still runs. */
  async #endTree(graceMs: number, cause?: EndCause): Promise<void> {
    const { machine, attempt, random, failure } = this.#options;
    const { clock } = this.#deps;
    await this.#pass(3);
    if (random.chance(failure)) throw new AppError("internal", "out of descriptors");
    // Whether the script was over is settled by the moment of the first signal, not by an earlier look.
    if (!this.#hasSignalled) this.#wasOver = !machine.hasScript(attempt);
    const untilMs = clock.monotonicMs() + (this.#wasOver ? 0 : graceMs);
    if (machine.hasTree(attempt)) {
      if (cause !== undefined && !this.#hasSignalled && !this.#wasOver) machine.markEnding(attempt, cause);
      this.#hasSignalled = true;
      machine.signalTree(attempt, this.#wasOver || graceMs === 0 ? "SIGKILL" : "SIGTERM");
    }
    while (machine.hasTree(attempt)) {
      await clock.sleep(50, this.#ended.signal);
      if (clock.monotonicMs() >= untilMs && machine.hasTree(attempt)) machine.signalTree(attempt, "SIGKILL");
    }
    const folder = machine.folder(attempt);
    while (folder?.exit === undefined && folder?.mark !== undefined && machine.isAlive(folder.mark))
      await clock.sleep(5, this.#ended.signal);
  }

  async #measure(): Promise<void> {
    await this.#pass(2);
    const { machine, attempt } = this.#options;
    for (const stream of streams) this.#spools[stream].seal();
    const mark = machine.folder(attempt)?.mark;
    const nowMs = Math.trunc(this.#deps.clock.wallMs());
    const measurement: Measurement = {
      out: this.#spools.out.digest(),
      err: this.#spools.err.digest(),
      durationMs: mark === undefined ? 0 : Math.max(0, Math.round(machine.bootMs - mark.uptimeMs)),
      startedAtMs: mark === undefined ? null : nowMs,
      finishedAtMs: nowMs,
    };
    for (const stream of streams) this.#shippers[stream].seal();
    this.#post({ kind: "measured", measurement, output: "complete" });
  }
}
