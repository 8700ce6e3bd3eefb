// The tables as SQL has them and as the model has them, in one form, column by column. A column or table that is neither
// compared nor named here as outside the model fails the test: a migration cannot add one unseen.
import { logRowBytes } from "../../../server/store/append-log.ts";
import { isDeepStrictEqual } from "node:util";
import type { Database } from "../../../server/store/connection.ts";
import { streams } from "../../../shared/task.ts";
import type { ModelDatabase } from "../../simulation/model/database.ts";

export type Row = Readonly<Record<string, unknown>>;
export type Tables = Readonly<Record<string, readonly Row[]>>;

interface Compared {
  /** Primary key: the order of the rows. */
  readonly key: readonly string[];
  /** Columns that the model does not have, because no courier's verb reads them. */
  readonly outside: readonly string[];
  readonly columns: readonly string[];
  readonly rows: (db: ModelDatabase) => Row[];
}

function columns<Source>(
  sources: (db: ModelDatabase) => readonly Source[],
  values: Readonly<Record<string, (row: Source) => unknown>>,
): Pick<Compared, "columns" | "rows"> {
  const entries = Object.entries(values);
  return {
    columns: Object.keys(values),
    rows: (db) => sources(db).map((row) => Object.fromEntries(entries.map(([column, value]) => [column, value(row)]))),
  };
}

