// The agent's executables that this node serves, and the installer: which there are, their SHA-256, and the list of both that
// a token's digest is over. Invariant: the bytes given out under a sum are those the sum was taken of, as far as size and
// time of change tell; a file that changed is summed anew.
import { createHash } from "node:crypto";
import { constants, open, readdir, readFile, type FileHandle } from "node:fs/promises";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Downloads, ServedFile, SumList } from "../api/download-routes.ts";
import { listDigestHex } from "../../shared/enrolment-token.ts";
import { describeError, errnoOf } from "../../shared/errors.ts";
import type { Logger } from "../../shared/logger.ts";
import { sha256Hex } from "../../shared/thumbprint.ts";

export const installerName = "install.sh";
/** A platform and an architecture as Node calls them. Nothing else in the folder is served. */
const executableForm = /^holdfast-agent-[a-z0-9]+-[a-z0-9]+(?:\.exe)?$/;
/** More than there are platforms: a folder that is none of ours is not read through. */
const mostExecutables = 32;

interface Known {
  /** Size, time of change and inode: what a replaced file differs in. */
  readonly mark: string;
  readonly sha256: Promise<string>;
}

export class ExecutableFolder implements Downloads {
  readonly #logger: Logger;
  readonly #folder: string | undefined;
  readonly #known = new Map<string, Known>();

  /** `folder` undefined: this node serves none. */
  constructor(deps: { readonly logger: Logger }, options: { readonly folder: string | undefined }) {
    this.#logger = deps.logger;
    this.#folder = options.folder;
  }

  async installer(): Promise<string> {
    return readFile(new URL(installerName, import.meta.url), "utf8");
  }

  /** Undefined when there is no executable: an installer alone would install nothing. */
  async list(): Promise<SumList | undefined> {
    const lines: string[] = [];
    for (const name of await this.#names()) {
      const file = await this.open(name);
      if (file === undefined) continue;
      await file.handle.close();
      lines.push(`${file.sha256}  ${name}\n`);
    }
    if (lines.length === 0) return undefined;
    const installerSha256 = sha256Hex(await this.installer());
    lines.push(`${installerSha256}  ${installerName}\n`);
    const text = lines.join("");
    return { text, digest: sha256Hex(text).slice(0, listDigestHex), installerSha256 };
  }

  async open(name: string): Promise<ServedFile | undefined> {
    if (this.#folder === undefined || !executableForm.test(name)) return undefined;
    let handle: FileHandle;
    try {
      // A link could lead out of the folder, and opening a pipe would wait for a writer.
      handle = await open(join(this.#folder, name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (cause) {
      if (errnoOf(cause) !== "ENOENT") this.#warn(name, cause);
      return undefined;
    }
    try {
      const stat = await handle.stat({ bigint: true });
      if (!stat.isFile()) throw new Error("it is no file");
      const mark = `${stat.size} ${stat.mtimeNs} ${stat.ino}`;
      return { handle, bytes: Number(stat.size), sha256: await this.#sum(name, mark, handle) };
    } catch (cause) {
      await handle.close();
      this.#warn(name, cause);
      return undefined;
    }
  }

  async #names(): Promise<string[]> {
    if (this.#folder === undefined) return [];
    try {
      const names = (await readdir(this.#folder)).filter((name) => executableForm.test(name)).toSorted();
      if (names.length > mostExecutables)
        this.#warn(this.#folder, `more than ${mostExecutables} files: the rest is not listed`);
      return names.slice(0, mostExecutables);
    } catch (cause) {
      if (errnoOf(cause) !== "ENOENT") this.#warn(this.#folder, cause);
      return [];
    }
  }

  /** Asked for by many at once, it is read once. */
  #sum(name: string, mark: string, handle: FileHandle): Promise<string> {
    const known = this.#known.get(name);
    if (known?.mark === mark) return known.sha256;
    const sha256 = sumOf(handle);
    this.#known.set(name, { mark, sha256 });
    sha256.catch(() => this.#known.delete(name));
    return sha256;
  }

  #warn(name: string, cause: unknown): void {
    this.#logger.warn({ folder: this.#folder }, `${name} is not served: ${describeError(cause)}`);
  }
}

async function sumOf(handle: FileHandle): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of handle.createReadStream({ start: 0, autoClose: false, highWaterMark: 1024 * 1024 })) {
    hash.update(chunk as Buffer);
  }
  return hash.digest("hex");
}

/**
 * Where this node's executables lie: the folder that was named, else `agent-executables` in the data directory, else where
 * `npm run build:agent` puts them, beside the compiled agent.
 */
export function executablesFolder(named: string | undefined, dataDirectory: string): string | undefined {
  if (named !== undefined) return named;
  const root = join(import.meta.dirname, "..", "..");
  // The root of a checkout, and `dist` of the package.
  const usual = [join(dataDirectory, "agent-executables"), join(root, "dist", "agent"), join(root, "agent")];
  return usual.find(existsSync);
}
