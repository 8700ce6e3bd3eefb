// Brings a version of the executable from a node into the folder of versions, side by side with the others.
// Invariant: what lies under `versions/` was checked against its SHA-256 and has said its version here; nothing else stays.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Clock } from "../../shared/clock.ts";
import { AppError, describeError } from "../../shared/errors.ts";
import { sha256Hex } from "../../shared/thumbprint.ts";
import { executableName, versionProgram } from "../executable-folder.ts";
import { syncDirectory } from "../journal-disk.ts";

export interface FetchVersionDeps {
  readonly fetch: typeof fetch;
  readonly clock: Pick<Clock, "after">;
}

export interface FetchVersionOptions {
  readonly server: string;
  readonly folder: string;
  /** Of the executable; undefined takes the node's list, which only https vouches for. */
  readonly sha256: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Nothing came for this long. Milliseconds. */
const stallMs = 60_000;
/** Several times what an executable has: a node that sends without end fills no disk. */
const mostBytes = 1024 ** 3;
const listBytes = 64 * 1024;
const sumForm = /^[0-9a-f]{64}$/;

/** Resolves with the version's folder name. Throws `download.untrusted`, `download.unknown`, `cluster.unreachable`, `config.invalid`. */
export async function fetchVersion(deps: FetchVersionDeps, options: FetchVersionOptions): Promise<string> {
  const { folder } = options;
  const file = `holdfast-agent-${process.platform}-${process.arch}`;
  const sha256 = await expectedSum(deps, options, file);
  const short = sha256.slice(0, 12);
  for (const version of await readdir(join(folder, "versions"))) {
    if (version.endsWith(`-${short}`) && (await sumOf(versionProgram(folder, version))) === sha256) return version;
  }
  const work = join(folder, "updating");
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { mode: 0o700 });
  try {
    const path = join(work, "version", executableName);
    await mkdir(dirname(path));
    const seen = await download(deps, `${options.server}/downloads/${file}`, { path, signal: options.signal });
    if (seen.sha256 !== sha256) {
      throw new AppError(
        "download.untrusted",
        `${file} of ${options.server}: expected SHA-256 ${sha256}, saw ${seen.sha256} in ${seen.bytes} bytes`,
      );
    }
    const version = `${await saidVersion(path)}-${short}`;
    const place = dirname(versionProgram(folder, version));
    // One that is there has another sum: it was damaged.
    await rm(place, { recursive: true, force: true });
    await rename(dirname(path), place);
    await syncDirectory(dirname(place));
    return basename(place);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function expectedSum(
  deps: FetchVersionDeps,
  { server, sha256, signal }: FetchVersionOptions,
  file: string,
): Promise<string> {
  if (sha256 !== undefined) {
    const sum = sha256.toLowerCase();
    if (sumForm.test(sum)) return sum;
    throw new AppError("config.invalid", `--sha256: expected 64 hex digits, saw "${sha256}"`);
  }
  if (!server.startsWith("https://")) {
    throw new AppError(
      "config.invalid",
      `${server} is not https, and there is no --sha256: nobody vouches for the download`,
      {
        mend: "Give --sha256 of the executable (the node's operator has it from /downloads/SHA256SUMS), or use https.",
      },
    );
  }
  const parts: Buffer[] = [];
  const take = (part: Buffer): void => void parts.push(part);
  await receive(deps, `${server}/downloads/SHA256SUMS`, { limitBytes: listBytes, take, signal });
  const line = Buffer.concat(parts)
    .toString()
    .split("\n")
    .find((one) => one.slice(66) === file);
  const sum = line?.slice(0, 64) ?? "";
  if (!sumForm.test(sum)) throw new AppError("download.unknown", `${server} serves no ${file}`);
  return sum;
}

async function download(
  deps: FetchVersionDeps,
  url: string,
  { path, signal }: { readonly path: string; readonly signal: AbortSignal | undefined },
): Promise<{ readonly sha256: string; readonly bytes: number }> {
  const handle = await open(path, "wx", 0o755);
  try {
    await handle.chmod(0o755);
    const hash = createHash("sha256");
    let bytes = 0;
    const take = async (part: Buffer): Promise<void> => {
      hash.update(part);
      bytes += part.length;
      await handle.writeFile(part);
    };
    await receive(deps, url, { limitBytes: mostBytes, take, signal });
    await handle.sync();
    return { sha256: hash.digest("hex"), bytes };
  } finally {
    await handle.close();
  }
}

interface Receiving {
  readonly limitBytes: number;
  readonly take: (part: Buffer) => void | Promise<void>;
  readonly signal: AbortSignal | undefined;
}

async function receive(
  { fetch, clock }: FetchVersionDeps,
  url: string,
  { limitBytes, take, signal }: Receiving,
): Promise<void> {
  const stalled = new AbortController();
  const arm = () => clock.after(stallMs, () => stalled.abort(new Error(`nothing came for ${stallMs / 1_000} s`)));
  let timer = arm();
  let left = limitBytes;
  try {
    const both = signal === undefined ? stalled.signal : AbortSignal.any([stalled.signal, signal]);
    const answer = await fetch(url, { signal: both, redirect: "error" });
    if (answer.status !== 200 || answer.body === null) {
      const code = answer.status === 404 ? "download.unknown" : "cluster.unreachable";
      throw new AppError(code, `${url}: expected status 200, saw ${answer.status}`);
    }
    for await (const part of answer.body) {
      timer.cancel();
      timer = arm();
      left -= part.byteLength;
      if (left < 0) throw new AppError("download.untrusted", `${url}: expected at most ${limitBytes} bytes, saw more`);
      await take(Buffer.from(part));
    }
  } catch (cause) {
    if (signal?.aborted === true) throw AppError.from(signal.reason);
    if (cause instanceof AppError) throw cause;
    throw new AppError("cluster.unreachable", `${url}: ${describeError(cause)}`, { cause });
  } finally {
    timer.cancel();
  }
}

async function sumOf(path: string): Promise<string | undefined> {
  try {
    return sha256Hex(await readFile(path));
  } catch {
    return undefined;
  }
}

/** One that does not run here is no version. */
function saidVersion(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(path, ["--version"], { timeout: 30_000 }, (error, out, err) => {
      const version = /^holdfast ([0-9A-Za-z.+-]{1,64})\b/.exec(out)?.[1];
      if (error === null && version !== undefined) return resolve(version);
      const why = error === null ? `it said "${out.slice(0, 200)}"` : (err.trim() || error.message).slice(0, 500);
      reject(new AppError("service.failed", `the new executable does not run here: ${why}`));
    });
  });
}