const compared: Readonly<Record<string, Compared>> = {
  agent: {
    key: ["id"],
    outside: ["labels", "version", "host", "capabilities", "created_at"],
    ...columns((db) => [...db.agents.rows.values()], {
      id: (row) => row.id,
      name: (row) => row.name,
      status: (row) => row.status,
      status_reason: (row) => row.statusReason,
      boot_counter: (row) => row.bootCounter,
      boot_id: (row) => row.bootId,
      journal_id: (row) => row.journalId,
      retired_journals: (row) => row.retiredJournals,
      last_seen_at: (row) => row.lastSeenAtMs,
      refused_boot_id: (row) => row.refusedBootId,
      refused_at: (row) => row.refusedAtMs,
      removed_at: (row) => row.removedAtMs ?? null,
      paused: (row) => row.isPaused ?? false,
      slots: (row) => row.slots ?? null,
    }),
  },
  submission: {
    key: ["id"],
    outside: ["client_address", "task_count", "created_at"],
    ...columns((db) => [...db.submissions.rows.values()], {
      id: (row) => row.id,
      principal: (row) => row.principal,
      idempotency_key: (row) => row.idempotencyKey,
      body_sha256: (row) => `\\x${row.bodySha256}`,
    }),
  },
  task: {
    key: ["id"],
    outside: ["secret_names", "summary"],
    ...columns((db) => [...db.tasks.rows.values()], {
      id: (row) => row.id,
      submission_id: (row) => row.submission,
      agent_id: (row) => row.agent,
      lane: (row) => row.lane,
      spec: (row) => row.spec,
      grace_ms: (row) => row.graceMs,
      lock_name: (row) => row.lockName,
      lock_mode: (row) => row.lockMode,
      unreachable_limit_ms: (row) => row.unreachableLimitMs,
      created_at: (row) => row.createdAtMs,
      expires_at: (row) => row.expiresAtMs,
    }),
  },
  attempt: {
    key: ["id"],
    outside: [],
    ...columns((db) => [...db.attempts.rows.values()], {
      id: (row) => row.id,
      task_id: (row) => row.task,
      agent_id: (row) => row.agent,
      number: (row) => row.number,
      lane: (row) => row.lane,
      rank: (row) => row.rank,
      state: (row) => row.state,
      reason: (row) => row.reason,
      band: (row) => row.band,
      queue_no: (row) => row.queueNo,
      offer_no: (row) => row.offerNo,
      journal_id: (row) => row.journalId,
      offered_by: (row) => row.offeredBy,
      offer_until: (row) => row.offerUntilMs,
      unanswered: (row) => row.unanswered,
      cancel_requested: (row) => row.cancelRequested,
      home_node: (row) => row.homeNode,
      exit_code: (row) => row.exitCode,
      signal: (row) => row.signal,
      result: (row) => row.result,
      result_sha256: (row) => (row.resultSha256 === null ? null : `\\x${row.resultSha256}`),
      created_at: (row) => row.createdAtMs,
      accepted_at: (row) => row.acceptedAtMs,
      started_at: (row) => row.startedAtMs,
      finished_at: (row) => row.finishedAtMs,
      expires_at: (row) => row.expiresAtMs,
      progress_percent: (row) => row.progress?.percent ?? null,
      progress_message: (row) => row.progress?.message ?? null,
      progress_at: (row) => row.progress?.atMs ?? null,
    }),
  },
  attempt_log: {
    key: ["attempt_id"],
    outside: [],
    ...columns((db) => [...db.logs.rows.values()], {
      attempt_id: (row) => row.attempt,
      agent_id: (row) => row.agent,
      home_no: (row) => row.homeNo,
      closed: (row) => row.closed,
      out_next: (row) => row.next.out,
      err_next: (row) => row.next.err,
      stored_bytes: (row) =>
        [...row.chunks.out, ...row.chunks.err].reduce(
          (sum, { content }) => sum + logRowBytes + (content?.length ?? 0),
          0,
        ),
    }),
  },
  log_chunk: {
    key: ["attempt_id", "stream", "start_offset"],
    outside: [],
    ...columns(chunks, {
      attempt_id: (row) => row.attempt,
      stream: (row) => row.stream,
      start_offset: (row) => row.offset,
      length: (row) => row.length,
      seen_at: (row) => row.seenAtMs,
      content: (row) => (row.content === null ? null : `\\x${Buffer.from(row.content).toString("hex")}`),
    }),
  },
  late_result: {
    key: ["attempt_id", "result_sha256"],
    outside: [],
    ...columns((db) => [...db.lateResults.rows.values()], {
      attempt_id: (row) => row.attempt,
      result_sha256: (row) => `\\x${row.resultSha256}`,
      result: (row) => row.result,
      received_at: (row) => row.receivedAtMs,
    }),
  },
  presence: {
    key: ["agent_id", "node_id"],
    outside: ["round_trip_us"],
    ...columns((db) => [...db.presence.rows.values()], {
      agent_id: (row) => row.agent,
      node_id: (row) => row.node,
      node_boot_id: (row) => row.nodeBootId,
      since: (row) => row.sinceMs,
    }),
  },
  node: {
    key: ["id"],
    outside: ["version", "pending", "sessions"],
    ...columns((db) => [...db.nodes.rows.values()], {
      id: (row) => row.id,
      name: (row) => row.name,
      status: (row) => row.status,
      boot_id: (row) => row.bootId,
      addresses: (row) => row.addresses,
      draining: (row) => row.draining,
      drain: (row) => row.drain,
      task_cap: (row) => row.taskCap,
      active: (row) => row.active,
      settings_seen: (row) => row.settingsSeen,
      joined_at: (row) => row.joinedAtMs,
      started_at: (row) => row.startedAtMs,
      heartbeat_at: (row) => row.heartbeatAtMs,
    }),
  },
  cluster: {
    key: ["one"],
    outside: ["id", "name", "key_check", "created_at"],
    ...columns((db) => [...db.cluster.rows.values()], {
      one: () => 1,
      nodes_version: (row) => row.nodesVersion,
      paused: (row) => row.paused,
      settings_version: (row) => row.settingsVersion,
    }),
  },
};

function chunks(db: ModelDatabase) {
  return [...db.logs.rows.values()].flatMap(({ attempt, chunks: stored }) =>
    streams.flatMap((name, stream) => stored[name].map((chunk) => ({ attempt, stream, ...chunk }))),
  );
}

/** Trust, people's keys and their trail, and what a shorter look is taken from: other tests hold these. */
const outsideTables = [
  "abandoned_attempt",
  "agent_certificate",
  "api_key",
  "audit",
  "task_secret",
  "authority",
  "enrolment_token",
  "node_certificate",
  "refusal",
  "schema_version",
];

const names = Object.keys(compared);

