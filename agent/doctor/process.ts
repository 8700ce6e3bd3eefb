// Doctor's look for a running agent: by its health line, else by what the lock file says. Never takes the lock: an agent
// that starts meanwhile would be turned away.
import { join } from "node:path";
import type { Clock } from "../../shared/clock.ts";
import { describeSpan } from "../clock-offset.ts";
import { viewLock } from "../data-lock.ts";
import type { LockView } from "../data-lock.ts";
import type { HealthLine } from "../health-line.ts";
import { healthSocketPath } from "../health-line.ts";
import { readHealth } from "../health-reader.ts";
import type { CheckRow } from "./check-row.ts";
import { failed, noted, passed, warned } from "./check-row.ts";
import { asReadable } from "./files.ts";

export interface ProcessCheck {
  readonly row: CheckRow;
  readonly state: "running" | "not-running" | "other-boot" | "unknown";
  /** Of a running agent that answers. */
  readonly health: HealthLine | undefined;
}

export async function checkProcess(
  dataPath: string,
  { clock, hostBootId }: { readonly clock: Pick<Clock, "after">; readonly hostBootId: string },
): Promise<ProcessCheck> {
  const answer = await readHealth(dataPath, { clock });
  // The socket outlives no process, and answers across process namespaces, where a pid says nothing.
  if (answer.kind === "line") return { row: ofLine(answer.line), state: "running", health: answer.line };
  const why = answer.kind === "silent" ? answer.why : "there is no socket";
  try {
    return {
      ...ofLock(viewLock({ path: join(dataPath, "lock"), hostBootId }), { dataPath, why }),
      health: undefined,
    };
  } catch (cause) {
    const { message, mend } = asReadable(cause);
    return { row: failed("agent", { seen: message, mend }), state: "unknown", health: undefined };
  }
}

function ofLine(line: HealthLine): CheckRow {
  const { pid, version, upMs, sessions, attempts, state, quarantine } = line;
  const open = sessions.filter((one) => one.state === "open").length;
  const seen = `process ${pid}, version ${version}, up ${describeSpan(upMs)}; ${open} sessions, ${attempts.running} attempts running, ${attempts.waiting} waiting`;
  const detail = { ...line };
  if (state === "quarantined")
    return failed("agent", {
      seen: `${seen}; quarantined: ${quarantine ?? "no reason given"}`,
      mend: "See the row of the journal.",
      detail,
    });
  if (state === "draining") return noted("agent", { seen: `${seen}; it drains and takes nothing new`, detail });
  if (open > 0) return passed("agent", { seen, detail });
  const mend = "See the rows of the nodes: it dials them again and again by itself.";
  return warned("agent", { seen, mend, detail });
}

function ofLock(
  view: LockView,
  { dataPath, why }: { readonly dataPath: string; readonly why: string },
): Omit<ProcessCheck, "health"> {
  switch (view.kind) {
    case "held": {
      const seen = `process ${view.pid} holds the data directory, but gives no health line: ${why}`;
      const mend = `Look at its log for ${healthSocketPath(dataPath)}; an agent of an older version has none.`;
      return { row: warned("agent", { seen, mend, detail: { pid: view.pid } }), state: "running" };
    }
    case "stale": {
      const isOther = view.since === "other-boot";
      const when = isOther ? "before this host booted" : "without letting go of it";
      const seen = `not running; process ${view.pid} held the data directory and ended ${when}`;
      const row = noted("agent", { seen, detail: { pid: view.pid, since: view.since } });
      return { row, state: isOther ? "other-boot" : "not-running" };
    }
    case "free":
      return { row: noted("agent", { seen: "not running" }), state: "not-running" };
  }
}
