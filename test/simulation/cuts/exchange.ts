// One quiet exchange between an agent and a node, over the bytes of real WebSocket frames: greeting, a script with both
// streams, one that is cancelled, one that is refused, results, acknowledgements, one more script, and an orderly end.
// Nothing goes wrong in it but the one cut it is asked for. What must be the same whatever was cut is its end.
import { decodeRecord } from "../../../agent/journal-record.ts";
import { scanJournal } from "../../../agent/journal-frame.ts";
import { applyRecord, emptyJournalState } from "../../../agent/journal-state.ts";
import { taskIdSchema, type TaskId } from "../../../shared/ids.ts";
import { streams, type Stream, type TaskSpec } from "../../../shared/task.ts";
import type { ByteCut, ByteGate, Direction } from "../byte-cut.ts";
import { principal } from "../client.ts";
import { checkHistory } from "../invariants.ts";
import { Trace } from "../kernel/trace.ts";
import type { AttemptRow } from "../model/rows.ts";
import type { SimOptions } from "../options.ts";
import { bytesAt, sha256At, specOf } from "../script.ts";
import { Simulation } from "../simulation.ts";

/** Longest time an exchange may take, simulated; one that hangs ends here, and its end says how it stood. */
const limitMs = 400_000;
const lookMs = 75;
/** By then the connection of an undisturbed run was pinged once: ping and pong are bytes too. */
const pingedMs = 11_000;
const output = { out: 120, err: 50 };

const quiet: Omit<SimOptions, "seed"> = {
  nodes: 1,
  agents: 1,
  submissions: 0,
  faultMs: limitMs,
  faults: {},
  latencyMs: { least: 0.2, most: 6 },
  slots: 3,
  waitingAtMost: 2,
  // What is acknowledged is forgotten at the next tick: nothing but the row remembers it.
  keepAcknowledgedMs: 100,
  compactBytes: 1_000_000,
  longestScriptMs: 0,
  slowestShimMs: 15,
  shimDeath: 0,
  failure: 0,
  slowestSyncMs: 3,
  bounds: { headBytes: 150_000, tailBytes: 100_000 },
  cancels: 0,
  abandons: 0,
  retries: 0,
  bursts: 0,
  noOps: 0,
  isolated: 0,
  shortLimits: 0,
  impatience: 0,
  hintLoss: 0,
  database: { breakBefore: 0, breakAfter: 0, commitLate: 0, conflict: 0, slowestMs: 4 },
};

const plan = { runMs: 450, exitCode: 7, ...output, pieces: 3, onTerm: "die", childMs: 0, tag: 0 } as const;
const limits = { timeoutMs: 3_600_000, graceMs: 500 };
const script = specOf(plan, limits);
/** Would run for an hour; says all it has to say at once. */
const endless = specOf({ ...plan, runMs: 3_000_000, pieces: 1, pieceMs: 40, tag: 1 }, limits);
const refused: TaskSpec = { ...script, interpreter: "missing" } as TaskSpec;
const last = specOf({ ...plan, exitCode: 0, out: 30, err: 0, pieces: 1, tag: 2 }, limits);

interface AttemptEnd {
  readonly state: string;
  readonly reason: string;
  readonly rank: number;
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly isCancelRequested: boolean;
  /** Outcome and streams as the agent told them; the digests, when they are those of what the script wrote. */
  readonly told: readonly [outcome: string, out: number, err: number, digests: "right" | "wrong"] | undefined;
  readonly isLogClosed: boolean;
  /** Bytes stored of each stream, and whether they are those the script wrote. */
  readonly log: Readonly<Record<Stream, readonly [length: number, content: "right" | "wrong"]>>;
  readonly starts: number;
}

/** What is left when all is over. Ids are left out, and what may differ: times, home and offer numbers. */
export interface ExchangeEnd {
  readonly tasks: readonly { readonly name: string; readonly attempts: readonly AttemptEnd[] }[];
  readonly submissions: number;
  readonly lateResults: number;
  readonly agent: readonly [status: string, bootCounter: number | null, retiredJournals: number];
  readonly sessions: number;
  readonly presence: number;
  readonly journal: {
    readonly open: number;
    readonly acknowledged: number;
    readonly closed: readonly (readonly [task: string, refusal: string | undefined])[];
    readonly boot: number | undefined;
  };
  readonly files: readonly string[];
  readonly folders: number;
  readonly violations: readonly string[];
}

