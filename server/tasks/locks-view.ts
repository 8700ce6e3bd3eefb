// The isolation locks of an agent as the API shows them.
import type { AgentLocks, LockView } from "../../shared/api/locks.ts";
import type { LockRow } from "../store/read-locks.ts";

export function locksView({ agent, rows }: { readonly agent: string; readonly rows: readonly LockRow[] }): AgentLocks {
  const byName = [...Map.groupBy(rows, ({ lock }) => lock)].toSorted(([one], [other]) => (one < other ? -1 : 1));
  const locks = byName.map(([name, claims]): LockView => {
    const of = (role: LockRow["role"]): LockView["holders"] => claims.filter((claim) => claim.role === role).map(view);
    return { name, holders: of("holds"), waiting: of("waits") };
  });
  return { agent, locks };
}

function view({ task, attempt, mode, since, ageMs }: LockRow): LockView["holders"][number] {
  return { task, attempt, mode, since: new Date(since).toISOString(), ageMs: Math.round(ageMs) };
}
