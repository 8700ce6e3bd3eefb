// What an idle agent costs a node that holds it: memory and CPU of the server's process (and of PostgreSQL's), 30 s of pings
// after settling. Floor of the same run: a bare `ws` server in a process of its own, held by the same client in the same
// number with the same TLS and pings. Garbage is collected before each reading of memory, for a server that has just started
// still holds some; what stood there before the last collection is told too.
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { agentCounts, dialsAtOnce, FleetSite } from "./fleet-site.ts";
import { collectGarbage } from "./garbage.ts";
import { cpuMs, postgresMs, repeated, repeatsAsked, runningMs } from "./measure.ts";
import { report, round } from "./result.ts";

/** Longer than a full ping period (10 s), so that pings are spread as they stay. */
const settleMs = 15_000;
const holdMs = 30_000;

interface Held {
  readonly pid: number;
  readonly address: string;
  readonly peer: "node" | "bare";
  readonly agents: number;
  /** CPU time so far of what works for the server: PostgreSQL's. */
  readonly behindMs: () => number;
}

async function hold(site: FleetSite, { pid, address, peer, agents, behindMs }: Held) {
  const shares = async () => {
    const [server, database] = [runningMs(pid), behindMs()];
    await pause(holdMs);
    return { server: (runningMs(pid) - server) / holdMs, database: (behindMs() - database) / holdMs };
  };
  await collectGarbage(pid);
  await pause(settleMs);
  const empty = await shares();
  await collectGarbage(pid);
  const before = residentKiB(pid);
  const fleet = site.startFleet({ agents, address, peer });
  try {
    const cpuBefore = cpuMs(pid);
    const { connected } = await fleet.ask({ ask: "start", atOnce: dialsAtOnce / 2 });
    if (connected !== agents) throw new Error(`${connected} of ${agents} connected`);
    const connectCpuMs = cpuMs(pid) - cpuBefore;
    await pause(settleMs);
    const full = await shares();
    const found = residentKiB(pid);
    await collectGarbage(pid);
    const after = residentKiB(pid);
    const { connected: left, errors } = await fleet.ask({ ask: "state" });
    if (left !== agents) throw new Error(`${left} of ${agents} were left: ${JSON.stringify(errors)}`);
    const net = full.server - empty.server;
    return {
      rssKiBPerAgent: round((after - before) / agents),
      rssKiBPerAgentWithGarbage: round((found - before) / agents),
      rssMiB: { empty: round(before / 1_024), held: round(after / 1_024), heldWithGarbage: round(found / 1_024) },
      cpuMsPerConnect: round(connectCpuMs / agents),
      cpuSecondsPerAgentAndHour: round((net * 3_600) / agents),
      percentOfACore: { empty: percent(empty.server), held: percent(full.server) },
      percentOfACoreFor10000: percent((net * 10_000) / agents),
      postgresPercentOfACore: { empty: percent(empty.database), held: percent(full.database) },
    };
  } finally {
    await fleet.stop();
  }
}

const percent = (share: number): number => round(share * 100);

function residentKiB(pid: number): number {
  const found = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(found?.[1]);
}

const [agents = 1_000] = agentCounts([1_000]);
const site = await FleetSite.create(agents);
try {
  // Once: the node has held a fleet then, and its memory is not as it was.
  const runs = await repeated(repeatsAsked(1), async () => {
    const bareServer = await site.startBare();
    const bare = await hold(site, { ...bareServer, peer: "bare", agents, behindMs: () => 0 });
    await bareServer.stop();
    const node = await hold(site, {
      pid: site.node.program.pid,
      address: `127.0.0.1:${site.node.agentPort}`,
      peer: "node",
      agents,
      behindMs: () => postgresMs(site.postgresPid),
    });
    return { node, bare };
  });
  const what = "bare ws server, same TLS and pings";
  report(
    "idle-fleet",
    [
      {
        question: "memory of the node per idle agent",
        unit: "KiB",
        values: runs.map(({ node }) => node.rssKiBPerAgent),
        floor: { what, values: runs.map(({ bare }) => bare.rssKiBPerAgent) },
      },
      {
        question: "CPU of the node for 10,000 idle agents",
        unit: "% of a core",
        values: runs.map(({ node }) => node.percentOfACoreFor10000),
        floor: { what, values: runs.map(({ bare }) => bare.percentOfACoreFor10000) },
      },
    ],
    { agents, heldMs: holdMs, runs },
  );
} finally {
  await site.end();
}
