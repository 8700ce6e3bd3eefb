// One machine agents run on: boot id, disk, folders of attempts, and the shims and scripts in them, which live on when the
// agent dies and end when the machine loses its power. Stands for attempt-folder.ts, shim.sh and process-tree.ts.
// Invariant: the gate of a folder is won once.
import type { NeverEnding } from "../../agent/attempt-folder.ts";
import type { EndCause, Exit, SeenExit } from "../../agent/exit.ts";
import type { ShimMark } from "../../agent/shim-report.ts";
import type { AttemptId } from "../../shared/ids.ts";
import { streams, type Stream } from "../../shared/task.ts";
import type { NodeList } from "../../shared/wire/nodes.ts";
import { SimDisk } from "./disk.ts";
import type { SeededRandom } from "./kernel/random.ts";
import type { World } from "./kernel/world.ts";
import type { Place } from "./network.ts";
import { readPlan, type ScriptPlan } from "./script.ts";
import type { Truth } from "./truth.ts";

export interface Shim {
  readonly pid: number;
  readonly startTicks: string;
  stage: "spawned" | "gate" | "script" | "writing" | "gone";
  /** The script under it. */
  script: "none" | "running" | "ended";
  child: "none" | "running";
  plan: ScriptPlan;
}

export interface Folder {
  readonly attempt: AttemptId;
  gate: "open" | "won" | "never";
  ending: NeverEnding | undefined;
  mark: ShimMark | undefined;
  readonly size: Record<Stream, number>;
  isOver: boolean;
  /** Why an agent began to end the script, written before its first signal. */
  endedFor: EndCause | undefined;
  exit: Exit | undefined;
  shim: Shim | undefined;
  /** Told of every change; agents that died stay in it and hear nothing. */
  readonly watchers: Set<() => void>;
}

export type RiskyMoment = "written" | "sector-begun" | "script-begins" | "script-signalled";

export interface MachineSnapshot {
  readonly files: ReadonlyMap<string, Buffer>;
  readonly folders: readonly Pick<
    Folder,
    "attempt" | "gate" | "ending" | "mark" | "size" | "isOver" | "endedFor" | "exit"
  >[];
}

export interface MachineOptions {
  /** Longest time until a spawned shim gets to the gate, and from there to its signature. */
  readonly slowestShimMs: number;
  /** Probability that something kills a running script's shim. */
  readonly shimDeath: number;
}

export class Machine {
  readonly place: Place;
  readonly world: World;
  readonly truth: Truth;
  readonly #random: SeededRandom;
  readonly #options: MachineOptions;
  readonly disk: SimDisk;
  folders = new Map<AttemptId, Folder>();
  bootId: string;
  bootedAtMs: number;
  list: NodeList = { version: 0, want: 0, nodes: [] };
  /** Set by whoever plays with its disk: journals it must not be offered anything for. */
  tampering: "none" | "rolled-back" | "clone" | "damaged" = "none";
  /** A person has to look at it: supervisors do not start the agent again. */
  givenUp: string | undefined;
  shimDeath: number;
  /** Told of moments at which a death takes most: of the machine when something is unsynced, of the agent amid a kill. */
  onRisk: (moment: RiskyMoment) => void = () => undefined;
  #pids = 1_000;

  constructor(world: World, truth: Truth, options: MachineOptions & { readonly place: Place }) {
    this.world = world;
    this.truth = truth;
    this.place = options.place;
    this.#options = options;
    this.shimDeath = options.shimDeath;
    this.#random = world.random(`machine ${options.place}`);
    this.disk = new SimDisk(world.random(`disk ${options.place}`));
    this.bootId = this.#random.uuid();
    this.bootedAtMs = world.nowMs;
    this.disk.onWrite = (end) => this.onRisk(end === "sector-begun" ? end : "written");
  }

  get bootMs(): number {
    return 10_000 + this.world.nowMs - this.bootedAtMs;
  }

  folder(attempt: AttemptId): Folder | undefined {
    return this.folders.get(attempt);
  }

  makeFolder(attempt: AttemptId): Folder {
    let folder = this.folders.get(attempt);
    if (folder === undefined) {
      folder = {
        attempt,
        gate: "open",
        ending: undefined,
        mark: undefined,
        size: { out: 0, err: 0 },
        isOver: false,
        endedFor: undefined,
        exit: undefined,
        shim: undefined,
        watchers: new Set(),
      };
      this.folders.set(attempt, folder);
    }
    return folder;
  }

