// What a node looks up and keeps current about the cluster, on PostgreSQL.
import type { Database } from "./connection.ts";
import { readAgentSlots } from "./agent-slots.ts";
import { beatNode, joinNode, readNodeList } from "./membership.ts";
import { countQueuedOf } from "./count-queued.ts";
import { settlePresence } from "./presence.ts";
import { readCancels } from "./read-cancels.ts";
import { readDistrusted } from "./read-distrusted.ts";
import { readKnownWork, readWorkFeed } from "./read-work-feed.ts";
import type { ClusterStore } from "./store.ts";
import { readDatabaseClock, sweepAttempts } from "./sweep-attempts.ts";

/** No agent takes more than its slots at once: what waits behind these changes no balance. */
const pendingPerAgent = 100;

export function createPostgresClusterStore({ durable, relaxed }: Pick<Database, "durable" | "relaxed">): ClusterStore {
  return {
    workFeed: (after) => readWorkFeed(durable, after),
    knownWork: (agents) => readKnownWork(durable, agents),
    cancels: (agents) => readCancels(durable, agents),
    distrusted: (sessions) => readDistrusted(durable, sessions),
    settings: (told) => readAgentSlots(durable, told),
    clockMs: () => readDatabaseClock(durable),
    sweep: () => sweepAttempts(durable),
    settlePresence: (presence) => settlePresence(relaxed, presence),
    join: (node) => joinNode(durable, node),
    beat: (beat) => beatNode(durable, beat),
    async pending(agents) {
      const queued = await countQueuedOf(durable, { agents, most: pendingPerAgent });
      return [...queued.values()].reduce((sum, count) => sum + count, 0);
    },
    nodeList: () => readNodeList(durable),
  };
}
