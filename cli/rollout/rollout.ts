// Carries out a rollout: has each wave's agents update themselves, follows their tasks to the end, and lets waves.ts say what
// comes next. The first Ctrl-C stops it after the wave that is under way, the second leaves at once: then agents go on alone.
// Invariant: once a wave may have begun there is a report, whatever fails, and it calls `running` what may be under way.
import type { Holdfast } from "../../sdk/holdfast.ts";
import type { RunHandle } from "../../sdk/run-handle.ts";
import type { Sums } from "../../shared/api/agent-updates.ts";
import { limits } from "../../shared/task.ts";
import type { Clock } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import type { Interrupt, Shell } from "../shell.ts";
import { judgeTask, versionOf, type AgentRow } from "./judge.ts";
import {
  beginWave,
  endWave,
  planRollout,
  stopRollout,
  type Rollout,
  type RolloutEnd,
  type WaveResult,
  type WaveSize,
} from "./waves.ts";

export interface RolloutRequest {
  readonly rows: readonly AgentRow[];
  readonly sums: Sums;
  readonly servers: readonly string[];
  readonly wave: WaveSize;
  readonly failures: number;
  readonly pauseMs: number;
  readonly greetMs: number;
  /** How long an agent may take to begin. */
  readonly queueTimeoutMs: number;
}

export interface RolloutDeps {
  readonly client: Pick<Holdfast, "agents">;
  readonly shell: Pick<Shell, "onInterrupt">;
  readonly clock: Pick<Clock, "sleep">;
  readonly tell: (line: string) => Promise<void>;
}

export interface RolloutReport {
  readonly why: RolloutEnd | "left" | "broken";
  /** What broke it off; only with `broken`. */
  readonly error: AppError | undefined;
  /** What asked it to stop. */
  readonly interrupt: Interrupt | undefined;
  readonly rows: readonly AgentRow[];
}

export async function rollOut(deps: RolloutDeps, request: RolloutRequest): Promise<RolloutReport> {
  const rows = new Map(request.rows.map((row) => [row.id, row]));
  const set = (id: string, change: Partial<AgentRow>): void => {
    const row = rows.get(id);
    if (row !== undefined) rows.set(id, { ...row, ...change });
  };
  let interrupt: Interrupt | undefined;
  const soon = new AbortController();
  const leave = new AbortController();
  const release = deps.shell.onInterrupt((signal) => {
    if (interrupt !== undefined) leave.abort(new AppError("aborted", "left at once"));
    interrupt ??= signal;
    soon.abort(new AppError("aborted", "to stop after this wave"));
    if (!leave.signal.aborted)
      void deps.tell("stopping after this wave (press Ctrl-C again to leave at once; agents then go on alone)");
  });
  const planned = request.rows.filter(({ state }) => state === "planned").map(({ id }) => id);
  const { wave, failures } = request;
  let rollout = planRollout({ agents: planned, wave, failures, waveAtMost: limits.tasksPerSubmission });
  try {
    while (rollout.at !== "ended") {
      if (rollout.at === "between" && rollout.waves > 0) await pause(deps, request.pauseMs, soon.signal);
      rollout = soon.signal.aborted ? stopRollout(rollout) : beginWave(rollout);
      if (rollout.at !== "wave") continue;
      const result = await runWave({ ...deps, rows, set, signal: leave.signal }, request, rollout);
      rollout = endWave(rollout, result, soon.signal.aborted ? "stop" : "go-on");
    }
    for (const id of rollout.untouched) set(id, { state: "untouched" });
    return { why: rollout.why, error: undefined, interrupt, rows: [...rows.values()] };
  } catch (cause) {
    const end = leave.signal.aborted
      ? { why: "left" as const, error: undefined }
      : { why: "broken" as const, error: AppError.from(cause) };
    for (const [id, row] of rows) {
      if (row.state === "planned") set(id, { state: row.wave === null ? "untouched" : "running" });
    }
    return { ...end, interrupt, rows: [...rows.values()] };
  } finally {
    release();
  }
}

async function pause({ clock }: RolloutDeps, pauseMs: number, signal: AbortSignal): Promise<void> {
  if (pauseMs === 0 || signal.aborted) return;
  await clock.sleep(pauseMs, signal).catch((cause: unknown) => {
    if (!signal.aborted) throw cause;
  });
}

interface WaveDeps extends RolloutDeps {
  readonly rows: ReadonlyMap<string, AgentRow>;
  readonly set: (id: string, change: Partial<AgentRow>) => void;
  readonly signal: AbortSignal;
}

