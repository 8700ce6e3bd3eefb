// How an agent's update decides: point `current` at the new version, have the agent restarted, and watch its health line; the
// earlier version comes back when the new one has not greeted a node in time. Pure; entry.ts acts and looks.
// Invariant: whatever is seen, it ends with `current` at a version whose process greeted a node, or says that none did.

/** What one look at the running agent showed. */
export type Seen =
  | { readonly kind: "nothing"; readonly why: string }
  | {
      readonly kind: "agent";
      readonly pid: number;
      /** The version its process was started from; undefined where the system does not tell. */
      readonly runs: string | undefined;
      /** Whether a session with a node is open. */
      readonly greeted: boolean;
    };

export interface UpdatePlan {
  /** Versions by the names of their folders. `from` is one that is known to work. */
  readonly from: string;
  readonly to: string;
  /** Of the process that runs before the restart. */
  readonly oldPid: number | undefined;
  /** Milliseconds a version may take until its process has an open session. */
  readonly greetMs: number;
}

/** A process that greeted and died at once is no good version. Milliseconds for which it has to stay. */
export const steadyMs = 3_000;

interface Trial {
  readonly plan: UpdatePlan;
  readonly endMs: number;
  readonly steady: { readonly pid: number; readonly sinceMs: number } | undefined;
  /** The last thing that was wrong, for people. */
  readonly lacks: string;
}

export type UpdateState =
  | { readonly at: "start" }
  | ({ readonly at: "trying" } & Trial)
  | ({ readonly at: "returning"; readonly why: string; readonly restart: "first" | "repeated" } & Trial)
  | { readonly at: "ended"; readonly outcome: UpdateOutcome };

export type UpdateOutcome =
  | { readonly kind: "updated"; readonly version: string; readonly pid: number }
  | { readonly kind: "rolled-back"; readonly version: string; readonly why: string }
  /** Back at the earlier version, whose process has not greeted a node either: perhaps no node is there any more. */
  | { readonly kind: "stranded"; readonly version: string; readonly why: string };

export type UpdateEvent =
  | { readonly kind: "begin"; readonly plan: UpdatePlan; readonly nowMs: number }
  | { readonly kind: "restart-failed"; readonly why: string; readonly nowMs: number }
  | { readonly kind: "seen"; readonly seen: Seen; readonly nowMs: number };

export type UpdateEffect =
  /** Note on the disk what is tried, so that an update that is cut off can be repeated from the known version. */
  | { readonly kind: "note"; readonly from: string; readonly to: string }
  | { readonly kind: "point"; readonly version: string }
  | { readonly kind: "restart" }
  | { readonly kind: "forget-note" };

export interface UpdateStep {
  readonly state: UpdateState;
  readonly effects: readonly UpdateEffect[];
}

export function stepUpdate(state: UpdateState, event: UpdateEvent): UpdateStep {
  switch (state.at) {
    case "start":
      return event.kind === "begin" ? begin(event.plan, event.nowMs) : { state, effects: [] };
    case "trying":
      if (event.kind === "begin") return { state, effects: [] };
      if (event.kind === "restart-failed") return giveUp(state, event.why, event.nowMs);
      return judge(state, event);
    case "returning":
      if (event.kind === "begin") return { state, effects: [] };
      if (event.kind === "restart-failed") return restartAgain(state, event.why);
      return judge(state, event);
    case "ended":
      return { state, effects: [] };
  }
}

function begin(plan: UpdatePlan, nowMs: number): UpdateStep {
  const { from, to, greetMs } = plan;
  return {
    state: { at: "trying", plan, endMs: nowMs + greetMs, steady: undefined, lacks: "it was not seen" },
    effects: [{ kind: "note", from, to }, { kind: "point", version: to }, { kind: "restart" }],
  };
}

type Watching = Extract<UpdateState, { at: "trying" | "returning" }>;

function judge(state: Watching, { seen, nowMs }: Extract<UpdateEvent, { kind: "seen" }>): UpdateStep {
  const { plan } = state;
  const wanted = state.at === "trying" ? plan.to : plan.from;
  const lacks = lackOf(state, seen, wanted);
  if (lacks === undefined && seen.kind === "agent") {
    const { pid } = seen;
    const steady = state.steady?.pid === pid ? state.steady : { pid, sinceMs: nowMs };
    // A session that opened in time is watched to the end of its trial, though the time is over by then.
    if (nowMs - steady.sinceMs < steadyMs) return { state: { ...state, steady }, effects: [] };
    return succeed(state, pid);
  }
  if (nowMs < state.endMs) {
    return { state: { ...state, steady: undefined, lacks: lacks ?? state.lacks }, effects: [] };
  }
  const why = lacks ?? state.lacks;
  if (state.at === "trying") return giveUp(state, why, nowMs);
  const outcome = { kind: "stranded", version: plan.from, why: `${state.why}; then ${plan.from}: ${why}` } as const;
  return { state: { at: "ended", outcome }, effects: [{ kind: "forget-note" }] };
}

function succeed(state: Watching, pid: number): UpdateStep {
  const outcome: UpdateOutcome =
    state.at === "trying"
      ? { kind: "updated", version: state.plan.to, pid }
      : { kind: "rolled-back", version: state.plan.from, why: state.why };
  return { state: { at: "ended", outcome }, effects: [{ kind: "forget-note" }] };
}

function giveUp({ plan }: Watching, why: string, nowMs: number): UpdateStep {
  return {
    state: {
      at: "returning",
      plan,
      why,
      restart: "first",
      endMs: nowMs + plan.greetMs,
      steady: undefined,
      lacks: "it was not seen",
    },
    effects: [{ kind: "point", version: plan.from }, { kind: "restart" }],
  };
}

/** Once, for there is nothing else left to try; its time stays what it was, and a process may come up without the line. */
function restartAgain(state: Extract<UpdateState, { at: "returning" }>, why: string): UpdateStep {
  if (state.restart === "repeated") return { state, effects: [] };
  return { state: { ...state, restart: "repeated", lacks: why }, effects: [{ kind: "restart" }] };
}

/** Undefined when this is a process of the wanted version with a session. */
function lackOf(state: Watching, seen: Seen, wanted: string): string | undefined {
  if (seen.kind === "nothing") return seen.why;
  const { pid, runs, greeted } = seen;
  // Where the system does not tell what a process was started from, another process than before has to do.
  const isOther = state.at === "trying" && runs === undefined && pid === state.plan.oldPid;
  if (isOther || (runs !== undefined && runs !== wanted)) return `process ${pid} still runs ${runs ?? "as before"}`;
  return greeted ? undefined : `process ${pid} runs, and has no session with a node`;
}
