// Programs of the distribution (nginx, haproxy, pgbouncer) as children of a test, in the foreground, each with a folder of
// its own. Invariant: after `stop` neither the process nor its folder is left; nobody else's process is touched.
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { eventually } from "./eventually.ts";

/** Debian keeps them where only root's PATH leads. */
const environment = { ...process.env, PATH: [process.env["PATH"], "/usr/sbin", "/sbin"].join(delimiter) };

export function hasProgram(name: string): boolean {
  return spawnSync(name, ["-v"], { stdio: "ignore", env: environment }).error === undefined;
}

/** A port of loopback that nobody used a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (typeof address !== "object" || address === null) throw new Error("no port");
  return address.port;
}

export interface DaemonPlan {
  readonly program: string;
  /** Writes the configuration into the folder and answers the arguments. */
  readonly prepare: (folder: string) => Promise<readonly string[]>;
  /** Ready once all of them accept connections. */
  readonly ports: readonly number[];
}

export class Daemon {
  readonly folder: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  #output = "";

  private constructor(folder: string, child: ChildProcess) {
    this.folder = folder;
    this.#child = child;
    this.#exited = once(child, "close");
    for (const stream of [child.stdout, child.stderr])
      stream?.on("data", (bytes: Buffer) => {
        this.#output = (this.#output + bytes.toString()).slice(-16_384);
      });
  }

  static async start({ program, prepare, ports }: DaemonPlan): Promise<Daemon> {
    const folder = await mkdtemp(join(tmpdir(), `holdfast-${program}-`));
    // Some of them give up being root before they read it.
    await chmod(folder, 0o755);
    const child = spawn(program, [...(await prepare(folder))], {
      stdio: ["ignore", "pipe", "pipe"],
      env: environment,
      cwd: folder,
    });
    const daemon = new Daemon(folder, child);
    try {
      for (const port of ports) await eventually(`${program} listens on ${port}`, () => daemon.#accepts(port));
    } catch (cause) {
      await daemon.stop();
      throw cause;
    }
    return daemon;
  }

  /** What it wrote last. */
  get output(): string {
    return this.#output;
  }

  async stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    const killing = setTimeout(() => this.#child.kill("SIGKILL"), 5_000);
    if (this.#child.pid !== undefined) await this.#exited;
    clearTimeout(killing);
    await rm(this.folder, { recursive: true, force: true });
  }

  async #accepts(port: number): Promise<{ done: boolean; state: unknown }> {
    if (this.#child.exitCode !== null) throw new Error(`it ended with ${this.#child.exitCode}: ${this.#output}`);
    const socket = connect(port, "127.0.0.1");
    try {
      await once(socket, "connect");
      return { done: true, state: "listening" };
    } catch {
      return { done: false, state: this.#output };
    } finally {
      socket.destroy();
    }
  }
}