  /** The exit as an agent finds it, with the reason that stands beside it. */
  exitOf(attempt: AttemptId): SeenExit | undefined {
    const { exit, endedFor } = this.folders.get(attempt) ?? {};
    return exit === undefined || endedFor === undefined ? exit : { ...exit, endedFor };
  }

  markEnding(attempt: AttemptId, cause: EndCause): void {
    const folder = this.makeFolder(attempt);
    folder.endedFor ??= cause;
    this.truth.script(attempt, this.place).endedFor ??= cause;
  }

  /** Tries to win the gate so that the attempt never starts. */
  winGate(attempt: AttemptId): "us" | "shim" {
    const folder = this.makeFolder(attempt);
    if (folder.gate === "never") return "us";
    if (folder.gate === "won") return "shim";
    folder.gate = "won";
    this.#changed(folder);
    return "us";
  }

  leaveNever(attempt: AttemptId, ending: NeverEnding): void {
    const folder = this.makeFolder(attempt);
    folder.gate = "never";
    folder.ending = ending;
    this.#changed(folder);
  }

  isAlive(mark: ShimMark): boolean {
    for (const { shim } of this.folders.values())
      if (shim !== undefined && shim.stage !== "gone" && shim.pid === mark.pid && shim.startTicks === mark.startTicks)
        return true;
    return false;
  }

