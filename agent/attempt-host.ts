// What carrying out one attempt asks of the machine it runs on: the attempt's folder, its output, its shim and processes,
// the time since boot. One interface, so that the simulator runs the shipped execution on a machine of its own.
import type { ProgressLine } from "../shared/progress-line.ts";
import type { Stream } from "../shared/task.ts";
import type { AttemptFolder } from "./attempt-folder.ts";
import type { ScriptOutputs } from "./output-variables.ts";
import type { ProcessControl } from "./process-tree.ts";
import type { ShimMark } from "./shim-report.ts";
import type { Spool } from "./spool.ts";

/** How a shim's process ended: with an exit code, by a signal (null), or without ever having begun. */
export type ShimEnd =
  { readonly kind: "exited"; readonly code: number | null } | { readonly kind: "refused"; readonly cause: unknown };

export type AttemptFiles = Pick<
  AttemptFolder,
  | "marker"
  | "exit"
  | "endedFor"
  | "markEnding"
  | "isConcluding"
  | "isDeclaredNever"
  | "declareNever"
  | "hasLost"
  | "markLost"
  | "relays"
>;

export type OutputSpool = Pick<Spool, "size" | "refresh" | "seal" | "piece" | "digest" | "close">;

export interface FolderWatch {
  close(): void;
}

export interface AttemptHost {
  readonly folder: AttemptFiles;
  readonly output: Readonly<Record<Stream, OutputSpool>>;
  readonly processes: ProcessControl;
  /** Milliseconds since boot, suspend included. */
  bootMs(): number;
  /** Writes the folder that the shim will find. */
  prepare(): Promise<void>;
  /** Starts the shim, which tries the gate by itself. Rejects when the system refuses at once. */
  spawn(onEnd: (end: ShimEnd) => void): Promise<void>;
  /** Tells of changes in the folder, by name where that is known, some of them late or never. Throws when it cannot be watched. */
  watch(onChange: (name?: string) => void): FolderWatch;
  /** When the shim signed, by the calendar. */
  signedAtMs(mark: ShimMark): number | undefined;
  /** Whether the kernel killed something of it for want of memory. */
  ranOutOfMemory(): boolean;
  /** The output variables that the script has set. */
  outputs(): ScriptOutputs;
  /** How far the script says it is; undefined when it says nothing that can be read. */
  progress(): ProgressLine | undefined;
  /** Nothing of it lives any more: gives back what stood outside its folder, secrets in files among it. */
  release(): void;
}
