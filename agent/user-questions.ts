// What was asked of the host about users, remembered for a while: each question stops the agent's loop, up to two seconds when
// a directory service does not answer, and all offers of a message ask. Passes on everything else of the host.
// Invariant: once a question was met with silence no other is asked for some seconds, so that one message costs one silence at
// most; and the same one, or any of an account that passwd does not hold, is not asked for longer.
import type { Clock } from "../shared/clock.ts";
import type { UserAccount } from "./user-account.ts";
import type { SwitchTrial, TrialOutcome, UserHost } from "./user-switch.ts";

export const questionTimes = {
  /** What is asked meanwhile belongs to the same burst of offers, or to the start of one of them. */
  freshMs: 5_000,
  /** After silence, every question: the next message costs another two seconds at the soonest then. */
  pauseMs: 5_000,
  /** After silence, the directory, and a trial that was silent: others have their turn before it. */
  silentMs: 30_000,
} as const;

/** Answers kept of each kind; at the bound all are forgotten, which only costs questions. */
const mostKept = 1_000;

type Kept<Answer> = Map<string, { readonly answer: Answer; readonly untilMs: number }>;

export class UserQuestions implements UserHost {
  readonly #host: UserHost;
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #entries: Kept<string> = new Map();
  readonly #trials: Kept<TrialOutcome> = new Map();
  #pausedUntilMs = -Infinity;
  #directory: { readonly silence: unknown; readonly untilMs: number } | undefined;

  readonly database: UserHost["database"] = {
    file: () => this.#host.database.file(),
    entry: (key) => this.#entry(key),
  };

  constructor(deps: { readonly host: UserHost; readonly clock: Pick<Clock, "monotonicMs"> }) {
    this.#host = deps.host;
    this.#clock = deps.clock;
  }

  get uid(): number | undefined {
    return this.#host.uid;
  }

  findSwitch(): string | undefined {
    return this.#host.findSwitch();
  }

  trySwitch(setpriv: string, account: UserAccount, trial: SwitchTrial): TrialOutcome {
    const key = JSON.stringify([setpriv, account.name, account.uid, account.gid, trial]);
    const known = this.#known(this.#trials, key);
    if (known !== undefined) return known;
    if (this.#isPaused()) return { kind: "silent", why: "another question about a user has just had no answer" };
    const outcome = this.#host.trySwitch(setpriv, account, trial);
    // A refusal is final: nobody asks again.
    if (outcome.kind === "ok") this.#keep(this.#trials, key, { answer: outcome, forMs: questionTimes.freshMs });
    if (outcome.kind === "silent") {
      this.#keep(this.#trials, key, { answer: outcome, forMs: questionTimes.silentMs });
      this.#pause();
    }
    return outcome;
  }

  #entry(key: string): string {
    const known = this.#known(this.#entries, key);
    if (known !== undefined) return known;
    if (this.#directory !== undefined && this.#directory.untilMs > this.#clock.monotonicMs())
      throw this.#directory.silence;
    if (this.#isPaused()) throw new Error("another question about a user has just had no answer");
    try {
      const answer = this.#host.database.entry(key);
      if (answer !== "") this.#keep(this.#entries, key, { answer, forMs: questionTimes.freshMs });
      return answer;
    } catch (silence) {
      this.#directory = { silence, untilMs: this.#clock.monotonicMs() + questionTimes.silentMs };
      this.#pause();
      throw silence;
    }
  }

  #isPaused(): boolean {
    return this.#pausedUntilMs > this.#clock.monotonicMs();
  }

  /** From the end of the question, which itself took a while. */
  #pause(): void {
    this.#pausedUntilMs = this.#clock.monotonicMs() + questionTimes.pauseMs;
  }

  #known<Answer>(kept: Kept<Answer>, key: string): Answer | undefined {
    const found = kept.get(key);
    return found !== undefined && found.untilMs > this.#clock.monotonicMs() ? found.answer : undefined;
  }

  #keep<Answer>(
    kept: Kept<Answer>,
    key: string,
    { answer, forMs }: { readonly answer: Answer; readonly forMs: number },
  ) {
    if (kept.size >= mostKept) kept.clear();
    kept.set(key, { answer, untilMs: this.#clock.monotonicMs() + forMs });
  }
}
