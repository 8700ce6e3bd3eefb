// The environment of a script that runs as a named user: what says something about the host comes from the agent, what says
// something about a user comes from passwd, and the rest of the agent's own (XDG folders, sockets, proxies with passwords)
// stays where it is. Invariant: before the change of the user nothing of the task is in the environment, for a variable such
// as LD_PRELOAD would make root's programs load what another user wrote.
import type { UserAccount } from "./user-account.ts";

const hostVariable = /^(PATH|TZ|LANG|LANGUAGE|LC_[A-Z]+)$/;

export function userEnvironment(
  agents: Readonly<Record<string, string | undefined>>,
  { name, home, shell }: UserAccount,
): Record<string, string | undefined> {
  const kept = Object.entries(agents).filter(([variable]) => hostVariable.test(variable));
  return { ...Object.fromEntries(kept), HOME: home, USER: name, LOGNAME: name, SHELL: shell };
}

/** Lines of sh that set variables. Values may hold anything but NUL. */
export function exportLines(variables: Iterable<readonly [string, string]>): string {
  return [...variables]
    .map(([name, value]) => `export ${name}='${value.replaceAll("'", String.raw`'\''`)}'\n`)
    .join("");
}

/**
 * What the user's first shell does before it becomes the script: it goes to the working directory by its own right, and reads
 * the task's variables from descriptor 5, which is the user's. Only then, for they may have any name.
 */
export const userEntry = `cd "$1" || exit 126
shift
umask 022
if ! [ -r /proc/self/fd/5 ]; then
  echo "holdfast: the script's environment did not reach it" >&2
  exit 126
fi
. /proc/self/fd/5
exec "$@" 5<&-`;
