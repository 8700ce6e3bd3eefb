// As whom a script with `user` runs: looks the account up, judges at acceptance whether the agent can become it, and says at
// the start with which words. Invariant: only an agent that runs as root starts a script as anybody but itself.
import { AppError, describeError } from "../shared/errors.ts";
import type { AttemptId } from "../shared/ids.ts";
import type { Owner } from "./owner.ts";
import type { Admission } from "./roster-event.ts";
import { findAccount, hostUsers, type UserAccount, type UserDatabase } from "./user-account.ts";
import type { UserPlaces } from "./user-places.ts";
import { findSwitch, switchWords, trySwitch, type SwitchTrial, type TrialOutcome } from "./user-switch.ts";

export interface RunAs {
  readonly account: UserAccount;
  /** Of the script's files; undefined where the account is the agent's own. */
  readonly owner: Owner | undefined;
  /** Before the program; none where the account is the agent's own. */
  readonly words: readonly string[];
}

/** What the host can tell and do about users. */
export interface UserHost {
  /** The agent's own; undefined on systems without. */
  readonly uid: number | undefined;
  readonly database: UserDatabase;
  findSwitch(): string | undefined;
  trySwitch(setpriv: string, account: UserAccount, trial: SwitchTrial): TrialOutcome;
}

export const localUserHost: UserHost = { uid: process.getuid?.(), database: hostUsers, findSwitch, trySwitch };

export interface UserRequest extends Omit<SwitchTrial, "root"> {
  readonly user: string;
}

export interface ScriptUsersDeps {
  readonly host?: UserHost;
  readonly places: Pick<UserPlaces, "open" | "place" | "path">;
}

export class ScriptUsers {
  readonly #host: UserHost;
  readonly #places: Pick<UserPlaces, "open" | "place" | "path">;

  constructor({ host = localUserHost, places }: ScriptUsersDeps) {
    this.#host = host;
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

  /** At the start, for users come and go while a task waits for its turn. Throws when it cannot be any more. */
  runAs(user: string): RunAs {
    const found = findAccount(user, this.#host.database);
    if (found.kind !== "found") throw new AppError("internal", found.why);
    const { account } = found;
    if (account.uid === this.#host.uid) return { account, owner: undefined, words: [] };
    const setpriv = this.#host.uid === 0 ? this.#host.findSwitch() : undefined;
    if (setpriv === undefined) throw new AppError("internal", `the agent cannot become ${user} any more`);
    return { account, owner: account, words: switchWords(setpriv, account) };
  }
}

function never(reason: "invalid" | "unsupported", detail: string): Admission {
  return { kind: "never", refusal: { reason, detail: detail.slice(0, 1_024) } };
}