export interface ExchangeRun {
  readonly end: ExchangeEnd;
  /** Bytes that went through the first connection. */
  readonly passed: Readonly<Record<Direction, number>>;
  /** How many had gone when each frame began. */
  readonly frames: Readonly<Record<Direction, readonly number[]>>;
  readonly isCut: boolean;
  readonly connections: number;
  readonly simulatedMs: number;
  readonly hash: string;
}

/** Plays the exchange; the first connection is cut where asked. */
export async function runExchange(seed: number, cut?: ByteCut, onLine?: (line: string) => void): Promise<ExchangeRun> {
  const trace = new Trace(onLine);
  const exchange = new Exchange(new Simulation({ ...quiet, seed }, trace), cut);
  const end = await exchange.run();
  const { gate, connections, sim } = exchange;
  return {
    end,
    passed: gate?.passed ?? { toNode: 0, toAgent: 0 },
    frames: gate?.frames ?? { toNode: [], toAgent: [] },
    isCut: gate?.isCut ?? false,
    connections,
    simulatedMs: Math.round(sim.world.nowMs),
    hash: trace.hash,
  };
}

class Exchange {
  readonly sim: Simulation;
  gate: ByteGate | undefined;
  connections = 0;
  readonly #names = new Map<TaskId, string>();
  #stage: "working" | "going on" | "forgetting" | "closing" | "over" = "working";
  #isCancelled = false;

  constructor(sim: Simulation, cut: ByteCut | undefined) {
    this.sim = sim;
    sim.network.onConnection = (connection) => {
      this.connections += 1;
      const gate = connection.carryBytes(this.gate === undefined ? cut : undefined);
      this.gate ??= gate;
    };
  }

