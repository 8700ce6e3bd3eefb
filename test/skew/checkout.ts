// An earlier version of this repository, unpacked beside today's dependencies, to be run as it was. Only the number in its
// package.json is another one: both would call themselves alike. A clone that lacks the commit fails, and says so:
// versions that were not run against each other are not known to fit.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { PreviousVersion } from "./previous.ts";

const run = promisify(execFile);
const root = join(import.meta.dirname, "..", "..");
/** What its programs are made of, and its wire samples. */
const parts = ["agent", "bin", "certs", "cli", "sdk", "server", "shared", "test/surface/wire", "package.json"];

export interface Checkout extends AsyncDisposable {
  readonly root: string;
  /** As it calls itself here. */
  readonly version: string;
}

/** A clone may have been made without its history: then it is asked for. */
async function fetchIfShallow(commit: string): Promise<void> {
  const isThere = await run("git", ["-C", root, "cat-file", "-e", commit]).then(
    () => true,
    () => false,
  );
  if (!isThere) await run("git", ["-C", root, "fetch", "--unshallow", "--quiet"]);
}

export async function checkOut({ commit, title }: PreviousVersion): Promise<Checkout> {
  const folder = await mkdtemp(join(tmpdir(), "holdfast-skew-"));
  const tarball = join(folder, "version.tar");
  try {
    await fetchIfShallow(commit);
    await run("git", ["-C", root, "archive", "--output", tarball, commit, ...parts]);
  } catch (cause) {
    await rm(folder, { recursive: true, force: true });
    throw new Error(
      `the version "${title}" is not in this clone: git archive ${commit} failed. These tests need the history: git fetch --unshallow`,
      { cause },
    );
  }
  await run("tar", ["-xf", tarball, "-C", folder]);
  await rm(tarball);
  await symlink(join(root, "node_modules"), join(folder, "node_modules"));
  const version = `0.0.0-${commit.slice(0, 7)}`;
  const manifest = join(folder, "package.json");
  const { version: _, ...rest } = JSON.parse(await readFile(manifest, "utf8")) as Record<string, unknown>;
  await writeFile(manifest, JSON.stringify({ ...rest, version }));
  return {
    root: folder,
    version,
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}
