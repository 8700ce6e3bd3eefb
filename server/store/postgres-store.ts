// The courier's verbs on PostgreSQL, grouped. Which verb commits synchronously is decided here and nowhere else; verbs lock
// in the order agent, task, attempt, attempt log.
import { appendLog } from "./append-log.ts";
import { claimAttempts } from "./claim-attempts.ts";
import type { Database } from "./connection.ts";
import { finishAttempts } from "./finish-attempts.ts";
import { createGreeter } from "./greet-agent.ts";
import { createGroupedStore, type GroupedStore } from "./grouped-store.ts";
import { loseAttempts } from "./lose-attempts.ts";
import { noteProgress } from "./note-progress.ts";
import { writePresence } from "./presence.ts";
import { progressAttempts } from "./progress-attempts.ts";
import { createOpenReader } from "./read-open-attempts.ts";
import { refuseAttempts } from "./refuse-attempts.ts";
import { releaseOffers } from "./release-offers.ts";
import { resumeAttempts } from "./resume-attempts.ts";
import { withSecrets } from "./task-secrets.ts";
import { submitTasks, type QueueRoom } from "./submit-tasks.ts";

/** How much may wait, and that an attempt waits no longer. */
export interface Queue extends QueueRoom {
  claimed(count: number): void;
}

/** Without `queue` any number of attempts may wait. */
export function createPostgresStore(database: Database, queue?: Queue): GroupedStore {
  const { durable, relaxed } = database;
  const greet = createGreeter(database);
  const readOpen = createOpenReader(durable);
  return createGroupedStore({
    submitTasks: (items) => submitTasks(durable, items, queue),
    async claim(input) {
      const claimed = await claimAttempts(durable, input);
      // A later offer is of an attempt that did not wait.
      queue?.claimed(claimed.filter(({ offerNo }) => offerNo === 1).length);
      return withSecrets(durable, claimed);
    },
    progressAttempts: (items) => progressAttempts(relaxed, items),
    noteProgress: (items) => noteProgress(relaxed, items),
    refuseAttempts: (items) => refuseAttempts(durable, items),
    release: (node, offers) => releaseOffers(relaxed, node, offers),
    appendLog: (items) => appendLog(relaxed, items),
    finishAttempts: (items) => finishAttempts(durable, items),
    resumeAttempts: (items) => resumeAttempts(durable, items),
    greet,
    readOpen: (agent, listed) => readOpen({ agent, listed }),
    loseAttempts: (items) => loseAttempts(durable, items),
    writePresence: (items) => writePresence(relaxed, items),
  });
}
