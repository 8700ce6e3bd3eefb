// Starts the real programs of this checkout as child processes, for the demo, the cluster tests and the benches. Owns
// their lives: every one can be ended by its handle, and waits have deadlines that print what the process said.
import { spawn, type ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { patience } from "./patience.ts";

const ownRoot = join(import.meta.dirname, "..");
/** As bin/holdfast sets it. */
const compileCache = join(ownRoot, "node_modules", ".cache", "holdfast");
const keptOutput = 64 * 1024;

export interface StartOptions {
  readonly args: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** What to call it in messages. */
  readonly title: string;
  /** Put in front of the program, such as `ip netns exec a`. */
  readonly wrapper?: readonly string[];
  /** The checkout whose program it is, such as one of an earlier version. Default: this one. */
  readonly root?: string;
  /** An executable that is started instead of a checkout's program. */
  readonly executable?: string;
}

export class Program {
  readonly title: string;
  readonly exited: Promise<number | null>;
  readonly #child: ChildProcess;
  readonly #waiters = new Set<() => void>();
  #output = "";
  #exitCode: number | null | undefined;

  constructor({ args, environment, title, wrapper = [], root = ownRoot, executable }: StartOptions) {
    this.title = title;
    const flags = args[0] === "agent" && args[1] === "run" ? agentFlagsOf(root) : [];
    const program =
      executable === undefined ? [process.execPath, ...flags, join(root, "cli", "holdfast.ts")] : [executable];
    const command = [...wrapper, ...program, ...args];
    const [file = "", ...rest] = command;
    this.#child = spawn(file, rest, {
      env: { NODE_COMPILE_CACHE: compileCache, ...process.env, ...environment },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    // A group of its own: Ctrl-C on the terminal reaches its owner only, who ends it in order.
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding("utf8");
      stream?.on("data", (text: string) => {
        this.#output = (this.#output + text).slice(-keptOutput);
        this.#wake();
      });
    }
    this.exited = new Promise((resolve) => {
      this.#child.once("error", () => resolve(null));
      this.#child.once("close", (code) => resolve(code));
    });
    void this.exited.then((code) => {
      this.#exitCode = code;
      this.#wake();
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error(`${this.title} was not started`);
    return this.#child.pid;
  }

  /** The last 64 KiB it wrote to stdout and stderr. */
  get output(): string {
    return this.#output;
  }

  get isRunning(): boolean {
    return this.#exitCode === undefined;
  }

  kill(signal: NodeJS.Signals): void {
    if (this.isRunning) this.#child.kill(signal);
  }

  /** Resolves with the match; rejects with the output when the process ends or `limitMs` passes first. */
  async says(pattern: RegExp, limitMs = 30_000): Promise<RegExpExecArray> {
    const deadline = AbortSignal.timeout(limitMs * patience);
    for (;;) {
      const match = pattern.exec(this.#output);
      if (match !== null) return match;
      if (!this.isRunning)
        throw new Error(`${this.title} ended with ${this.#exitCode} before it said ${pattern}:\n${this.#output}`);
      if (deadline.aborted)
        throw new Error(`${this.title} did not say ${pattern} within ${limitMs * patience} ms:\n${this.#output}`);
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiters.delete(wake);
          deadline.removeEventListener("abort", wake);
          resolve();
        };
        this.#waiters.add(wake);
        deadline.addEventListener("abort", wake, { once: true });
      });
    }
  }

  /** TERM, then KILL when it has not ended after `limitMs`; resolves with the exit code. */
  async stop(limitMs = 15_000): Promise<number | null> {
    this.kill("SIGTERM");
    const killing = AbortSignal.timeout(limitMs * patience);
    const kill = (): void => this.kill("SIGKILL");
    killing.addEventListener("abort", kill, { once: true });
    const code = await this.exited;
    killing.removeEventListener("abort", kill);
    return code;
  }

  #wake(): void {
    for (const waiter of this.#waiters) waiter();
  }
}

function agentFlagsOf(root: string): readonly string[] {
  return readFileSync(join(root, "bin", "agent-flags"), "utf8")
    .trim()
    .split("\n");
}

/** Runs one command to its end. */
export async function runProgram(
  options: StartOptions,
): Promise<{ readonly exitCode: number | null; readonly output: string }> {
  const program = new Program(options);
  const exitCode = await program.exited;
  return { exitCode, output: program.output };
}

export interface ServerPlan {
  readonly name: string;
  readonly dataDirectory: string;
  readonly databaseUrl?: string;
  readonly masterKeyFile?: string;
  readonly apiPort?: number;
  readonly agentPort?: number;
  /** Where agents reach it. Default 127.0.0.1. */
  readonly agentHost?: string;
  readonly arguments?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** As in {@link StartOptions}. */
  readonly root?: string;
  /** Told of the process at once, so that it can be ended while it still starts. */
  readonly onProgram?: (program: Program) => void;
}

export interface RunningServer {
  readonly program: Program;
  readonly url: string;
  readonly agentPort: number;
}

/** Starts a node on loopback, for agents where the plan says, and resolves when it serves. */
export async function startServer(plan: ServerPlan): Promise<RunningServer> {
  const { name, dataDirectory, databaseUrl, masterKeyFile, apiPort = 0, agentPort = 0, agentHost = "127.0.0.1" } = plan;
  const program = new Program({
    title: `server ${name}`,
    args: [
      "server",
      "start",
      `--name=${name}`,
      `--data-dir=${dataDirectory}`,
      `--api-listen=127.0.0.1:${apiPort}`,
      `--agent-listen=${agentHost}:${agentPort}`,
      ...(databaseUrl === undefined ? [] : ["--database-url", databaseUrl]),
      ...(masterKeyFile === undefined ? [] : ["--master-key-file", masterKeyFile]),
      ...(plan.arguments ?? []),
    ],
    ...(plan.environment === undefined ? {} : { environment: plan.environment }),
    ...(plan.root === undefined ? {} : { root: plan.root }),
  });
  plan.onProgram?.(program);
  const [, url = "", port = ""] = await program.says(/serves: API (\S+), agents on port (\d+)/);
  return { program, url, agentPort: Number(port) };
}
