// How a process becomes another user: `setpriv` of util-linux, which sets ids and groups and becomes the program, so that no
// process stays in between and no PAM session is opened (`su` and `runuser` wait for their child). busybox has a command of
// that name that cannot. Leaves who may become whom to script-users.ts.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { systemPath } from "./interpreters.ts";
import { hostUsers, type UserAccount, type UserDatabase } from "./user-account.ts";

export interface SwitchTrial {
  /** Of the script's folders, which the user has to get to. */
  readonly root: string;
  readonly program: string;
  readonly cwd: string | undefined;
}

export type TrialOutcome =
  { readonly kind: "ok" } | { readonly kind: "impossible" | "closed" | "silent"; readonly why: string };

const trialMs = 2_000;
const codes = { root: 10, program: 11, cwd: 12 } as const;
const trialScript = `cd "$1" || exit ${codes.root}; [ -x "$2" ] || exit ${codes.program}; [ -z "$3" ] || cd "$3" || exit ${codes.cwd}`;

/** What the host can tell and do about users. */
export interface UserHost {
  /** The agent's own; undefined on systems without. */
  readonly uid: number | undefined;
  readonly database: UserDatabase;
  findSwitch(): string | undefined;
  trySwitch(setpriv: string, account: UserAccount, trial: SwitchTrial): TrialOutcome;
}

export const localUserHost: UserHost = { uid: process.getuid?.(), database: hostUsers, findSwitch, trySwitch };

/** Not by the agent's own PATH, which may name folders of others. */
export function findSwitch(searchPath: string = systemPath): string | undefined {
  return searchPath
    .split(":")
    .map((folder) => `${folder}/setpriv`)
    .find((path) => existsSync(path));
}

/**
 * The words before a program that make it run as the account: ids, its groups as initgroups(3) has them, no inheritable
 * capability. The others go with the change of the id; the bounding set stays, for `sudo` in the script.
 */
export function switchWords(setpriv: string, { uid, gid }: UserAccount): string[] {
  return [setpriv, "--reuid", String(uid), "--regid", String(gid), "--init-groups", "--inh-caps=-all", "--"];
}

/** Becomes the user for a moment: what works now has a reason to work at the start, what does not is refused with the reason. */
export function trySwitch(setpriv: string, account: UserAccount, { root, program, cwd }: SwitchTrial): TrialOutcome {
  const trial = ["/bin/sh", "-c", trialScript, "sh", root, program, cwd ?? ""];
  const [command = "", ...words] = [...switchWords(setpriv, account), ...trial];
  const tried = spawnSync(command, words, {
    cwd: "/",
    env: { PATH: systemPath },
    stdio: ["ignore", "ignore", "pipe"],
    encoding: "utf8",
    timeout: trialMs,
    killSignal: "SIGKILL",
  });
  const { name } = account;
  switch (tried.status) {
    case 0:
      return { kind: "ok" };
    case codes.root:
      return {
        kind: "closed",
        why: `${name} cannot enter ${root}: the folders above have to be open to others (o+x)`,
      };
    case codes.program:
      return { kind: "closed", why: `${name} may not execute ${program}` };
    case codes.cwd:
      return { kind: "closed", why: `${name} cannot enter the working directory` };
    case null:
      return { kind: "silent", why: `${setpriv} gave no answer` };
    default: {
      const said = tried.stderr.trim().split("\n")[0] ?? "";
      return { kind: "impossible", why: `${setpriv} cannot become ${name} (setpriv of util-linux is needed): ${said}` };
    }
  }
}
