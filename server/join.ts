// Judges, before a node touches anything, whether it may join: the database's version, its own version beside the live
// nodes', its clock beside the database's, and whether its data directory's node was removed. `join` gives a removed one
// a new identity; `start` refuses it.
import type { Clock } from "../shared/clock.ts";
import { AppError } from "../shared/errors.ts";
import type { IdSource, NodeId } from "../shared/ids.ts";
import { judgeClock, judgeVersion, type ClockSample } from "./cluster/join-checks.ts";
import { loadNodeId, renewNodeId } from "./enrolment/node-identity.ts";
import type { Database } from "./store/connection.ts";
import { readStanding } from "./store/read-standing.ts";
import { readDatabaseClock } from "./store/sweep-attempts.ts";

export interface JoinOptions {
  readonly dataDirectory: string;
  readonly version: string;
  /** `join` wants a cluster to be there and takes a new identity where the old one was removed. */
  readonly intent: "start" | "join";
}

/** DESIGN 8. */
const oldestPostgres = 150_000;
const clockSamples = 3;

/** The node's id. Throws `database.schema`, `node.clock`, `node.version`, `node.removed`, `config.invalid`. */
export async function judgeJoin(
  deps: { readonly database: Database; readonly ids: IdSource; readonly clock: Clock },
  { dataDirectory, version, intent }: JoinOptions,
): Promise<NodeId> {
  const sql = deps.database.durable;
  const node = await loadNodeId(deps.ids, dataDirectory);
  const { server, cluster, removed, others } = await readStanding(sql, node);
  if (server.version < oldestPostgres) {
    throw new AppError("database.schema", `the database is PostgreSQL ${server.text}; 15 or newer is needed`, {
      mend: "Upgrade the database server, or name another one with --database-url.",
    });
  }
  if (intent === "join" && !cluster) {
    throw new AppError("config.invalid", "the database holds no cluster to join", {
      mend: "Check --database-url; `holdfast server start` creates a cluster.",
    });
  }
  judgeVersion(version, others);
  const samples: ClockSample[] = [];
  for (let number = 0; number < clockSamples; number += 1) {
    const sentMs = deps.clock.wallMs();
    const databaseMs = await readDatabaseClock(sql);
    samples.push({ sentMs, databaseMs, receivedMs: deps.clock.wallMs() });
  }
  judgeClock(samples);
  if (!removed) return node;
  if (intent === "join") return await renewNodeId(deps.ids, dataDirectory);
  throw new AppError("node.removed", `node ${node} was removed from the cluster`);
}
