// A supervisor as systemd is one for the agent: Restart=always, RestartPreventExitStatus=77 78. What ends its process with
// TERM restarts it; that reaches the main process alone, as KillMode=process has it. The status 2 is not kept from a restart
// here: the bad version of a test is a script, whose shell opens it by its name, and may find the good one's bytes there when
// the update has just gone back; `systemctl restart` starts the good one all the same, a TERM to nobody would not.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";

export interface SupervisorOptions {
  /** The words after `agent run`. */
  readonly words: readonly string[];
  readonly program: string;
  readonly pidFile: string;
}

export class Supervisor {
  readonly #options: SupervisorOptions;
  #child: ChildProcess | undefined;
  #stopped = false;
  #ended: Promise<unknown> = Promise.resolve();
  starts = 0;

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** A shell command that restarts what runs. */
  static restartLine(pidFile: string): string {
    return `kill -TERM "$(cat ${pidFile})"`;
  }

  start(): void {
    this.starts += 1;
    const { program, words, pidFile } = this.#options;
    const child = spawn(program, ["agent", "run", ...words], { stdio: "ignore" });
    this.#child = child;
    this.#ended = once(child, "exit").then(([code]) => {
      if (this.#stopped) return;
      // As often as every 100 ms: a crash loop must not be quicker than the looks at it.
      setTimeout(() => void (this.#stopped || [77, 78].includes(Number(code)) || this.start()), 100);
    });
    void writeFile(pidFile, String(child.pid));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#child?.kill("SIGKILL");
    await this.#ended;
  }
}
