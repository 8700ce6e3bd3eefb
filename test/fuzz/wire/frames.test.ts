// Hostile frames in both directions, each case on its own seed: what the oracle demands holds for all of them, none takes long,
// none makes the thread outgrow a small heap, and the mixture really is one (accepted, refused by schema, refused by pre-scan).
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { fuzzCases, fuzzSeed, onlyCase, replayOf } from "../plan.ts";
import { judge } from "./oracle.ts";
import { frameOf, type FrameReport } from "./worker.ts";

const threads = 2;
/** A frame of 1 MiB takes about 20 ms here; a machine busy with other work may make it a second, a quadratic step minutes. */
const caseAtMostMs = 15_000;
/** Megabytes: some times the largest frame decoded; an allocation by a length that lies would need gigabytes. */
const heapAtMost = 192;

function runThread(index: number): Promise<FrameReport> {
  const at = new SharedArrayBuffer(4);
  const worker = new Worker(new URL("./worker.ts", import.meta.url), {
    workerData: { seed: fuzzSeed, from: index, step: threads, to: fuzzCases.frames, at },
    resourceLimits: { maxOldGenerationSizeMb: heapAtMost, maxYoungGenerationSizeMb: 32 },
  });
  const underWay = (): number => Atomics.load(new Int32Array(at), 0) - 1;
  return new Promise((resolve, reject) => {
    let last = -1;
    const watch = setInterval(() => {
      if (underWay() === last && last >= 0) {
        clearInterval(watch);
        void worker.terminate();
        const { frame } = frameOf(fuzzSeed, last);
        reject(
          new Error(
            `no end within ${caseAtMostMs} ms: ${replayOf("frame", last)}\n${frame.toString("hex").slice(0, 4_096)}`,
          ),
        );
      }
      last = underWay();
    }, caseAtMostMs);
    worker.once("message", resolve);
    worker.once("error", (cause) => reject(new Error(`the thread ended: ${replayOf("frame", underWay())}`, { cause })));
    worker.once("exit", () => clearInterval(watch));
  });
}

describe("hostile frames", () => {
  it.runIf(onlyCase === undefined)(
    `${fuzzCases.frames} of them come to a close code or a message that survives being sent on`,
    async () => {
      const reports = await Promise.all(Array.from({ length: threads }, (_, index) => runThread(index)));
      const sum = { "not a frame": 0, "not a message": 0, message: 0 };
      for (const report of reports) {
        if (report.kind === "broken") throw new Error(`${replayOf("frame", report.no)}\n${report.why}\n${report.hex}`);
        for (const verdict of ["not a frame", "not a message", "message"] as const)
          sum[verdict] += report.counts[verdict];
        if (report.slowestMs >= caseAtMostMs)
          throw new Error(`${report.slowestMs} ms: ${replayOf("frame", report.slowestCase)}`);
      }
      const total = Object.values(sum).reduce((one, other) => one + other, 0);
      expect(total).toBe(fuzzCases.frames);
      // A mixture that all falls at the first gate tests nothing behind it.
      const rare = Object.entries(sum).filter(([, count]) => count / total < 0.1);
      expect({ rare, sum }).toEqual({ rare: [], sum });
    },
    900_000,
  );

  it.runIf(onlyCase !== undefined)("one case again", () => {
    const { frame, direction } = frameOf(fuzzSeed, onlyCase ?? 0);
    judge(frame, direction);
  });
});
