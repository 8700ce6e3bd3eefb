// Runs seeds on several threads and hands their reports on as they come.
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { RunReport } from "./simulation.ts";
import type { WorkerJob } from "./worker.ts";

const workerUrl = new URL("./worker.ts", import.meta.url);

type OnReport = (report: RunReport) => void;

export function runJob(job: WorkerJob, onReport: OnReport): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(workerUrl, { workerData: job });
    worker.on("message", onReport);
    worker.on("error", reject);
    worker.on("exit", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`a simulation thread ended with ${code}`));
    });
  });
}

export async function runSeeds(
  range: { readonly from: number; readonly count: number },
  onReport: OnReport,
): Promise<void> {
  const threads = Math.min(availableParallelism(), range.count);
  const to = range.from + range.count;
  const jobs = Array.from({ length: threads }, (_, index) => ({ from: range.from + index, step: threads, to }));
  await Promise.all(jobs.map((job) => runJob({ ...job, untilFailure: false }, onReport)));
}

export async function runList(seeds: readonly number[], onReport: OnReport): Promise<void> {
  if (seeds.length > 0) await runJob({ from: 0, step: 1, to: 0, list: [...seeds], untilFailure: false }, onReport);
}
