// A process that is started again whenever it dies and goes on a while after it stopped: what a supervisor and a
// hypervisor do. Looks only when it is tended; owns no timer.
import type { Program } from "../../demo/processes.ts";
import type { Failpoints, Harm } from "./failpoints.ts";
import { isStopped } from "./process.ts";

/** How long a stopped process stays so: longer than any round trip, shorter than what counts as silence. */
const stoppedMs = 700;

export interface SupervisedProcess {
  readonly role: string;
  readonly failpoints: Failpoints;
  program(): Program;
  /** Starts it again; may resolve before it serves. */
  again(): Promise<void>;
}

export class Supervised {
  readonly #process: SupervisedProcess;
  #stoppedAtMs: number | undefined;
  #starting: Promise<void> | undefined;
  restarts = 0;

  constructor(process: SupervisedProcess) {
    this.#process = process;
  }

  get role(): string {
    return this.#process.role;
  }

  get failpoints(): Failpoints {
    return this.#process.failpoints;
  }

  /** How it stands, for people. */
  get state(): string {
    const program = this.#process.program();
    const life = program.isRunning ? (this.isUp ? "up" : "starting") : "down";
    return `${this.role} ${life}, ${this.restarts} restarts: ${program.output.slice(-1_000)}`;
  }

  /** Whether it runs and has said that it serves. */
  get isUp(): boolean {
    return this.#starting === undefined && this.#process.program().isRunning;
  }

  arm(harms: readonly Harm[]): void {
    this.failpoints.forgetFired();
    this.armRest(harms);
  }

  /** What is left of the harms it was armed with. */
  armRest(harms: readonly Harm[]): void {
    this.failpoints.arm(harms);
    this.#process.program().kill("SIGUSR2");
  }

  disarm(): void {
    this.failpoints.disarm();
    this.#process.program().kill("SIGUSR2");
  }

  kill(): void {
    this.#process.program().kill("SIGKILL");
  }

  tend(): void {
    const program = this.#process.program();
    // One that still starts may be stopped as well.
    if (program.isRunning) this.#continue(program);
    else if (this.#starting === undefined) {
      this.restarts += 1;
      this.#stoppedAtMs = undefined;
      this.#starting = this.#process.again().finally(() => {
        this.#starting = undefined;
      });
      // A failpoint may kill it while it starts: then it is started once more.
      this.#starting.catch(() => undefined);
    }
  }

  #continue(program: Program): void {
    if (!isStopped(program.pid)) return;
    this.#stoppedAtMs ??= performance.now();
    if (performance.now() - this.#stoppedAtMs < stoppedMs) return;
    this.#stoppedAtMs = undefined;
    program.kill("SIGCONT");
  }
}
