// A node with many agents is ended and started again: how soon 95 % and 100 % of them have a session, counted from the first
// TCP connect it takes, what its event loop and the database bear, and what the agents are told. Agents come back by their
// own back-off. Floor of the same run: connects per second of bare mTLS WebSockets from the same client, 64 dials at a time.
import { agentCounts, dialsAtOnce, FleetSite, type FleetProcess } from "./fleet-site.ts";
import { cpuMs, postgresMs } from "./measure.ts";
import { report, round, type Answer } from "./result.ts";

const floorConnections = 1_000;

/** Connects per second of the bare server. */
async function floor(site: FleetSite, agents: number) {
  const bare = await site.startBare();
  const fleet = site.startFleet({ agents, address: bare.address, peer: "bare" });
  try {
    await fleet.ask({ ask: "state" });
    const before = { server: cpuMs(bare.pid), client: cpuMs(fleet.pid) };
    const { tookMs = Number.NaN, connected, errors } = await fleet.ask({ ask: "start", atOnce: dialsAtOnce });
    if (connected !== agents) throw new Error(`${connected} of ${agents} bare connections: ${JSON.stringify(errors)}`);
    const used = { server: cpuMs(bare.pid) - before.server, client: cpuMs(fleet.pid) - before.client };
    return {
      connections: agents,
      connectsPerSecond: Math.round((agents / tookMs) * 1_000),
      serverCpuMsPerConnect: round(used.server / agents),
      clientCpuMsPerConnect: round(used.client / agents),
    };
  } finally {
    await fleet.stop();
    await bare.stop();
  }
}

interface Storm {
  readonly agents: number;
  readonly signal: "SIGTERM" | "SIGKILL";
  readonly floorPerSecond: number;
}

async function storm(site: FleetSite, fleet: FleetProcess, { agents, signal, floorPerSecond }: Storm) {
  const endedAtMs = Date.now();
  await site.endNode(signal);
  await fleet.until(({ connected }) => connected === 0, 30_000);
  await fleet.ask({ ask: "watch" });
  const transactionsBefore = await site.transactions();
  const postgresBefore = postgresMs(site.postgresPid);
  const fleetBefore = cpuMs(fleet.pid);
  await site.startNode();
  // Read once to forget the start itself: the next reading is of the storm.
  await site.metric("holdfast_process_event_loop_delay_seconds");
  const state = await fleet.until(({ connected }) => connected === agents, 300_000);
  const loopSeconds = await site.metric("holdfast_process_event_loop_delay_seconds");
  const { listenedAtMs = Number.NaN, reached95Ms = Number.NaN, reached100Ms = Number.NaN } = state;
  const { dials, heldBack, errors, whileDown } = state;
  // The node's own start is in its figure: about 1 s of CPU, shared by all.
  const cpu = {
    server: cpuMs(site.node.program.pid),
    postgres: postgresMs(site.postgresPid) - postgresBefore,
    agents: cpuMs(fleet.pid) - fleetBefore,
  };
  await settled();
  const presence = await presenceWrites(site);
  const transactions = (await site.transactions()) - transactionsBefore;
  const perSecond = (agents / reached100Ms) * 1_000;
  return {
    agents,
    endedBy: signal,
    downMs: Math.round(listenedAtMs - endedAtMs),
    reached95Ms: Math.round(reached95Ms),
    reached100Ms: Math.round(reached100Ms),
    connectsPerSecond: { until95: Math.round((agents * 950) / reached95Ms), until100: Math.round(perSecond) },
    ofFloor: {
      until95: round((agents * 950) / reached95Ms / floorPerSecond),
      until100: round(perSecond / floorPerSecond),
    },
    eventLoopDelayP99Ms: round(loopSeconds * 1_000),
    dials,
    heldBack,
    errors,
    errorsInAll: Object.values(errors).reduce((sum, count) => sum + count, 0),
    whileDown,
    refusedByNode: await site.metricByLabels("holdfast_gateway_connects_refused_total"),
    presence: { ...presence, perAgent: round(presence.statements / agents) },
    transactions: { inAll: transactions, perAgent: round(transactions / agents) },
    cpuMsPerConnect: Object.fromEntries(Object.entries(cpu).map(([who, ms]) => [who, round(ms / agents)])),
  };
}

/** Once, whatever repeats are asked for: each storm is one of two already, and of some minutes. */
function answersOf(found: Awaited<ReturnType<typeof storm>>, floorPerSecond: number): Answer[] {
  const named = `${found.agents.toLocaleString("en")} agents return after ${found.endedBy}`;
  const bare = { what: "bare mTLS WebSocket connects, 64 at a time", values: [floorPerSecond] };
  const { until95, until100 } = found.connectsPerSecond;
  return [
    { question: `${named}: connects a second until 95 %`, unit: "/s", values: [until95], floor: bare },
    { question: `${named}: connects a second until 100 %`, unit: "/s", values: [until100], floor: bare },
    { question: `${named}: until 100 % have a session`, unit: "ms", values: [found.reached100Ms] },
    { question: `${named}: errors`, unit: "", values: [found.errorsInAll] },
    { question: `${named}: event loop delay, p99`, unit: "ms", values: [found.eventLoopDelayP99Ms] },
  ];
}

/** Sessions of the database report their transactions once a second. */
const settleMs = 2_500;
function settled(): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, settleMs));
}

/** By the new node's own count, and by the rows: how many transactions wrote the versions that stand there now. */
async function presenceWrites(site: FleetSite) {
  const { rows } = await site.database.query<{ rows: string; writers: string }>(
    "select count(*) as rows, count(distinct xmin::text) as writers from presence",
  );
  return {
    statements: (await site.metricByLabels("holdfast_database_seconds_count"))['verb="write-presence"'] ?? 0,
    rows: Number(rows[0]?.rows),
    writersOfRows: Number(rows[0]?.writers),
  };
}

const counts = agentCounts([1_000, 5_000]);
const site = await FleetSite.create(Math.max(...counts));
try {
  const bare = await floor(site, Math.min(floorConnections, Math.max(...counts)));
  const storms: Awaited<ReturnType<typeof storm>>[] = [];
  for (const agents of counts) {
    const fleet = site.startFleet({ agents, address: `127.0.0.1:${site.node.agentPort}`, peer: "node" });
    await fleet.ask({ ask: "start", atOnce: dialsAtOnce / 2 });
    for (const signal of ["SIGTERM", "SIGKILL"] as const)
      storms.push(await storm(site, fleet, { agents, signal, floorPerSecond: bare.connectsPerSecond }));
    await fleet.stop();
  }
  const answers = storms.flatMap((one) => answersOf(one, bare.connectsPerSecond));
  report("reconnect-storm", answers, { floor: bare, storms });
} finally {
  await site.end();
}
