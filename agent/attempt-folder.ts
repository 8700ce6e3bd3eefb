// The files of one attempt under <data>/attempts/<id>: script, gate, signature, output, exit. Names and reading only;
// who may do what when is execution.ts's and the shim's work. Invariant: `run` is only ever made, never removed.
import {
  chmodSync,
  closeSync,
  constants,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { AppError, errnoOf } from "../shared/errors.ts";
import { formatPlaces, parsePlaces, type GroupPlace } from "./attempt-cgroup.ts";
import type { EndCause } from "./exit.ts";
import type { AttemptId } from "../shared/ids.ts";
import { attemptIdSchema } from "../shared/ids.ts";
import type { Stream } from "../shared/task.ts";
import type { ExitReport, RelayMark, ShimMark } from "./shim-report.ts";
import { parseExitReport, parseRelayMarks, parseShimMark } from "./shim-report.ts";
import { giveFile, type Owner } from "./owner.ts";

/** Why an attempt never started; it is the result's outcome and reason. */
const neverEndingSchema = z.object({
  outcome: z.enum(["cancelled", "failed", "timed-out"]),
  reason: z.string().max(1_024),
});
export type NeverEnding = z.infer<typeof neverEndingSchema>;

export type Marker =
  | { readonly kind: "none" }
  /** `ending` is missing in a marker of the first versions, which only cancels left. */
  | { readonly kind: "never"; readonly ending: NeverEnding | undefined }
  | { readonly kind: "unclear" }
  | { readonly kind: "shim"; readonly mark: ShimMark };

const endCauses = ["cancelled", "timed-out"] as const satisfies readonly EndCause[];

export class AttemptFolder {
  readonly path: string;
  /** Where the script's own files are: here, or where the user it runs as can get to them. */
  readonly place: string;
  #hasWon = false;

  constructor(options: {
    readonly attemptsPath: string;
    readonly attempt: AttemptId;
    readonly place?: string | undefined;
  }) {
    this.path = join(options.attemptsPath, options.attempt);
    this.place = options.place ?? this.path;
  }

  /** What the names of the stream's segments begin with. */
  stream(stream: Stream): string {
    return join(this.path, stream);
  }

  /** Where the shim looks for the pipes of both streams. */
  get pipes(): readonly string[] {
    return [join(this.path, "pipe.out"), join(this.path, "pipe.err")];
  }

  /** Made by the script that sets output variables. */
  get outputs(): string {
    return join(this.place, "outputs");
  }

  /** Overwritten by the script that says how far it is. Where nothing is watched: said often, it must cost no look. */
  get progress(): string {
    return this.place === this.path ? join(this.path, "run", "progress") : join(this.place, "progress");
  }

  get work(): string {
    return join(this.place, "work");
  }

  /** At once: a handful of small writes takes less than their way through the thread pool, and the start waits for it. */
  write(scriptName: string, script: string): string {
    mkdirSync(this.path, { recursive: true, mode: 0o700 });
    mkdirSync(this.work, { recursive: true, mode: 0o700 });
    const path = join(this.place, scriptName);
    try {
      writeFileSync(path, script, { mode: 0o700, flag: "wx" });
    } catch (cause) {
      if (errnoOf(cause) !== "EEXIST") throw cause;
      // An older shim may be reading it this moment: it keeps its file, a half-written one is replaced.
      writeFileSync(`${path}.new`, script, { mode: 0o700 });
      renameSync(`${path}.new`, path);
    }
    return path;
  }

  /**
   * Near the end of laying out an attempt that runs as another user. The script's folder stays the agent's, so that nothing
   * in it can be exchanged; what is in it becomes the user's. Throws when it is somebody else's already.
   */
  giveTo(owner: Owner, scriptPath: string): void {
    const { uid } = lstatSync(this.work);
    if (uid !== process.getuid?.() && uid !== owner.uid)
      throw new AppError("internal", `the work folder belongs to user id ${uid}`);
    chmodSync(this.place, 0o711);
    for (const path of [this.outputs, this.progress])
      closeSync(openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600));
    for (const path of [this.outputs, this.progress, scriptPath, this.work]) giveFile(path, owner);
  }

  /** Tells the shim that the program runs as a user that was named. */
  markUser(uid: number): void {
    writeFileSync(join(this.path, "owner"), `${uid}\n`);
  }

  /**
   * Tries to win the gate so that the attempt never starts, and leaves there why, for a successor that has to say it.
   * May be called again after it failed: a gate that was won stays won.
   */
  async declareNever(ending: NeverEnding): Promise<"us" | "shim"> {
    const gate = join(this.path, "run");
    if (!this.#hasWon) {
      await mkdir(this.path, { recursive: true, mode: 0o700 });
      try {
        await mkdir(gate, { mode: 0o700 });
      } catch (cause) {
        if (errnoOf(cause) !== "EEXIST") throw cause;
        return this.isDeclaredNever() ? "us" : "shim";
      }
      this.#hasWon = true;
    }
    await writeFile(join(gate, "never.new"), JSON.stringify(ending));
    await rename(join(gate, "never.new"), join(gate, "never"));
    return "us";
  }

  isDeclaredNever(): boolean {
    return exists(join(this.path, "run", "never"));
  }

  marker(): Marker {
    const shim = read(join(this.path, "run", "shim"));
    const mark = shim === undefined ? undefined : parseShimMark(shim);
    if (mark !== undefined) return { kind: "shim", mark };
    const never = read(join(this.path, "run", "never"));
    if (never !== undefined) return { kind: "never", ending: parseNeverEnding(never) };
    return exists(join(this.path, "run")) ? { kind: "unclear" } : { kind: "none" };
  }

  /** The control groups that were made for it. */
  groups(): GroupPlace[] {
    return parsePlaces(read(join(this.path, "cgroup")) ?? "");
  }

  /** Whether the shim put the script into its control group: it writes over the dots when that failed. */
  isGrouped(): boolean {
    return read(join(this.path, "run", "group"))?.startsWith(".") === true;
  }

  writeGroups(places: readonly GroupPlace[]): void {
    writeFileSync(join(this.path, "cgroup.new"), formatPlaces(places));
    renameSync(join(this.path, "cgroup.new"), join(this.path, "cgroup"));
  }

  /** The shim's processes that move the output into its segments. */
  relays(): RelayMark[] {
    return parseRelayMarks(read(join(this.path, "run", "relays")) ?? "");
  }

  /** Whether output found no room on the disk. */
  hasLost(stream: Stream): boolean {
    return exists(`${this.stream(stream)}.lost`);
  }

  /** Output of this stream could not be stored in time, and nobody knows how much. As the relay does it: it costs no room. */
  markLost(stream: Stream): void {
    if (this.hasLost(stream)) return;
    try {
      renameSync(join(this.path, "run", `dd.${stream}`), `${this.stream(stream)}.lost`);
    } catch {
      writeFileSync(`${this.stream(stream)}.lost`, "");
    }
  }

  exit(): ExitReport | undefined {
    const report = this.#exitReport();
    if (report === undefined) return undefined;
    const endedFor = this.endedFor();
    return endedFor === undefined ? report : { ...report, exit: { ...report.exit, endedFor } };
  }

  /** Where it found room for certain, and where shims of earlier versions left it. */
  #exitReport(): ExitReport | undefined {
    return (
      parseExitReport(read(join(this.path, "run", "exit")) ?? "") ??
      parseExitReport(read(join(this.path, "exit")) ?? "")
    );
  }

  /**
   * Written before the first signal, so that a successor does not take the exit that follows for the script's own. Over what
   * the shim prepared, for that needs no room on a full disk; a shim of an earlier version prepared nothing.
   */
  markEnding(cause: EndCause): void {
    if (!exists(this.#endingMark)) {
      writeFileSync(`${this.#endingMark}.new`, cause);
      renameSync(`${this.#endingMark}.new`, this.#endingMark);
      return;
    }
    const file = openSync(this.#endingMark, "r+");
    try {
      writeSync(file, cause, 0);
      ftruncateSync(file, cause.length);
    } finally {
      closeSync(file);
    }
  }

  /** Dots are what was there before; some may stand behind the word when its writer died. */
  endedFor(): EndCause | undefined {
    const said = read(this.#endingMark);
    return said === undefined ? undefined : endCauses.find((cause) => said.startsWith(cause));
  }

  get #endingMark(): string {
    return join(this.path, "run", "ended-for");
  }

  /** The script is over; the shim is writing down how. */
  isConcluding(): boolean {
    const ended = read(join(this.path, "run", "ended"));
    return ended === undefined
      ? exists(join(this.path, "run", "over")) || exists(join(this.path, "exit"))
      : !ended.startsWith(".") || this.#exitReport() !== undefined;
  }

  /** By what the shim left; one that never ran has not. */
  hasFailed(): boolean {
    const exit = this.exit()?.exit;
    const hasSucceeded = exit?.exitCode === 0 && exit.endedFor === undefined;
    return this.marker().kind === "shim" && !hasSucceeded;
  }

  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

/** Ids of the attempts that have a folder. */
export async function listAttemptFolders(attemptsPath: string): Promise<AttemptId[]> {
  const names = await readdir(attemptsPath);
  return names.flatMap((name) => {
    const parsed = attemptIdSchema.safeParse(name);
    return parsed.success ? [parsed.data] : [];
  });
}

function parseNeverEnding(text: string): NeverEnding | undefined {
  try {
    return neverEndingSchema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** Asked many times a second for files that mostly are not there yet: an exception each time would be the dearest part of it. */
function read(path: string): string | undefined {
  if (!exists(path)) return undefined;
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT" || errnoOf(cause) === "ENOTDIR") return undefined;
    throw cause;
  }
}

function exists(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch (cause) {
    if (errnoOf(cause) === "ENOTDIR") return false;
    throw cause;
  }
}
