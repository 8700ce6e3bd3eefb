// One thread that plays the exchange once for each cut and tells of each; with a planted bug, on shipped code that has it.
import { parentPort, workerData } from "node:worker_threads";
import { z } from "zod";
import { directions } from "../byte-cut.ts";
import { bugNamed } from "../planted/bugs.ts";
import { plant } from "../planted/plant.ts";

const jobSchema = z.object({
  seed: z.int(),
  cuts: z.array(z.object({ direction: z.enum(directions), afterBytes: z.int(), act: z.enum(["reset", "black-hole"]) })),
  bug: z.string().optional(),
});
export type CutJob = z.infer<typeof jobSchema>;

// Errors are made by the thousand here, and nobody reads where.
Error.stackTraceLimit = 0;
const job = jobSchema.parse(workerData);
const isPlanted = job.bug === undefined ? (): boolean => true : plant(bugNamed(job.bug));
const { runExchange } = await import("./exchange.ts");
if (!isPlanted()) throw new Error(`the file of the planted bug "${job.bug}" is not part of the simulation`);
for (const cut of job.cuts) {
  const { end, isCut } = await runExchange(job.seed, cut);
  parentPort?.postMessage({ cut, isCut, end });
}