/** Resolves once all have ended. */
async function runWave(
  deps: WaveDeps,
  { sums, servers, greetMs, queueTimeoutMs }: RolloutRequest,
  { running, waves }: Extract<Rollout, { at: "wave" }>,
): Promise<WaveResult> {
  const { client, rows, set, signal, tell } = deps;
  const names = running.map((id) => rows.get(id)?.name ?? id);
  // Beforehand: who leaves before the answer has come does not know that nothing was begun.
  for (const id of running) set(id, { wave: waves });
  await tell(`wave ${waves}: ${names.join(", ")}`);
  const begin = (agents: readonly string[]): Promise<RunHandle> =>
    client.agents.update({ agents: [...agents], sums, servers: [...servers], greetMs, queueTimeoutMs }, { signal });
  const handle = await beginWithout(deps, { running, waves }, begin);
  if (handle === undefined) return { failed: 0, updated: 0 };
  const idOf = new Map(running.map((id) => [rows.get(id)?.name, id]));
  const tasks = new Map(handle.tasks.map(({ id, agent }) => [id, idOf.get(agent) ?? agent]));
  for (const [task, id] of tasks) set(id, { task });
  const said = await lastErrors(handle, signal);
  let [failed, updated] = [0, 0];
  for (const task of await handle.results({ signal })) {
    const id = tasks.get(task.id) ?? task.agent;
    const judged = judgeTask(task, said.get(task.id));
    if (judged.state === "failed") failed += 1;
    if (judged.state === "updated") updated += 1;
    set(id, judged);
    const to = judged.state === "updated" ? await versionNow(deps, id) : undefined;
    if (to !== undefined) set(id, { to });
    await tell(`${task.agent}: ${judged.state}${judged.reason === null ? "" : `: ${judged.reason}`}`);
  }
  return { failed, updated };
}

/**
 * Has those of a wave begin that are still there; undefined when none is. Nothing of a wave is stored while one of its agents
 * is unknown, nor when it is refused for any reason that will not pass.
 */
async function beginWithout(
  deps: WaveDeps,
  { running, waves: number }: Pick<Extract<Rollout, { at: "wave" }>, "running" | "waves">,
  begin: (agents: readonly string[]) => Promise<RunHandle>,
): Promise<RunHandle | undefined> {
  const { set, signal } = deps;
  let left = running;
  while (left.length > 0) {
    try {
      return await begin(left);
    } catch (cause) {
      const error = AppError.from(cause);
      if (isRefusal(error) && !signal.aborted) for (const id of left) set(id, { wave: null });
      if (error.code !== "agent.unknown") throw cause;
      const gone = await goneOf(deps, left);
      // Unknown to one node and known to the next: who asks again would ask for ever.
      if (gone.size === 0) throw cause;
      left = left.filter((id) => !gone.has(id));
      for (const id of left) set(id, { wave: number });
    }
  }
  return undefined;
}

/** An answer that nothing was stored; a node that met an error of its own proves nothing. */
function isRefusal({ code, retryable }: AppError): boolean {
  return !retryable && code !== "internal";
}

async function goneOf({ client, rows, set, tell }: WaveDeps, agents: readonly string[]): Promise<ReadonlySet<string>> {
  const gone = new Set<string>();
  for (const id of agents) {
    const status = await client.agents.show(id).then(
      (agent) => agent.status,
      (cause: unknown) => {
        if (AppError.from(cause).code !== "agent.unknown") throw cause;
        return "removed";
      },
    );
    if (status === "active") continue;
    gone.add(id);
    set(id, { state: "gone", reason: `it is ${status}`, to: null });
    await tell(`${rows.get(id)?.name ?? id}: gone: it is ${status}`);
  }
  return gone;
}

/** For show: that it was updated its task has said. */
async function versionNow({ client }: WaveDeps, id: string): Promise<string | null | undefined> {
  try {
    return versionOf(await client.agents.show(id));
  } catch {
    return undefined;
  }
}

/** As `holdfast agent update` prints them: `holdfast: message (code)`, then the mend. */
async function lastErrors(handle: RunHandle, signal: AbortSignal): Promise<ReadonlyMap<string, string>> {
  const said = new Map<string, string>();
  for await (const { taskId, stream, text } of handle.log({ signal })) {
    const message = /^holdfast: (.+ \([a-z-]+\.[a-z-]+\))$/.exec(text)?.[1];
    if (stream === "err" && message !== undefined) said.set(taskId, message);
  }
  return said;
}
