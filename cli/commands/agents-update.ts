// `holdfast agents update`: brings agents to the executable that the nodes serve, in waves. Reads what is asked, shows a row
// for each agent, and exits by what came of it; cli/rollout/ does it.
import type { Command } from "commander";
import type { Holdfast } from "../../sdk/holdfast.ts";
import type { AgentView } from "../../shared/api/agents.ts";
import { pageLimits } from "../../shared/api/page.ts";
import { parseSelector } from "../../shared/api/selector.ts";
import { queueTimeoutBounds } from "../../shared/api/submissions.ts";
import { systemClock } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import { limits } from "../../shared/task.ts";
import { clientUrl, openClient, type ClientOptions } from "../client.ts";
import { command, type CommandContext } from "../command.ts";
import { exitCodeOfInterrupt, exitCodes } from "../exit-code.ts";
import { durationOption, jsonOption, option, parseCount, urlOptions } from "../option.ts";
import { counted, note, printJson, printTable } from "../output.ts";
import { judgeAgent, type AgentRow } from "../rollout/judge.ts";
import { rollOut, type RolloutReport } from "../rollout/rollout.ts";
import type { WaveSize } from "../rollout/waves.ts";
import type { Shell } from "../shell.ts";

interface UpdateFlags extends ClientOptions {
  readonly on?: readonly string[];
  readonly wave: WaveSize;
  readonly failures: number;
  readonly pause: number;
  readonly wait?: number;
  readonly server?: readonly string[];
  readonly greetWithin: number;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

/** How long an agent that was connected a moment ago may take to begin. */
const beginMs = 60_000;

export function updateAgentsCommand({ shell, finish }: CommandContext): Command {
  return command("update", {
    summary: "bring agents to the executable that the nodes serve: one first, then in waves while few enough fail",
    options: [
      option({
        flags: "--on <selector>",
        description: "agents: names (web-01,web-02), labels (role=web,!canary) or '*'",
        kind: "act",
        repeatable: "repeatable",
      }),
      option({
        flags: "--wave <size>",
        description: "agents at once after the first one: a number, or a share of those to be updated, rounded down",
        kind: "act",
        parse: parseWave,
        fallback: { value: { kind: "share", percent: 10 } satisfies WaveSize, shown: "10%" },
      }),
      option({
        flags: "--failures <count>",
        description: "stop before the next wave when more than so many have failed",
        kind: "act",
        parse: parseFailures,
        fallback: { value: 0, shown: "0" },
      }),
      durationOption({
        flags: "--pause <duration>",
        description: "wait between waves",
        kind: "act",
        fallback: { value: 0, shown: "0" },
      }),
      durationOption({
        flags: "--wait <duration>",
        description: "take agents that are offline too, and give each so long to begin (else they are skipped)",
        kind: "act",
      }),
      option({
        flags: "--server <url>",
        description: "API address as the agents reach it, for the download (else --url; repeatable: tried in order)",
        kind: "act",
        repeatable: "repeatable",
      }),
      durationOption({
        flags: "--greet-within <duration>",
        description: "time for the new version to have a session with a node, 1s to 4m",
        kind: "act",
        fallback: { value: 60_000, shown: "1m" },
      }),
      option({ flags: "--dry-run", description: "show what would be done", kind: "act" }),
      jsonOption(),
      ...urlOptions(),
    ],
    examples: [
      ["holdfast agents update --on role=web --dry-run", "which are behind, and which cannot be updated"],
      ["holdfast agents update --on '*' --wave 20% --failures 2 --pause 5m", "the whole fleet, with care"],
    ],
  }).action(async (flags: UpdateFlags) => finish(await update(shell, flags)));
}

async function update(shell: Shell, flags: UpdateFlags): Promise<number> {
  const on = (flags.on ?? []).join(",");
  if (on === "")
    throw new AppError("config.invalid", "it is not said which agents to update", { mend: "Give --on; '*' is all." });
  const { wait, greetWithin } = flags;
  refuseBeyond("--greet-within", greetWithin, { leastMs: 1_000, mostMs: limits.greetMs });
  if (wait !== undefined) refuseBeyond("--wait", wait, queueTimeoutBounds);
  const client = await openClient(shell, flags);
  const [agents, sums] = await Promise.all([listAll(client, on), client.agents.executables()]);
  refuseUnknown(on, agents);
  const selection = { sums, offline: wait === undefined ? "skip" : "wait" } as const;
  // Those that are connected first: who waits for the others should not have to wait with these.
  const rows = agents
    .toSorted((one, other) => Number(one.connection === "offline") - Number(other.connection === "offline"))
    .map((agent) => judgeAgent(agent, selection));
  if (flags.dryRun === true) {
    await show(shell, flags, { outcome: "planned", rows });
    return exitCodes.done;
  }
  const servers = await downloadFrom(shell, flags);
  const report = await rollOut(
    { client, shell, clock: systemClock, tell: (line) => note(shell, line) },
    {
      rows,
      sums,
      servers,
      wave: flags.wave,
      failures: flags.failures,
      pauseMs: flags.pause,
      greetMs: greetWithin,
      queueTimeoutMs: wait ?? beginMs,
    },
  );
  await show(shell, flags, { outcome: outcomes[report.why], rows: report.rows });
  await note(shell, summary(report));
  if (report.error !== undefined) throw report.error;
  return exitCodeOf(report);
}

const outcomes = {
  done: "done",
  failures: "stopped",
  interrupted: "interrupted",
  left: "left",
  broken: "broken-off",
} as const;

async function listAll(client: Holdfast, on: string): Promise<AgentView[]> {
  const agents: AgentView[] = [];
  let cursor: string | undefined;
  do {
    const page = await client.agents.list({ on, limit: pageLimits.most, cursor });
    agents.push(...page.items);
    cursor = page.next ?? undefined;
  } while (cursor !== undefined);
  // The API lists the newest first; a person counts from the oldest.
  return agents.toReversed();
}

function refuseUnknown(on: string, agents: readonly AgentView[]): void {
  const selector = parseSelector(on);
  if (selector.kind === "names") {
    const missing = selector.names.find((name) => !agents.some((agent) => agent.name === name || agent.id === name));
    if (missing !== undefined) throw new AppError("agent.unknown", `no active agent is called ${missing}`);
  }
  if (agents.length === 0) throw new AppError("selector.empty", `no active agent is meant by ${on}`);
}

async function downloadFrom(shell: Shell, flags: UpdateFlags): Promise<readonly string[]> {
  const given = (flags.server ?? []).map((url) => url.replace(/\/+$/, ""));
  if (given.length > 0) return given;
  const url = (await clientUrl(shell, flags)).replace(/\/+$/, "");
  if (/^https?:\/\/(?:127\.|localhost\b|\[::1\])/.test(url))
    await note(shell, `agents download from ${url}, which only those on this machine reach: --server says another`);
  return [url];
}

async function show(
  shell: Shell,
  flags: UpdateFlags,
  { outcome, rows }: { readonly outcome: string; readonly rows: readonly AgentRow[] },
): Promise<void> {
  if (flags.json === true) return printJson(shell.out, { outcome, agents: rows });
  await printTable(shell.out, rows, [
    { title: "AGENT", cell: ({ name }) => name },
    { title: "FROM", cell: ({ from }) => from },
    { title: "TO", cell: ({ to }) => to },
    { title: "WAVE", cell: ({ wave }) => wave },
    { title: "STATE", cell: ({ state }) => state },
    { title: "REASON", cell: ({ reason }) => reason },
  ]);
}

function summary({ why, rows }: RolloutReport): string {
  const counts = new Map<string, number>();
  for (const { state } of rows) counts.set(state, (counts.get(state) ?? 0) + 1);
  const words = [...counts].map(([state, count]) => `${count} ${state}`).join(", ");
  const untouched = rows.filter(({ state }) => state === "untouched").map(({ name }) => name);
  const rest = untouched.length === 0 ? "" : `; left as they were: ${untouched.join(", ")}`;
  const begin = {
    done: counted(rows.length, "agent"),
    failures: "stopped, too many failed",
    interrupted: "stopped as asked; the same command goes on from here",
    left: "left; updates that are under way go on",
    broken: "broken off; updates that are under way go on",
  }[why];
  return `${begin}: ${words}${rest}`;
}

/** 69 as for a registration that reached only some nodes: the same command may do the rest later. */
function exitCodeOf({ why, interrupt, rows }: RolloutReport): number {
  const has = (...states: readonly AgentRow["state"][]): boolean => rows.some(({ state }) => states.includes(state));
  if (why === "failures") return exitCodes.failed;
  if ((why === "interrupted" || why === "left") && interrupt !== undefined) return exitCodeOfInterrupt(interrupt);
  if (has("failed", "refused")) return exitCodes.failed;
  return has("offline") ? exitCodes.unreachable : exitCodes.done;
}

function parseWave(text: string): WaveSize {
  const [, digits = "", percent] = /^(\d{1,6})(%?)$/.exec(text) ?? [];
  const number = Number(digits);
  if (digits === "" || number < 1 || (percent === "%" && number > 100))
    throw new AppError("config.invalid", `"${text}" is neither a number from 1 nor a share from 1% to 100%`);
  return percent === "%" ? { kind: "share", percent: number } : { kind: "count", count: number };
}

function parseFailures(text: string): number {
  return text === "0" ? 0 : parseCount(text);
}

function refuseBeyond(
  flag: string,
  ms: number,
  { leastMs, mostMs }: { readonly leastMs: number; readonly mostMs: number },
): void {
  if (ms < leastMs || ms > mostMs)
    throw new AppError("config.invalid", `${flag}: expected ${leastMs / 1_000} s to ${mostMs / 1_000} s, saw ${ms} ms`);
}