  /** Starts a shim in the attempt's folder; `onEnd` hears its exit code if anybody still listens. */
  spawnShim(attempt: AttemptId, script: string, onEnd: (code: number) => void): void {
    const { world } = this;
    const boot = this.bootId;
    const folder = this.makeFolder(attempt);
    this.#pids += 1;
    const shim: Shim = {
      pid: this.#pids,
      startTicks: String(Math.trunc(this.bootMs / 10)),
      stage: "spawned",
      script: "none",
      child: "none",
      plan: readPlan(script),
    };
    // Several may be on their way to one gate; the one that wins it is the folder's.
    folder.shim ??= shim;
    const others = this.#spawned(attempt);
    others.add(shim);
    const isHere = (): boolean => this.bootId === boot && shim.stage !== "gone";
    const end = (code: number): void => {
      shim.stage = "gone";
      others.delete(shim);
      this.#changed(folder);
      onEnd(code);
    };
    world.schedule(this.#random.skewed(0.5, this.#options.slowestShimMs), () => {
      if (!isHere()) return;
      if (this.folders.get(attempt) !== folder) {
        end(70);
        return;
      }
      if (folder.gate !== "open") {
        end(75);
        return;
      }
      folder.gate = "won";
      folder.shim = shim;
      shim.stage = "gate";
      this.#changed(folder);
      world.schedule(this.#random.skewed(0.1, this.#options.slowestShimMs), () => {
        if (!isHere()) return;
        folder.mark = { pid: shim.pid, startTicks: shim.startTicks, uptimeMs: this.bootMs };
        this.#changed(folder);
        world.schedule(this.#random.skewed(0.2, 20), () => {
          if (isHere()) this.#runScript(folder, shim, end);
        });
      });
    });
  }

  readonly #waiting = new Map<AttemptId, Set<Shim>>();

  #spawned(attempt: AttemptId): Set<Shim> {
    const shims = this.#waiting.get(attempt) ?? new Set();
    this.#waiting.set(attempt, shims);
    return shims;
  }

  #runScript(folder: Folder, shim: Shim, end: (code: number) => void): void {
    const { world } = this;
    const { plan } = shim;
    const boot = this.bootId;
    const truth = this.truth.script(folder.attempt, this.place);
    shim.stage = "script";
    shim.script = "running";
    truth.startsMs.push(world.nowMs);
    truth.isAlive = true;
    world.note(`${this.place} script ${short(folder.attempt)} starts`);
    this.onStart(folder.attempt);
    if (this.disk.isSyncing) this.onRisk("script-begins");
    for (let piece = 1; piece <= plan.pieces; piece += 1) {
      const atMs = plan.pieceMs === undefined ? (plan.runMs * piece) / (plan.pieces + 0.5) : plan.pieceMs * piece;
      world.schedule(atMs, () => {
        if (this.bootId !== boot || shim.script !== "running") return;
        for (const stream of streams) {
          const upTo = Math.floor((plan[stream] * piece) / plan.pieces);
          if (upTo <= folder.size[stream]) continue;
          folder.size[stream] = upTo;
          truth.produced[stream] = Math.max(truth.produced[stream], upTo);
        }
        this.#changed(folder);
      });
    }
    if (this.#random.chance(this.shimDeath)) {
      world.schedule(plan.runMs * this.#random.unit(), () => {
        if (this.bootId !== boot || shim.stage !== "script") return;
        world.note(`${this.place} something kills the tree of ${short(folder.attempt)}`);
        truth.wasSignalled = true;
        shim.script = "ended";
        shim.child = "none";
        truth.isAlive = false;
        // Its number is soon another process's.
        this.recycled.add(shim.pid);
        end(137);
      });
    }
    this.#ends.set(shim, end);
    world.schedule(plan.runMs, () => {
      if (this.bootId === boot && shim.script === "running")
        this.#scriptEnded(folder, shim, { exitCode: plan.exitCode, signal: null });
    });
  }

  /** Process numbers that belong to somebody else by now. */
  readonly recycled = new Set<number>();
  readonly #ends = new Map<Shim, (code: number) => void>();
  onStart: (attempt: AttemptId) => void = () => undefined;
  onExit: (attempt: AttemptId) => void = () => undefined;

  #scriptEnded(folder: Folder, shim: Shim, exit: Exit, by: "itself" | "signal" = "itself"): void {
    const { world } = this;
    const boot = this.bootId;
    const truth = this.truth.script(folder.attempt, this.place);
    shim.script = "ended";
    const leavesChild = by === "itself" && shim.plan.childMs > 0;
    truth.isAlive = leavesChild;
    if (leavesChild) {
      shim.child = "running";
      world.schedule(shim.plan.childMs, () => {
        if (this.bootId !== boot || shim.child !== "running") return;
        shim.child = "none";
        truth.isAlive = false;
      });
    }
    world.schedule(this.#random.skewed(0.2, 5), () => {
      if (this.bootId !== boot || shim.stage === "gone") return;
      folder.isOver = true;
      shim.stage = "writing";
      this.#changed(folder);
      world.schedule(this.#random.skewed(1, 80), () => {
        if (this.bootId !== boot || shim.stage === "gone") return;
        folder.exit = exit;
        truth.exit = exit;
        truth.exitAtMs = world.nowMs;
        world.note(`${this.place} exit of ${short(folder.attempt)}: ${exit.exitCode ?? exit.signal}`);
        this.onExit(folder.attempt);
        this.#ends.get(shim)?.(0);
      });
    });
  }

  /** Whether anything of the attempt's tree lives besides the shim itself. */
  hasTree(attempt: AttemptId): boolean {
    const folder = this.folders.get(attempt);
    const waiting = [...(this.#waiting.get(attempt) ?? [])];
    return (
      [folder?.shim, ...waiting].some(
        (shim) =>
          shim !== undefined &&
          shim.stage !== "gone" &&
          (shim.script === "running" || shim.child === "running" || shim.stage === "spawned" || shim.stage === "gate"),
      ) || folder?.shim?.child === "running"
    );
  }

  /** Whether the script itself runs, or may still begin. */
  hasScript(attempt: AttemptId): boolean {
    const shims = [this.folders.get(attempt)?.shim, ...(this.#waiting.get(attempt) ?? [])];
    return shims.some(
      (shim) =>
        shim !== undefined &&
        shim.stage !== "gone" &&
        (shim.script === "running" || shim.stage === "spawned" || shim.stage === "gate"),
    );
  }

  /** TERM or KILL to everything of the tree but a shim that waits for its script. */
  signalTree(attempt: AttemptId, signal: "SIGTERM" | "SIGKILL"): void {
    const folder = this.folders.get(attempt);
    const truth = this.truth.script(attempt, this.place);
    for (const shim of new Set([folder?.shim, ...(this.#waiting.get(attempt) ?? [])])) {
      if (shim === undefined || folder === undefined) continue;
      if (shim.child === "running") {
        shim.child = "none";
        truth.isAlive = shim.script === "running";
      }
      if (shim.stage === "gone") continue;
      // A shim on its way to the gate, or not yet at its script, has no trap set and dies; it starts nothing then.
      if (shim.stage === "spawned" || shim.stage === "gate") {
        shim.stage = "gone";
        this.#waiting.get(attempt)?.delete(shim);
        this.#changed(folder);
        continue;
      }
      if (shim.script !== "running") continue;
      truth.wasSignalled = true;
      this.onRisk("script-signalled");
      if (signal === "SIGKILL") this.#scriptEnded(folder, shim, { exitCode: null, signal: "SIGKILL" }, "signal");
      else if (shim.plan.onTerm === "die")
        this.#scriptEnded(folder, shim, { exitCode: null, signal: "SIGTERM" }, "signal");
      else if (shim.plan.onTerm !== "ignore") {
        const exitCode = shim.plan.onTerm;
        const boot = this.bootId;
        this.world.schedule(this.#random.between(1, 300), () => {
          if (this.bootId === boot && shim.script === "running")
            this.#scriptEnded(folder, shim, { exitCode, signal: null }, "signal");
        });
      }
    }
  }

  removeFolder(attempt: AttemptId): void {
    this.folders.delete(attempt);
  }

  #changed(folder: Folder): void {
    for (const watcher of folder.watchers) watcher();
  }

  /** Everything running ends; what was not synced may be gone. The agent's process is ended by its owner. */
  losePower(): void {
    this.bootId = this.#random.uuid();
    this.bootedAtMs = this.world.nowMs;
    this.#waiting.clear();
    this.disk.losePower();
    for (const folder of this.folders.values()) {
      const truth = this.truth.scripts.get(folder.attempt);
      const { shim } = folder;
      if (truth !== undefined) {
        truth.isAlive = false;
        truth.wasCutShort ||= truth.exit === undefined || this.world.nowMs - truth.exitAtMs < 5_000;
      }
      folder.watchers.clear();
      if (shim !== undefined) {
        shim.stage = "gone";
        shim.script = shim.script === "none" ? "none" : "ended";
        shim.child = "none";
      }
      if (truth?.wasCutShort === true) {
        // Output and exit are synced before the rename that makes the exit visible; the rename itself is not.
        if (folder.exit === undefined)
          for (const stream of streams) folder.size[stream] = this.#random.below(folder.size[stream] + 1);
        else if (this.#random.chance(0.5)) folder.exit = undefined;
        // The gate is a folder nobody synced.
        if (folder.exit === undefined && this.world.nowMs - (truth.startsMs.at(-1) ?? 0) < 5_000) {
          if (this.#random.chance(0.7)) folder.mark = undefined;
          if (folder.mark === undefined && folder.gate === "won" && this.#random.chance(0.7)) folder.gate = "open";
        }
      } else if (truth === undefined) {
        // Nothing but a gate, perhaps, and no script yet.
        if (folder.gate === "won" && this.#random.chance(0.3)) folder.gate = "open";
        if (folder.gate === "won" && this.#random.chance(0.3)) folder.mark = undefined;
        if (folder.gate === "never" && this.#random.chance(0.2)) {
          folder.gate = this.#random.chance(0.5) ? "won" : "open";
          folder.ending = undefined;
        }
      }
    }
  }

  snapshot(): MachineSnapshot {
    return {
      files: this.disk.snapshot(),
      folders: [...this.folders.values()].map(({ attempt, gate, ending, mark, size, isOver, endedFor, exit }) => ({
        attempt,
        gate,
        ending,
        mark,
        size: { ...size },
        isOver,
        endedFor,
        exit,
      })),
    };
  }

  /** The disk becomes what it was; everything that ran has ended. */
  restore(snapshot: MachineSnapshot): void {
    this.losePower();
    this.disk.restore(snapshot.files);
    this.folders = new Map(
      snapshot.folders.map((folder) => [
        folder.attempt,
        { ...folder, size: { ...folder.size }, shim: undefined, watchers: new Set() },
      ]),
    );
  }

  /** A new disk: nothing of the agent's data is left but its identity. */
  wipe(): void {
    this.restore({ files: new Map(), folders: [] });
    this.list = { version: 0, want: 0, nodes: [] };
  }
}

export function short(id: string): string {
  return id.slice(-6);
}
