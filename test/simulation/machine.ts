// One machine agents run on: boot id, disk, folders of attempts; what runs in them is processes.ts's. Stands for
// attempt-folder.ts. Invariant: the gate of a folder is won once.
import type { NeverEnding } from "../../agent/attempt-folder.ts";
import type { EndCause, Exit, SeenExit } from "../../agent/exit.ts";
import type { RelayMark, ShimMark } from "../../agent/shim-report.ts";
import type { AttemptId } from "../../shared/ids.ts";
import { streams, type Stream } from "../../shared/task.ts";
import type { NodeList } from "../../shared/wire/nodes.ts";
import { SimDisk } from "./disk.ts";
import type { SeededRandom } from "./kernel/random.ts";
import type { World } from "./kernel/world.ts";
import type { Place } from "./network.ts";
import { Processes, type ProcessesOptions, type Shim } from "./processes.ts";
import type { Truth } from "./truth.ts";

export interface Folder {
  readonly attempt: AttemptId;
  gate: "open" | "won" | "never";
  ending: NeverEnding | undefined;
  mark: ShimMark | undefined;
  /** Named by the shim a moment after its script began. */
  relays: readonly RelayMark[];
  readonly size: Record<Stream, number>;
  isOver: boolean;
  /** Why an agent began to end the script, written before its first signal. */
  endedFor: EndCause | undefined;
  exit: Exit | undefined;
  exitUptimeMs: number;
  /** The one that won the gate, or the first on its way to it. */
  shim: Shim | undefined;
  /** Told of every change; agents that died stay in it and hear nothing. */
  readonly watchers: Set<() => void>;
}

export type RiskyMoment = "file-made" | "written" | "sector-begun" | "script-begins" | "script-signalled";

export interface MachineSnapshot {
  readonly files: ReadonlyMap<string, Buffer>;
  readonly folders: readonly Pick<
    Folder,
    "attempt" | "gate" | "ending" | "mark" | "relays" | "size" | "isOver" | "endedFor" | "exit" | "exitUptimeMs"
  >[];
}

export interface MachineOptions extends ProcessesOptions {
  readonly place: Place;
}

export class Machine {
  readonly place: Place;
  readonly world: World;
  readonly truth: Truth;
  readonly #random: SeededRandom;
  readonly processes: Processes;
  readonly disk: SimDisk;
  folders = new Map<AttemptId, Folder>();
  bootId: string;
  bootedAtMs: number;
  list: NodeList = { version: 0, want: 0, nodes: [] };
  /** Set by whoever plays with its disk: journals it must not be offered anything for. */
  tampering: "none" | "rolled-back" | "clone" | "damaged" = "none";
  /** A person has to look at it: supervisors do not start the agent again. */
  givenUp: string | undefined;
  /** Told of moments at which a death takes most: of the machine when something is unsynced, of the agent amid a kill. */
  onRisk: (moment: RiskyMoment) => void = () => undefined;

  constructor(world: World, truth: Truth, options: MachineOptions) {
    this.world = world;
    this.truth = truth;
    this.place = options.place;
    this.#random = world.random(`machine ${options.place}`);
    this.disk = new SimDisk(world.random(`disk ${options.place}`));
    this.bootId = this.#random.uuid();
    this.bootedAtMs = world.nowMs;
    this.processes = new Processes(this, options);
    this.disk.onMake = () => this.onRisk("file-made");
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
        relays: [],
        size: { out: 0, err: 0 },
        isOver: false,
        endedFor: undefined,
        exit: undefined,
        exitUptimeMs: 0,
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
    const truth = this.truth.script(attempt, this.place);
    if (truth.endedFor === undefined) truth.wasRunningThen = folder.shim?.script === "running";
    truth.endedFor ??= cause;
  }

  /** Tries to win the gate so that the attempt never starts. */
  winGate(attempt: AttemptId): "us" | "shim" {
    const folder = this.makeFolder(attempt);
    if (folder.gate === "never") return "us";
    if (folder.gate === "won") return "shim";
    folder.gate = "won";
    this.truth.hindered.add(attempt);
    this.changed(folder);
    return "us";
  }

  leaveNever(attempt: AttemptId, ending: NeverEnding): void {
    const folder = this.makeFolder(attempt);
    folder.gate = "never";
    folder.ending = ending;
    this.changed(folder);
  }

  removeFolder(attempt: AttemptId): void {
    this.folders.delete(attempt);
  }

  changed(folder: Folder): void {
    for (const watcher of folder.watchers) watcher();
  }

  /** Everything running ends; what was not synced may be gone. The agent's process is ended by its owner. */
  losePower(): void {
    this.bootId = this.#random.uuid();
    this.bootedAtMs = this.world.nowMs;
    this.processes.losePower();
    this.disk.losePower();
    for (const folder of this.folders.values()) {
      const truth = this.truth.scripts.get(folder.attempt);
      if (truth !== undefined) {
        truth.isAlive = false;
        truth.wasCutShort ||= truth.exit === undefined || this.world.nowMs - truth.exitAtMs < 5_000;
      }
      folder.watchers.clear();
      if (truth?.wasCutShort === true) {
        // Output and exit are synced before the rename that makes the exit visible; the rename itself is not.
        if (folder.exit === undefined)
          for (const stream of streams) folder.size[stream] = this.#random.below(folder.size[stream] + 1);
        else if (this.#random.chance(0.5)) folder.exit = undefined;
        // The gate is a folder nobody synced, and most disks write such a thing down once in five seconds.
        const ageMs = this.world.nowMs - (truth.startsMs.at(-1) ?? 0);
        const isLost = (): boolean => this.#random.chance(ageMs < 100 ? 0.95 : 0.7);
        if (folder.exit === undefined && ageMs < 5_000) {
          if (isLost()) {
            folder.mark = undefined;
            folder.relays = [];
          }
          if (folder.mark === undefined && folder.gate === "won" && isLost()) folder.gate = "open";
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
      folders: [...this.folders.values()].map(({ shim: _shim, watchers: _watchers, ...folder }) => ({
        ...folder,
        size: { ...folder.size },
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
