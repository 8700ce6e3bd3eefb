// One thread that runs seeds and tells of each; with a planted bug, on shipped code that has it.
import { parentPort, workerData } from "node:worker_threads";
import { z } from "zod";
import { bugNamed } from "./planted/bugs.ts";
import { plant } from "./planted/plant.ts";

const jobSchema = z.object({
  from: z.int(),
  step: z.int(),
  to: z.int(),
  /** Instead of the range. */
  list: z.array(z.int()).optional(),
  bug: z.string().optional(),
  /** Ends at the first seed that fails. */
  untilFailure: z.boolean(),
});
export type WorkerJob = z.infer<typeof jobSchema>;

// Errors are made by the thousand here, and nobody reads where.
Error.stackTraceLimit = 0;
const job = jobSchema.parse(workerData);
const isPlanted = job.bug === undefined ? (): boolean => true : plant(bugNamed(job.bug));
const { runSeed } = await import("./simulation.ts");
if (!isPlanted()) throw new Error(`the file of the planted bug "${job.bug}" is not part of the simulation`);
const seeds =
  job.list ?? Array.from({ length: Math.ceil((job.to - job.from) / job.step) }, (_, at) => job.from + at * job.step);
for (const seed of seeds) {
  const report = await runSeed(seed);
  parentPort?.postMessage(report);
  if (job.untilFailure && report.violations.length > 0) break;
}
