// A root of its own for processes of a test: a shell, what it calls, a fetcher, and the C and C++ libraries; no Node. Linux,
// as root. The network is the machine's own, so that a node on loopback is reached. Invariant: whatever was started in there
// dies with its `unshare`, for that is the first process of their own process namespace; mounts end with them.
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { existsSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

export type Furnishing = "dash with curl" | "busybox with wget";

export class EmptyRoot implements AsyncDisposable {
  readonly path: string;
  readonly #children: ChildProcess[] = [];

  private constructor(path: string) {
    this.path = path;
  }

  /** `alike`: a program whose libraries are put there, but not itself. */
  static async create(kind: Furnishing, { alike }: { readonly alike: string }): Promise<EmptyRoot> {
    const path = await mkdtemp(join(tmpdir(), "holdfast-root-"));
    const root = new EmptyRoot(path);
    for (const folder of ["bin", "dev", "etc", "proc", "root", "tmp"]) await mkdir(join(path, folder));
    await writeFile(join(path, "etc", "passwd"), "root:x:0:0:root:/root:/bin/sh\n");
    await root.#bring(which("busybox"), "/bin/busybox");
    for (const applet of spawnSync("busybox", ["--list"], { encoding: "utf8" }).stdout.trim().split("\n")) {
      const isOther = applet === "busybox" || (kind === "dash with curl" && ["sh", "ash", "wget"].includes(applet));
      if (!isOther) await symlink("busybox", join(path, "bin", applet));
    }
    if (kind === "dash with curl") {
      await root.#bring(which("dash"), "/bin/sh");
      await root.#bring(which("curl"), "/bin/curl");
    }
    await root.#bringLibraries(alike);
    return root;
  }

  /** Why there can be none here; undefined when there can. */
  static whyNot(): string | undefined {
    const { status, stderr, error } = spawnSync("unshare", ["--mount", "--pid", "--fork", "--kill-child", "true"]);
    if (status !== 0) return error?.message ?? stderr.toString();
    const missing = ["busybox", "dash", "curl"].filter((name) => which(name) === "");
    return missing.length === 0 ? undefined : `no ${missing.join(", ")}`;
  }

  /** The command's words are passed as they are; `output` grows with what it writes to either stream. */
  start(command: readonly string[]): { readonly child: ChildProcess; readonly output: () => string } {
    const prepare = `set -e
      mount -t proc proc "$0/proc"
      for one in null zero urandom; do : >"$0/dev/$one"; mount --bind "/dev/$one" "$0/dev/$one"; done
      exec chroot "$0" "$@"`;
    const isolation = ["--mount", "--pid", "--fork", "--kill-child"];
    const child = spawn("unshare", [...isolation, "sh", "-c", prepare, this.path, ...command], {
      // Within, only /bin of these is there.
      env: { PATH: "/bin:/usr/bin:/sbin:/usr/sbin", HOME: "/root" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#children.push(child);
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (bytes: Buffer) => (output += bytes.toString()));
    return { child, output: () => output };
  }

  async run(command: readonly string[]): Promise<{ readonly exitCode: number | null; readonly output: string }> {
    const { child, output } = this.start(command);
    const [exitCode] = (await once(child, "close")) as [number | null];
    return { exitCode, output: output() };
  }

  read(path: string): string {
    return readFileSync(join(this.path, path), "utf8");
  }

  has(path: string): boolean {
    return existsSync(join(this.path, path));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill("SIGKILL");
      await once(child, "close");
    }
    await rm(this.path, { recursive: true, force: true });
  }

  async #bring(from: string, to: string): Promise<void> {
    await copy(from, join(this.path, to));
    await this.#bringLibraries(from);
  }

  async #bringLibraries(program: string): Promise<void> {
    const { stdout } = spawnSync("ldd", [program], { encoding: "utf8" });
    for (const [, library = ""] of stdout.matchAll(/(?:=> |^\s)(\/\S+) \(/gm))
      await copy(library, join(this.path, library));
  }
}

async function copy(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await copyFile(from, to);
}

function which(name: string): string {
  return spawnSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).stdout.trim();
}
