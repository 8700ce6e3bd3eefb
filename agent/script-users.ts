// As whom a script with `user` runs: looks the account up, judges at acceptance whether the agent can become it, and says at
// the start with which words. Invariant: only an agent that runs as root starts a script as anybody but itself.
import type { Clock } from "../shared/clock.ts";
import { AppError, describeError } from "../shared/errors.ts";
import type { AttemptId } from "../shared/ids.ts";
import type { Owner } from "./owner.ts";
import type { Admission } from "./roster-event.ts";
import { findAccount, type AccountLookup, type UserAccount } from "./user-account.ts";
import type { UserPlaces } from "./user-places.ts";
import { UserQuestions } from "./user-questions.ts";
import { localUserHost, switchWords, type SwitchTrial, type UserHost } from "./user-switch.ts";

export interface RunAs {
  readonly account: UserAccount;
  /** Of the script's files; undefined where the account is the agent's own. */
  readonly owner: Owner | undefined;
  /** Before the program; none where the account is the agent's own. */
  readonly words: readonly string[];
}

export interface UserRequest extends Omit<SwitchTrial, "root"> {
  readonly user: string;
}

export interface ScriptUsersDeps {
  readonly host?: UserHost;
  readonly clock: Pick<Clock, "monotonicMs" | "sleep">;
  readonly places: Pick<UserPlaces, "open" | "place" | "path">;
}

/** How long a start waits for a directory that is silent, and between two looks; most looks only meet what is remembered. */
export const silentStart = { mostMs: 300_000, lookMs: 5_000 } as const;

export class ScriptUsers {
  readonly #host: UserHost;
  readonly #clock: Pick<Clock, "sleep" | "monotonicMs">;
  readonly #ended = new AbortController();
  readonly #places: Pick<UserPlaces, "open" | "place" | "path">;

  constructor({ host = localUserHost, clock, places }: ScriptUsersDeps) {
    this.#host = new UserQuestions({ host, clock });
    this.#clock = clock;
    this.#places = places;
  }

  /**
   * Where the files of a script lie that names a user; undefined means in the attempt's own folder. Told by the spec alone,
   * for a successor of the agent has to find them even if the user has gone.
   */
  placeOf(attempt: AttemptId, user: string | undefined): string | undefined {
    return user === undefined || this.#host.uid !== 0 ? undefined : this.#places.place(attempt);
  }

  judge({ user, ...trial }: UserRequest): Admission {
    const found = findAccount(user, this.#host.database);
    if (found.kind === "unknown") return never("invalid", found.why);
    if (found.kind === "silent") return { kind: "later", reason: "busy", detail: found.why };
    const { account } = found;
    if (account.uid === this.#host.uid) return { kind: "ok" };
    if (this.#host.uid !== 0)
      return never("unsupported", `only an agent that runs as root can run a script as ${user}`);
    const setpriv = this.#host.findSwitch();
    if (setpriv === undefined)
      return never("unsupported", "scripts run as another user by setpriv of util-linux, which this host has not");
    try {
      this.#places.open();
    } catch (cause) {
      // Somebody else's folder stays one; a full disk does not stay full.
      const detail = describeError(cause);
      return cause instanceof AppError ? never("unsupported", detail) : { kind: "later", reason: "busy", detail };
    }
    const outcome = this.#host.trySwitch(setpriv, account, { ...trial, root: this.#places.path });
    switch (outcome.kind) {
      case "ok":
        return { kind: "ok" };
      case "silent":
        return { kind: "later", reason: "busy", detail: outcome.why };
      case "closed":
        return never("invalid", outcome.why);
      case "impossible":
        return never("unsupported", outcome.why);
    }
  }

  /**
   * Once the script was accepted, from what the acceptance found; in a later process anew, for users come and go. What was
   * accepted cannot be offered again, so a silent directory is waited for. Throws when it cannot be any more.
   */
  async runAs(user: string): Promise<RunAs> {
    const found = await this.#find(user);
    if (found.kind !== "found") throw new AppError("internal", found.why);
    const { account } = found;
    if (account.uid === this.#host.uid) return { account, owner: undefined, words: [] };
    const setpriv = this.#host.uid === 0 ? this.#host.findSwitch() : undefined;
    if (setpriv === undefined) throw new AppError("internal", `the agent cannot become ${user} any more`);
    return { account, owner: account, words: switchWords(setpriv, account) };
  }

  /** The agent stops: who waits here starts in a later process. */
  close(): void {
    this.#ended.abort(new AppError("aborted", "the agent stops"));
  }

  async #find(user: string): Promise<AccountLookup> {
    const endMs = this.#clock.monotonicMs() + silentStart.mostMs;
    for (;;) {
      const found = findAccount(user, this.#host.database);
      if (found.kind !== "silent") return found;
      if (this.#clock.monotonicMs() >= endMs)
        return { kind: "silent", why: `${found.why}; waited for an answer for ${silentStart.mostMs / 60_000} minutes` };
      await this.#clock.sleep(silentStart.lookMs, this.#ended.signal);
    }
  }
}

function never(reason: "invalid" | "unsupported", detail: string): Admission {
  return { kind: "never", refusal: { reason, detail: detail.slice(0, 1_024) } };
}
