// Arms failpoints in processes that run failpoint-hook.ts and tells what became of them. One file per process and kind.
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

export type FailpointAction = "kill" | "stop" | "drop";

export interface Armed {
  readonly step: string;
  readonly action: FailpointAction;
  /** Connections are dropped as soon as it is armed, for the step comes with a greeting. */
  readonly reconnect: boolean;
}

const hook = pathToFileURL(join(import.meta.dirname, "failpoint-hook.ts")).href;
/** Statements and frames of a greeting. */
const greeting = /hello|welcome|nodes|greet|read-open|presence|ready/;

export class Failpoints {
  readonly #place: string;

  /** `role` names the process within `folder`. */
  constructor(folder: string, role: string) {
    this.#place = join(folder, `failpoints-${role}`);
  }

  /** What the process must be started with. */
  get environment(): Record<string, string> {
    return { HOLDFAST_TEST_FAILPOINTS: this.#place, NODE_OPTIONS: `--import=${hook}` };
  }

  /** Takes effect when the process gets SIGUSR2, or starts. */
  arm(step: string, action: FailpointAction): void {
    const armed: Armed = { step, action, reconnect: greeting.test(step) };
    rmSync(`${this.#place}.fired`, { force: true });
    writeFileSync(`${this.#place}.arm`, JSON.stringify(armed));
  }

  disarm(): void {
    rmSync(`${this.#place}.arm`, { force: true });
  }

  get hasFired(): boolean {
    return existsSync(`${this.#place}.fired`);
  }

  /** Every step the process has come by so far. */
  get steps(): string[] {
    const path = `${this.#place}.steps`;
    return existsSync(path) ? [...new Set(readFileSync(path, "utf8").trim().split("\n"))] : [];
  }
}