  async run(): Promise<ExchangeEnd> {
    const { world, nodes, agents } = this.sim;
    for (const node of nodes) node.start();
    for (const agent of agents) agent.start();
    world.schedule(1_500, () => this.#submit("key-1", { script, endless, refused }));
    world.schedule(1_500, () => this.#look());
    const violations: string[] = [];
    try {
      await world.run(limitMs, () => this.#stage === "over");
    } catch (cause) {
      violations.push(String(cause));
    }
    return this.#end(violations);
  }

  #submit(key: string, work: Readonly<Record<string, TaskSpec>>): void {
    const { truth, nodes, agents } = this.sim;
    const [node] = nodes;
    const name = agents[0]?.options.name ?? "";
    truth.invoked.add(key);
    const items = Object.values(work).map((spec) => ({ on: name, spec }));
    const request = { key, digest: "00", work: { items }, lane: "work" } as const;
    node?.process?.schedule(0, () => {
      node.submit({ ...request, queueTimeoutMs: undefined, unreachableLimitMs: undefined }, principal).then(
        ({ id, tasks }) => {
          const ids = tasks.map((task) => taskIdSchema.parse(task.id));
          truth.acked.set(key, { key, submission: id, tasks: ids.toSorted() });
          for (const [index, title] of Object.keys(work).entries()) {
            const task = ids[index];
            if (task !== undefined) this.#names.set(task, title);
          }
        },
        (cause: unknown) => this.sim.world.fail(cause),
      );
    });
  }

  /** Whoever waits for the exchange: looks now and then, and does the next thing when its time has come. */
  #look(): void {
    const { world, agents, nodes, database } = this.sim;
    const [agent] = agents;
    const isFinal = (count: number): boolean => {
      const rows = [...database.model.attempts.rows.values()];
      return rows.length === count && rows.every(({ rank }) => rank === 9);
    };
    switch (this.#stage) {
      case "working":
        this.#cancelEndless();
        if (!isFinal(3) || world.nowMs < pingedMs) break;
        this.#stage = "going on";
        this.#submit("key-2", { last });
        break;
      case "going on":
        if (isFinal(4)) this.#stage = "forgetting";
        break;
      case "forgetting": {
        const state = agent?.journal?.state;
        if (state === undefined || state.open.size + state.acknowledged.size > 0) break;
        if ((agent?.machine.folders.size ?? 0) > 0) break;
        this.#stage = "closing";
        agent?.process?.schedule(0, () => void agent.stop());
        break;
      }
      case "closing": {
        const isGone = agent?.process === undefined && (nodes[0]?.couriers?.sessions.size ?? 0) === 0;
        if (isGone && database.model.presence.rows.size === 0) this.#stage = "over";
        break;
      }
      case "over":
    }
    world.schedule(lookMs, () => this.#look());
  }

  /** Once its script has said everything, so that the log is the same whenever the cancel arrives. */
  #cancelEndless(): void {
    if (this.#isCancelled) return;
    const { nodes, truth } = this.sim;
    const task = [...this.#names].find(([, name]) => name === "endless")?.[0];
    const row = task === undefined ? undefined : this.#rowsOf(task)[0];
    if (task === undefined || row === undefined || truth.scripts.get(row.id)?.produced.out !== output.out) return;
    this.#isCancelled = true;
    nodes[0]?.process?.schedule(0, () => void nodes[0]?.cancel(task));
  }

  #rowsOf(task: TaskId): AttemptRow[] {
    return [...this.sim.database.model.attempts.rows.values()].filter((row) => row.task === task);
  }

  #end(failures: readonly string[]): ExchangeEnd {
    const { database, truth, watch, agents, nodes } = this.sim;
    const { model } = database;
    const [agent] = agents;
    const row = agent === undefined ? undefined : model.agents.get(agent.options.agent);
    const named = [...this.#names].toSorted(([, a], [, b]) => (a < b ? -1 : 1));
    const nameOf = new Map(named.flatMap(([task, name]) => this.#rowsOf(task).map(({ id }) => [id, name] as const)));
    const files = agent?.machine.disk.snapshot() ?? new Map<string, Buffer>();
    const journal = emptyJournalState();
    for (const payload of scanJournal(files.get(agent?.journalPath ?? "") ?? Buffer.alloc(0)).payloads)
      applyRecord(journal, decodeRecord(payload));
    const violations = checkHistory({ db: model, truth, watch, agents, nodes, isOwed: () => true });
    return {
      tasks: named.map(([task, name]) => ({ name, attempts: this.#rowsOf(task).map((one) => this.#attemptEnd(one)) })),
      submissions: model.submissions.rows.size,
      lateResults: model.lateResults.rows.size,
      agent: [row?.status ?? "", row?.bootCounter ?? null, row?.retiredJournals.length ?? 0],
      sessions: nodes[0]?.couriers?.sessions.size ?? 0,
      presence: model.presence.rows.size,
      journal: {
        open: journal.open.size,
        acknowledged: journal.acknowledged.size,
        closed: [...journal.closed]
          .map(([attempt, refusal]) => [nameOf.get(attempt) ?? attempt, refusal?.reason] as const)
          .toSorted(([a], [b]) => (a < b ? -1 : 1)),
        boot: journal.boot?.counter,
      },
      files: [...files.keys()],
      folders: agent?.machine.folders.size ?? 0,
      violations: [...failures, ...violations],
    };
  }

  #attemptEnd({ id, result, ...row }: AttemptRow): AttemptEnd {
    const log = this.sim.database.model.logs.get(id);
    const stored = (stream: Stream): readonly [number, "right" | "wrong"] => {
      const content = Buffer.concat(
        (log?.chunks[stream] ?? []).map((chunk) => chunk.content ?? Buffer.from("omitted")),
      );
      const expected = bytesAt({ attempt: id, stream }, 0, content.length);
      return [content.length, Buffer.compare(content, expected) === 0 ? "right" : "wrong"];
    };
    const areDigestsRight = streams.every(
      (stream) => result?.[stream].sha256 === sha256At({ attempt: id, stream }, result?.[stream].length ?? 0),
    );
    return {
      state: row.state,
      reason: row.reason,
      rank: row.rank,
      exitCode: row.exitCode,
      signal: row.signal,
      isCancelRequested: row.cancelRequested,
      told:
        result === null
          ? undefined
          : [result.outcome, result.out.length, result.err.length, areDigestsRight ? "right" : "wrong"],
      isLogClosed: log?.closed ?? false,
      log: { out: stored("out"), err: stored("err") },
      starts: this.sim.truth.scripts.get(id)?.startsMs.length ?? 0,
    };
  }
}
