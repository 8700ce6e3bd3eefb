// `holdfast agent update`: fetches a version, has step.ts decide, and carries out what it says: the link, the restart, looks at
// the health line. Running scripts are not touched: a restart of the agent leaves them to its successor.
import { spawn } from "node:child_process";
import { existsSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { systemClock, type Clock } from "../../shared/clock.ts";
import { AppError, describeError } from "../../shared/errors.ts";
import { currentVersion, executableFolderOf, pointCurrent } from "../executable-folder.ts";
import { DataLock } from "../data-lock.ts";
import { readHealth } from "../health-reader.ts";
import { hostBootId } from "../host.ts";
import { createFetch } from "../proxied-fetch.ts";
import { ProxyRules } from "../proxy.ts";
import { loadReach } from "../reach.ts";
import { fetchVersion } from "./fetch-version.ts";
import { dropNote, hasNote, lockPathIn, readNote, writeNote } from "./note.ts";
import {
  stepUpdate,
  type Seen,
  type UpdateEffect,
  type UpdateEvent,
  type UpdateOutcome,
  type UpdateState,
} from "./step.ts";
import { takeTurn } from "./update-turn.ts";

export interface UpdateRequest {
  readonly server: string;
  readonly sha256: string | undefined;
  readonly dataPath: string;
  /** A shell command that restarts the agent, or `none`: the next start runs the new version, and nobody watches it. */
  readonly restart: { readonly kind: "command"; readonly line: string } | { readonly kind: "none" };
  readonly greetMs: number;
  /** Of proxies. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Path of this executable. */
  readonly executable?: string;
  /** Ends it before the switch; from then on it goes on until it has decided, forth or back. */
  readonly signal?: AbortSignal;
}

export type UpdateReport =
  | UpdateOutcome
  /** That version runs already. */
  | { readonly kind: "up-to-date"; readonly version: string }
  /** Without a restart: it was put in place for the next one. */
  | { readonly kind: "switched"; readonly version: string };

const lookMs = 500;

export async function updateAgent(
  request: UpdateRequest,
  tell: (line: string) => Promise<void>,
  clock: Clock = systemClock,
): Promise<UpdateReport> {
  const folder = executableFolderOf(request.executable ?? process.execPath)?.path;
  if (folder === undefined || !existsSync(join(folder, "current"))) {
    throw new AppError("service.unsupported", "this agent is no executable that install.sh put in place", {
      mend: "Update it the way it was installed; or install it with the node's install.sh, which keeps versions side by side.",
    });
  }
  const lock = new DataLock({ path: lockPathIn(folder), hostBootId: hostBootId() });
  await takeTurn(lock, { clock, tell, signal: request.signal });
  try {
    const { proxy } = await loadReach(request.dataPath);
    const fetch = createFetch(ProxyRules.read(proxy, request.environment));
    const to = await fetchVersion({ fetch, clock }, { ...request, folder });
    if (request.signal?.aborted === true) throw AppError.from(request.signal.reason);
    return await bringUp(folder, to, { request, tell, clock });
  } finally {
    await lock.stop();
  }
}

interface Tools {
  readonly request: UpdateRequest;
  readonly tell: (line: string) => Promise<void>;
  readonly clock: Clock;
}

async function bringUp(folder: string, to: string, { request, tell, clock }: Tools): Promise<UpdateReport> {
  const { restart, dataPath, greetMs } = request;
  // What an update that was cut off had found in place: the link may name a version that never greeted a node.
  const from = (await readNote(folder))?.from ?? (await currentVersion(folder));
  const before = await look(dataPath, clock);
  const isSame = from === to && (await currentVersion(folder)) === to;
  if (restart.kind === "none") {
    if (isSame) return { kind: "up-to-date", version: to };
    await pointCurrent(folder, to);
    await dropNote(folder);
    return { kind: "switched", version: to };
  }
  if (before.kind === "agent" && before.greeted && isSame && (before.runs ?? to) === to) {
    return { kind: "up-to-date", version: to };
  }
  if (!hasNote(folder)) refuseUnconnected(before);
  await tell(`${to} is in place beside ${from}; switching`);
  let state: UpdateState = { at: "start" };
  const pending: UpdateEvent[] = [];
  const act = async (effect: UpdateEffect): Promise<void> => {
    switch (effect.kind) {
      case "note":
        return writeNote(folder, effect);
      case "point":
        await tell(`current is ${effect.version}`);
        return pointCurrent(folder, effect.version);
      case "restart": {
        await tell("restarting the agent: running scripts go on");
        const why = await runLine(restart.line);
        if (why !== undefined) pending.push({ kind: "restart-failed", why, nowMs: clock.monotonicMs() });
        return;
      }
      case "forget-note":
        return dropNote(folder);
    }
  };
  const oldPid = before.kind === "agent" ? before.pid : undefined;
  pending.push({ kind: "begin", plan: { from, to, oldPid, greetMs }, nowMs: clock.monotonicMs() });
  for (;;) {
    const event = pending.shift() ?? (await nextLook(dataPath, clock));
    const step: ReturnType<typeof stepUpdate> = stepUpdate(state, event);
    if (step.state.at === "returning" && state.at === "trying")
      await tell(`${to}: ${step.state.why}; going back to ${from}`);
    state = step.state;
    for (const effect of step.effects) await act(effect);
    if (state.at === "ended") return state.outcome;
  }
}

function refuseUnconnected(before: Seen): void {
  if (before.kind === "agent" && before.greeted) return;
  const why = before.kind === "agent" ? `process ${before.pid} has no session with a node` : before.why;
  throw new AppError(
    "cluster.unreachable",
    `the agent is not connected now (${why}): nothing could tell a good version from a bad one`,
    {
      mend: "See `holdfast agent doctor`; or use --no-restart, and start the agent yourself.",
    },
  );
}

async function nextLook(dataPath: string, clock: Clock): Promise<UpdateEvent> {
  await clock.sleep(lookMs);
  return { kind: "seen", seen: await look(dataPath, clock), nowMs: clock.monotonicMs() };
}

async function look(dataPath: string, clock: Clock): Promise<Seen> {
  const answer = await readHealth(dataPath, { clock });
  if (answer.kind !== "line")
    return { kind: "nothing", why: answer.kind === "none" ? "no agent answers on its health socket" : answer.why };
  const { pid, sessions } = answer.line;
  return { kind: "agent", pid, runs: versionOf(pid), greeted: sessions.some((session) => session.state === "open") };
}

/** The folder's name of the version a process was started from, as Linux tells it to its user and to root. */
function versionOf(pid: number): string | undefined {
  try {
    return executableFolderOf(readlinkSync(`/proc/${pid}/exe`))?.version;
  } catch {
    return undefined;
  }
}

/** Undefined when it ended with 0, else why not. */
function runLine(line: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const child = spawn("/bin/sh", ["-c", line], { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => (said = (said + chunk.toString()).slice(-1_000)));
    child.on("error", (cause) => resolve(`the restart could not be run: ${describeError(cause)}`));
    child.on("exit", (code, signal) => {
      resolve(code === 0 ? undefined : `\`${line}\` ended with ${code ?? signal}: ${said.trim()}`);
    });
  });
}
