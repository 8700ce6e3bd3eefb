// The machine a service is installed on: files, accounts and systemctl, of this machine or of one whose root is a folder here
// (an image, a chroot). The only place of the installation that touches them.
import { spawn } from "node:child_process";
import { chmod, chown, mkdir, readFile, realpath, rm, stat } from "node:fs/promises";
import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { AppError, describeError, errnoOf } from "../../shared/errors.ts";
import { isPacked } from "../../shared/packed.ts";
import { replaceFile } from "../durable-file.ts";
import { stableProgram } from "../executable-folder.ts";
import type { Account } from "./plan.ts";

export interface Outcome {
  readonly exitCode: number;
  readonly out: string;
  readonly err: string;
}

export interface ServiceHost {
  readonly platform: string;
  /** `live`: a running systemd looks after these files. `offline`: files only. `none`: neither, as in most containers. */
  readonly manager: "live" | "offline" | "none";
  readonly isRoot: boolean;
  readText(path: string): Promise<string | undefined>;
  writeText(path: string, text: string): Promise<void>;
  folder(path: string): Promise<{ readonly userId: number; readonly mode: number } | undefined>;
  makeFolder(path: string, owner: Account): Promise<void>;
  changeMode(path: string, mode: number): Promise<void>;
  remove(path: string): Promise<void>;
  /** Where the path really is. */
  at(path: string): string;
  account(user: string): Promise<Account | undefined>;
  /** The file or folder on the way to `path` that others than root may change. */
  changeableBy(path: string): Promise<string | undefined>;
  /** Never throws for what the program answers; `service.unsupported` when there is no such program. */
  run(program: "systemctl" | "useradd" | "chown", words: readonly string[]): Promise<Outcome>;
}

export class SystemHost implements ServiceHost {
  readonly platform = process.platform;
  readonly isRoot = process.getuid?.() === 0;
  readonly #root: string | undefined;

  /** `root`: the folder that is `/` for everything here; undefined is this machine. */
  constructor(options: { readonly root?: string | undefined } = {}) {
    this.#root = options.root === undefined ? undefined : resolve(options.root);
  }

  get manager(): ServiceHost["manager"] {
    if (this.#root !== undefined) return "offline";
    // What sd_booted(3) looks at.
    return existsSync("/run/systemd/system") ? "live" : "none";
  }

  at(path: string): string {
    return this.#root === undefined ? path : join(this.#root, path);
  }

  async readText(path: string): Promise<string | undefined> {
    return orAbsent(() => readFile(this.at(path), "utf8"));
  }

  async writeText(path: string, text: string): Promise<void> {
    await mkdir(dirname(this.at(path)), { recursive: true });
    await replaceFile(this.at(path), text, 0o644);
  }

  async folder(path: string): Promise<{ readonly userId: number; readonly mode: number } | undefined> {
    const found = await orAbsent(() => stat(this.at(path)));
    if (found === undefined) return undefined;
    if (!found.isDirectory()) throw new AppError("config.invalid", `${path} is no folder`);
    return { userId: found.uid, mode: found.mode & 0o777 };
  }

  async makeFolder(path: string, { userId, groupId }: Account): Promise<void> {
    // Its parents are passed through by every user; only the folder itself is closed.
    await mkdir(dirname(this.at(path)), { recursive: true, mode: 0o755 });
    await mkdir(this.at(path), { mode: 0o700 });
    if (userId !== process.getuid?.()) await chown(this.at(path), userId, groupId);
  }

  async changeMode(path: string, mode: number): Promise<void> {
    await chmod(this.at(path), mode);
  }

  async remove(path: string): Promise<void> {
    await rm(this.at(path), { recursive: true, force: true });
  }

  async account(user: string): Promise<Account | undefined> {
    if (user === "root") {
      // Who makes an image without being root is its root: what packs the image says whose the files are.
      const isStandIn = this.#root !== undefined && !this.isRoot;
      return { userId: isStandIn ? (process.getuid?.() ?? 0) : 0, groupId: isStandIn ? (process.getgid?.() ?? 0) : 0 };
    }
    // getent knows users of directories; for a folder its own file is all there is.
    const text =
      this.#root === undefined ? (await run("getent", ["passwd", user])).out : await this.readText("/etc/passwd");
    const line = (text ?? "").split("\n").find((one) => one.startsWith(`${user}:`));
    const [, , userId, groupId] = line?.split(":") ?? [];
    return line === undefined ? undefined : { userId: Number(userId), groupId: Number(groupId) };
  }

  async changeableBy(path: string): Promise<string | undefined> {
    let at: string;
    try {
      at = await realpath(this.at(path));
    } catch {
      return "missing";
    }
    for (; ; at = dirname(at)) {
      const { uid, mode } = await stat(at);
      const isSticky = (mode & 0o1000) !== 0;
      if (uid !== 0 || ((mode & 0o022) !== 0 && !isSticky)) return at;
      if (at === dirname(at)) return undefined;
    }
  }

  run(program: "systemctl" | "useradd" | "chown", words: readonly string[]): Promise<Outcome> {
    const root = this.#root;
    if (root === undefined || program === "chown") return run(program, words);
    return run(program, program === "systemctl" ? [`--root=${root}`, ...words] : ["--prefix", root, ...words]);
  }
}

/** How the command line was started: the launcher of a checkout says it, else Node and the script of the package. */
export function ownProgram(environment: Readonly<Record<string, string | undefined>>): string[] {
  if (isPacked()) return [stableProgram(process.execPath)];
  const launcher = environment["HOLDFAST_COMMAND"];
  if (launcher !== undefined && launcher !== "") return [resolve(launcher)];
  return [process.execPath, resolve(process.argv[1] ?? "")];
}

function run(program: string, words: readonly string[]): Promise<Outcome> {
  return new Promise((done, fail) => {
    // Their answers are read: in English, without a pager.
    const env = { ...process.env, LC_ALL: "C", SYSTEMD_PAGER: "", SYSTEMD_COLORS: "0" };
    const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"], env });
    let [out, err] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
    child.on("error", (cause) => {
      fail(new AppError("service.unsupported", `cannot run ${program}: ${describeError(cause)}`, { cause }));
    });
    child.on("close", (code) => done({ exitCode: code ?? 1, out, err: err.trim() }));
  });
}

async function orAbsent<Value>(look: () => Promise<Value>): Promise<Value | undefined> {
  try {
    return await look();
  } catch (cause) {
    const errno = errnoOf(cause);
    if (errno === "ENOENT" || errno === "ENOTDIR") return undefined;
    if (errno === "EACCES" || errno === "EPERM") {
      throw new AppError("host.forbidden", describeError(cause), { cause });
    }
    throw cause;
  }
}
