// Finds a user of this host by name, as passwd has it: in /etc/passwd, else through `getent`, which asks what else the host
// is set up to ask (LDAP and the like). Decides nothing about who may become whom.
// Invariant: an account that is found is the one its id means, so that its groups are its own.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describeError } from "../shared/errors.ts";
import { systemPath } from "./interpreters.ts";

export interface UserAccount {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}

export type AccountLookup =
  | { readonly kind: "found"; readonly account: UserAccount }
  | { readonly kind: "unknown"; readonly why: string }
  /** The answer did not come, and may come another time. */
  | { readonly kind: "silent"; readonly why: string };

/** Each gives lines of passwd(5). */
export interface UserDatabase {
  file(): string;
  /** By name or id; empty when there is none. Throws when no answer comes. */
  entry(key: string): string;
}

/** The loop stands still for an answer, and a directory service may be away. */
const answerMs = 2_000;
/** Exit code of `getent` for a key that is not there. */
const keyMissing = 2;

export const hostUsers: UserDatabase = {
  file: () => readFileSync("/etc/passwd", "utf8"),
  entry(key) {
    const asked = spawnSync("getent", ["passwd", key], {
      env: { PATH: systemPath },
      encoding: "utf8",
      timeout: answerMs,
      killSignal: "SIGKILL",
    });
    if (asked.error !== undefined) {
      // Without the command there is nothing but the file.
      if ("code" in asked.error && asked.error.code === "ENOENT") return "";
      throw asked.error;
    }
    if (asked.status === keyMissing) return "";
    if (asked.status !== 0) throw new Error(`getent ended with ${String(asked.status)}`);
    return asked.stdout;
  },
};

export function findAccount(name: string, database: UserDatabase): AccountLookup {
  try {
    const listed = parsePasswd(database.file());
    const local = listed.find((account) => account.name === name);
    const account = local ?? parsePasswd(database.entry(name)).find((other) => other.name === name);
    if (account === undefined) return { kind: "unknown", why: `this host has no user ${name}` };
    const isSame = ({ uid }: UserAccount): boolean => uid === account.uid;
    const meant = listed.find(isSame) ?? parsePasswd(database.entry(String(account.uid))).find(isSame);
    // Groups are looked up by id: they would be another's.
    if (meant !== undefined && meant.name !== name)
      return { kind: "unknown", why: `user id ${account.uid} of ${name} means ${meant.name}` };
    return { kind: "found", account };
  } catch (cause) {
    return { kind: "silent", why: `the users of this host cannot be looked up: ${describeError(cause)}` };
  }
}

/** Lines of another form (comments, the `+` of NIS) are no accounts. */
export function parsePasswd(text: string): UserAccount[] {
  return text.split("\n").flatMap((line) => {
    const [name = "", , uid = "", gid = "", , home = "", shell] = line.split(":");
    if (shell === undefined || name === "" || !/^\d+$/.test(uid) || !/^\d+$/.test(gid)) return [];
    return [
      {
        name,
        uid: Number(uid),
        gid: Number(gid),
        home: home === "" ? "/" : home,
        shell: shell === "" ? "/bin/sh" : shell,
      },
    ];
  });
}