const read = {
  name: "lab-read-tables",
  text: `select jsonb_build_object(${Object.entries(compared)
    .map(
      ([name, { key, outside }]) =>
        `'${name}', (select coalesce(jsonb_agg(to_jsonb(t) - '{${outside.join(",")}}'::text[] order by ${key.join(", ")}), '[]') from ${name} t)`,
    )
    .join(", ")}) as tables`,
};

/** Empties every table of a history and sets the clock. */
export const emptied = (startMs: number) => ({
  name: "",
  text: `${["audit", "abandoned_attempt", ...names.filter((name) => name !== "cluster").toReversed()].map((name) => `delete from ${name};`).join(" ")}
    update cluster set nodes_version = 1, paused = false, settings_version = 1;
    alter sequence attempt_queue_no restart;
    update lab.present set now_ms = ${startMs}`,
});

const isTime = (column: string): boolean => column.endsWith("_at") || column === "offer_until" || column === "since";

/** What a list of columns (table, column, type) has that this file does not know, and the other way round. */
export function unknownColumns(columns: readonly Row[]): string[] {
  const there = columns.map((row) => `${String(row["table_name"])}.${String(row["column_name"])}`);
  const model = names.flatMap((name) => columnsOf(name).map((column) => `${name}.${column}`));
  const isOutside = (found: string): boolean => outsideTables.some((table) => found.startsWith(`${table}.`));
  const untimed = columns
    .filter((row) => (row["data_type"] === "timestamp with time zone") !== isTime(String(row["column_name"])))
    .map((row) => `${String(row["table_name"])}.${String(row["column_name"])} and its type`);
  return [
    ...there.filter((found) => !model.includes(found) && !isOutside(found)),
    ...model.filter((found) => !there.includes(found)),
    ...untimed.filter((found) => !isOutside(found)),
  ];
}

function columnsOf(name: string): readonly string[] {
  return [...(compared[name]?.columns ?? []), ...(compared[name]?.outside ?? [])];
}

export async function sqlTables(database: Database): Promise<Tables> {
  const [found] = (await database.durable.query(read, [])) as { readonly tables: Record<string, Row[]> }[];
  return Object.fromEntries(
    Object.entries(found?.tables ?? {}).map(([name, rows]) => [name, rows.map((row) => timed(row))]),
  );
}

function timed(row: Row): Row {
  return Object.fromEntries(
    Object.entries(row).map(([column, value]) => [
      column,
      isTime(column) && typeof value === "string" ? Date.parse(value) : value,
    ]),
  );
}

export function modelTables(db: ModelDatabase): Tables {
  return Object.fromEntries(
    Object.entries(compared).map(([name, { key, rows }]) => [name, rows(db).toSorted((a, b) => byKey(key, a, b))]),
  );
}

function byKey(key: readonly string[], a: Row, b: Row): number {
  for (const column of key) {
    const [left, right] = [a[column], b[column]] as [string | number, string | number];
    if (left !== right) return left < right ? -1 : 1;
  }
  return 0;
}

/** The first few rows that differ, as text; empty when none does. */
export function differences(sql: Tables, model: Tables): string[] {
  return names.flatMap((name) => {
    const key = compared[name]?.key ?? [];
    const idOf = (row: Row): string => key.map((column) => String(row[column])).join("/");
    const left = new Map((sql[name] ?? []).map((row) => [idOf(row), row]));
    const right = new Map((model[name] ?? []).map((row) => [idOf(row), row]));
    return [...new Set([...left.keys(), ...right.keys()])].flatMap((id) => {
      const [one, other] = [left.get(id), right.get(id)];
      if (one === undefined) return [`${name} ${id}: the model has it, SQL has not`];
      if (other === undefined) return [`${name} ${id}: SQL has it, the model has not`];
      return Object.keys({ ...one, ...other })
        .filter((column) => !isDeepStrictEqual(one[column], other[column]))
        .map(
          (column) =>
            `${name} ${id}: ${column} is ${JSON.stringify(one[column])} in SQL, ${JSON.stringify(other[column])} in the model`,
        );
    });
  });
}
