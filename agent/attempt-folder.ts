// The files of one attempt under <data>/attempts/<id>: script, gate, signature, output, exit. Names and reading only;
// who may do what when is execution.ts's and the shim's work. Invariant: `run` is only ever made, never removed.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { errnoOf } from "../shared/errors.ts";
import { formatPlaces, parsePlaces, type GroupPlace } from "./attempt-cgroup.ts";
import type { EndCause } from "./exit.ts";
import type { AttemptId } from "../shared/ids.ts";
import { attemptIdSchema } from "../shared/ids.ts";
import type { Stream } from "../shared/task.ts";
import type { ExitReport, RelayMark, ShimMark } from "./shim-report.ts";
import { parseExitReport, parseRelayMarks, parseShimMark } from "./shim-report.ts";

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

export class AttemptFolder {
  readonly path: string;
  #hasWon = false;

  constructor(options: { readonly attemptsPath: string; readonly attempt: AttemptId }) {
    this.path = join(options.attemptsPath, options.attempt);
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
    return join(this.path, "outputs");
  }

  /** Overwritten by the script that says how far it is. Where nothing is watched: said often, it must cost no look. */
  get progress(): string {
    return join(this.path, "run", "progress");
  }

  get work(): string {
    return join(this.path, "work");
  }

  /** At once: a handful of small writes takes less than their way through the thread pool, and the start waits for it. */
  write(scriptName: string, script: string): string {
    mkdirSync(this.work, { recursive: true, mode: 0o700 });
    const path = join(this.path, scriptName);
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

  exit(): ExitReport | undefined {
    const report = parseExitReport(read(join(this.path, "exit")) ?? "");
    const endedFor = this.endedFor();
    return report === undefined || endedFor === undefined ? report : { ...report, exit: { ...report.exit, endedFor } };
  }

  /** Written before the first signal, so that a successor does not take the exit that follows for the script's own. */
  markEnding(cause: EndCause): void {
    writeFileSync(join(this.path, "run", "ended-for.new"), cause);
    renameSync(join(this.path, "run", "ended-for.new"), join(this.path, "run", "ended-for"));
  }

  endedFor(): EndCause | undefined {
    const cause = read(join(this.path, "run", "ended-for"));
    return cause === "cancelled" || cause === "timed-out" ? cause : undefined;
  }

  /** The script is over; the shim is writing down how. */
  isConcluding(): boolean {
    return exists(join(this.path, "run", "over")) || exists(join(this.path, "exit"));
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

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT" || errnoOf(cause) === "ENOTDIR") return undefined;
    throw cause;
  }
}

function exists(path: string): boolean {
  try {
    readFileSync(path);
    return true;
  } catch (cause) {
    return errnoOf(cause) === "EISDIR";
  }
}
