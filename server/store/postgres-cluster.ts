// What a node looks up and keeps current about the cluster, on PostgreSQL.
import type { Database } from "./connection.ts";
import { beatNode, joinNode, readNodeList } from "./membership.ts";
import { settlePresence } from "./presence.ts";
import { readCancels } from "./read-cancels.ts";
import { readDistrusted } from "./read-distrusted.ts";
import { readKnownWork, readWorkFeed } from "./read-work-feed.ts";
import type { ClusterStore } from "./store.ts";
import { readDatabaseClock, sweepAttempts } from "./sweep-attempts.ts";

export function createPostgresClusterStore({ durable, relaxed }: Pick<Database, "durable" | "relaxed">): ClusterStore {
  return {
    workFeed: (after) => readWorkFeed(durable, after),
    knownWork: (agents) => readKnownWork(durable, agents),
    cancels: (agents) => readCancels(durable, agents),
    distrusted: (sessions) => readDistrusted(durable, sessions),
    clockMs: () => readDatabaseClock(durable),
    sweep: () => sweepAttempts(durable),
    settlePresence: (presence) => settlePresence(relaxed, presence),
    join: (node) => joinNode(durable, node),
    beat: (beat) => beatNode(durable, beat),
    nodeList: () => readNodeList(durable),
  };
}
