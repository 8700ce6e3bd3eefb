// What an idle agent costs a node that holds it: memory and CPU of the server's process (and of PostgreSQL's), 30 s of pings
// after settling. Floor of the same run: a bare `ws` server in a process of its own, held by the same client in the same
// number with the same TLS and pings. Both start fresh, so what connecting leaves behind counts in both.
import { readFileSync } from "node:fs";
import { agentCounts, dialsAtOnce, FleetSite } from "./fleet-site.ts";
import { cpuMs, descendants, report, round } from "./measure.ts";

/** Longer than a full ping period (10 s), so that garbage of the connects is gone and pings are spread as they stay. */
const settleMs = 15_000;
const holdMs = 30_000;
const emptyMs = 10_000;

interface Held {
  readonly pid: number;
  readonly address: string;
  readonly peer: "node" | "bare";
  readonly agents: number;
  /** Processes that work for the server: PostgreSQL's. */
  readonly behind: () => readonly number[];
}

async function hold(site: FleetSite, { pid, address, peer, agents, behind }: Held) {
  const behindMs = (): number => behind().reduce((sum, one) => sum + cpuMs(one), 0);
  const spent = async (forMs: number) => {
    const [server, database] = [cpuMs(pid), behindMs()];
    await pause(forMs);
    return { server: (cpuMs(pid) - server) / forMs, database: (behindMs() - database) / forMs };
  };
  await pause(5_000);
  const empty = await spent(emptyMs);
  const rssBefore = residentBytes(pid);
  const fleet = site.startFleet({ agents, address, peer });
  try {
    const cpuBefore = cpuMs(pid);
    const { connected } = await fleet.ask({ ask: "start", atOnce: dialsAtOnce / 2 });
    if (connected !== agents) throw new Error(`${connected} of ${agents} connected`);
    const connectCpuMs = (cpuMs(pid) - cpuBefore) / agents;
    await pause(settleMs);
    const full = await spent(holdMs);
    const rssAfter = residentBytes(pid);
    const after = await fleet.ask({ ask: "state" });
    if (after.connected !== agents)
      throw new Error(`${after.connected} of ${agents} were left: ${JSON.stringify(after)}`);
    const net = Math.max(0, full.server - empty.server);
    return {
      rssKiBPerAgent: round((rssAfter - rssBefore) / 1_024 / agents),
      rssMiB: { before: round(rssBefore / 2 ** 20), after: round(rssAfter / 2 ** 20) },
      cpuMsPerConnect: round(connectCpuMs),
      cpuSecondsPerAgentAndHour: round((net * 3_600) / agents),
      shareOfACore: { empty: round(empty.server), held: round(full.server), for10000: round((net * 10_000) / agents) },
      postgresShareOfACore: { empty: round(empty.database), held: round(full.database) },
    };
  } finally {
    await fleet.stop();
  }
}

function residentBytes(pid: number): number {
  const found = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(found?.[1]) * 1_024;
}

function pause(forMs: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, forMs));
}

const [agents = 1_000] = agentCounts([1_000]);
const site = await FleetSite.create(agents);
try {
  const bareServer = await site.startBare();
  const bare = await hold(site, { ...bareServer, agents, peer: "bare", behind: () => [] });
  await bareServer.stop();
  const node = await hold(site, {
    pid: site.node.program.pid,
    address: `127.0.0.1:${site.node.agentPort}`,
    peer: "node",
    agents,
    behind: () => [site.postgresPid, ...descendants(site.postgresPid)],
  });
  report("idle-fleet", {
    agents,
    heldMs: holdMs,
    node,
    floor: bare,
    ratioRss: round(node.rssKiBPerAgent / bare.rssKiBPerAgent),
  });
} finally {
  await site.end();
}
