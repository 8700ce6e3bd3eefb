// What a node counts and measures, for /metrics. Few labels, never an agent's or a task's id. Wraps the store's verbs, so
// that nothing else has to know about metrics.
import { monitorEventLoopDelay } from "node:perf_hooks";
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { CourierStore } from "./store/store.ts";

const databaseBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10];
const waitBuckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60, 300, 3_600, 86_400];

/** A histogram of statement times by verb, to be given to the database. */
export function databaseSeconds(registry: Registry): (verb: string, seconds: number) => void {
  const histogram = new Histogram({
    name: "holdfast_database_seconds",
    help: "Time of statements by verb, waiting for a connection included",
    labelNames: ["verb"],
    buckets: databaseBuckets,
    registers: [registry],
  });
  return (verb, seconds) => histogram.observe({ verb }, seconds);
}

export function gauge(registry: Registry, name: string, help: string, read: () => number): void {
  new Gauge({
    name,
    help,
    registers: [registry],
    collect() {
      this.set(read());
    },
  });
}

/** 99th percentile of the event loop's delay since the last scrape: above 0.2 s others starve. */
export function eventLoopDelay(registry: Registry): { stop(): void } {
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  gauge(
    registry,
    "holdfast_process_event_loop_delay_seconds",
    "99th percentile of the event loop's delay since the last scrape",
    () => {
      const seconds = delay.percentile(99) / 1e9;
      delay.reset();
      return Number.isFinite(seconds) ? seconds : 0;
    },
  );
  return { stop: () => void delay.disable() };
}

export interface TaskMeters {
  /** Final states that are not results: cancelled before the offer, expired, lost. */
  readonly ended: (state: string, count: number) => void;
}

/** The same store, counting. */
export function meteredStore(
  store: CourierStore,
  registry: Registry,
): { readonly store: CourierStore; readonly meters: TaskMeters } {
  const registers = [registry];
  const finished = new Counter({
    name: "holdfast_tasks_finished_total",
    help: "Attempts that became final through this node, by state",
    labelNames: ["state"],
    registers,
  });
  const submitted = new Counter({
    name: "holdfast_tasks_submitted_total",
    help: "Tasks stored through this node",
    registers,
  });
  const repeated = new Counter({
    name: "holdfast_offers_repeated_total",
    help: "Offers made again because nobody answered",
    registers,
  });
  const logBytes = new Counter({
    name: "holdfast_log_bytes_total",
    help: "Log bytes stored through this node, omitted ones not counted",
    registers,
  });
  const wait = new Histogram({
    name: "holdfast_tasks_queue_wait_seconds",
    help: "From submission to first offer",
    buckets: waitBuckets,
    registers,
  });
  const metered: CourierStore = {
    ...store,
    async submit(submission) {
      const outcome = await store.submit(submission);
      if (outcome.kind === "stored") {
        submitted.inc(submission.tasks.length);
        for (let offered = 0; offered < outcome.offered.size; offered += 1) wait.observe(0);
      }
      return outcome;
    },
    async claim(input) {
      const claimed = await store.claim(input);
      for (const { offerNo, waitedMs = 0 } of claimed) {
        if (offerNo > 1) repeated.inc();
        else wait.observe(waitedMs / 1_000);
      }
      return claimed;
    },
    async append(item) {
      const outcome = await store.append(item);
      const pieces = [item.runs.out, item.runs.err].flatMap((run) => run?.pieces ?? []);
      logBytes.inc(pieces.reduce((sum, piece) => sum + ("bytes" in piece ? piece.bytes.length : 0), 0));
      return outcome;
    },
    async finish(item) {
      const outcome = await store.finish(item);
      if (outcome.kind === "stored") finished.inc({ state: item.record.outcome });
      return outcome;
    },
    async refuse(item) {
      await store.refuse(item);
      if (item.class === "never") finished.inc({ state: "refused" });
    },
  };
  return { store: metered, meters: { ended: (state, count) => finished.inc({ state }, count) } };
}
