// The hole in the middle of one output file: its marker on disk and the punching itself. Leaves when and where to spool.ts.
// Invariant: the marker is replaced as a whole and synced before a byte goes, so that a successor, whatever killed us,
// never takes the zeros of a hole for output.
import { spawn } from "node:child_process";
import { constants, readFileSync, writeFileSync } from "node:fs";
import { open, rename } from "node:fs/promises";
import { errnoOf } from "../shared/errors.ts";

/** What became of one attempt to punch. After `unclear` the range may hold zeros, after `refused` it holds its bytes. */
export type PunchOutcome =
  | { readonly kind: "punched" }
  | { readonly kind: "refused"; readonly why: string }
  | { readonly kind: "unclear"; readonly why: string };

export type PunchHole = (path: string, offset: number, length: number) => Promise<PunchOutcome>;

/** One length for every marker: a spare is overwritten in place, which needs no room on a full disk. */
const markerBytes = 32;
const blank = `${" ".repeat(markerBytes - 1)}\n`;
/** A punch takes milliseconds; one that hangs on a broken disk must not hold up a result for longer than this. */
const punchMs = 10_000;

/** Where the hole ends; 0 without one. */
export function readHole(path: string): number {
  try {
    const end = Number(readFileSync(`${path}.hole`, "utf8"));
    return Number.isSafeInteger(end) ? end : 0;
  } catch {
    return 0;
  }
}

export async function writeHole(path: string, end: number): Promise<void> {
  await writeSpare(path, `${end}`, "sync");
  await rename(`${path}.hole.new`, `${path}.hole`);
}

/** The first spare, before the script can fill the disk: at once, for it may do so within milliseconds. */
export function reserveFirstHole(path: string): void {
  try {
    writeFileSync(`${path}.hole.new`, blank, { mode: 0o600 });
  } catch {
    // No room even for this: the marker is tried again when there is something to punch.
  }
}

/** Takes the room of the next marker while there is some: it is the full disk on which the hole is needed most. */
export async function reserveHole(path: string): Promise<void> {
  await writeSpare(path, "", "no-sync");
}

/** The file alone is synced: a file system that journals keeps the rename before the punch that follows it. */
async function writeSpare(path: string, text: string, durability: "sync" | "no-sync"): Promise<void> {
  // Neither truncated nor replaced, so that the spare's room stays taken.
  const handle = await open(`${path}.hole.new`, constants.O_WRONLY | constants.O_CREAT, 0o600);
  try {
    await handle.write(Buffer.from(`${text.padEnd(markerBytes - 1)}\n`), 0, markerBytes, 0);
    if (durability === "sync") await handle.datasync();
  } finally {
    await handle.close();
  }
}

/** Node has no fallocate; the program of util-linux (and busybox) costs about 1 ms. */
export function punchHole(path: string, offset: number, length: number): Promise<PunchOutcome> {
  return new Promise((resolve) => {
    const args = ["--punch-hole", "--keep-size", "--offset", String(offset), "--length", String(length), path];
    const child = spawn("fallocate", args, { stdio: "ignore", timeout: punchMs, killSignal: "SIGKILL" });
    child.on("error", (cause) => resolve({ kind: "refused", why: `fallocate: ${errnoOf(cause) ?? cause.message}` }));
    child.on("exit", (code, signal) => {
      if (code === 0) resolve({ kind: "punched" });
      // It makes one system call and then ends: a code says that the kernel refused it as a whole.
      else if (code !== null) resolve({ kind: "refused", why: `fallocate ended with ${code}` });
      else resolve({ kind: "unclear", why: `fallocate was ended by ${signal}` });
    });
  });
}
