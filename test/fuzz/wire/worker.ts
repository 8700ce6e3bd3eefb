// One thread of the frame fuzz: takes every n-th case and writes down which it is at, so that whoever waits can tell a case
// that never ends from work. Answers with counts, or with the first case that broke a rule.
import { parentPort, workerData } from "node:worker_threads";
import { Dice } from "../dice.ts";
import { hostileFrame } from "./mutate.ts";
import { judge, type Direction, type Verdict } from "./oracle.ts";
import { samplesFrom } from "./samples.ts";

export interface FrameJob {
  readonly seed: number;
  readonly from: number;
  readonly step: number;
  readonly to: number;
  /** One number: the case under way, plus one. */
  readonly at: SharedArrayBuffer;
}

export type FrameReport =
  | {
      readonly kind: "done";
      readonly counts: Record<Verdict, number>;
      readonly slowestMs: number;
      readonly slowestCase: number;
    }
  | { readonly kind: "broken"; readonly no: number; readonly why: string; readonly hex: string };

const samples = { agent: samplesFrom("agent"), node: samplesFrom("node") };

/** The frame of one case and who sends it; now and then it reaches the wrong end. */
export function frameOf(seed: number, no: number): { readonly frame: Buffer; readonly direction: Direction } {
  const dice = new Dice(seed, no);
  const maker: Direction = no % 2 === 0 ? "agent" : "node";
  const frame = hostileFrame(dice, samples[maker]);
  const direction = dice.chance(0.02) ? (maker === "agent" ? "node" : "agent") : maker;
  return { frame, direction };
}

export function run(job: FrameJob): FrameReport {
  const at = new Int32Array(job.at);
  const counts: Record<Verdict, number> = { "not a frame": 0, "not a message": 0, message: 0 };
  let slowestMs = 0;
  let slowestCase = -1;
  for (let no = job.from; no < job.to; no += job.step) {
    Atomics.store(at, 0, no + 1);
    const { frame, direction } = frameOf(job.seed, no);
    const startMs = performance.now();
    try {
      counts[judge(frame, direction)] += 1;
    } catch (cause) {
      const why = cause instanceof Error ? (cause.stack ?? cause.message) : String(cause);
      return { kind: "broken", no, why, hex: frame.toString("hex").slice(0, 4_096) };
    }
    const tookMs = performance.now() - startMs;
    if (tookMs > slowestMs) [slowestMs, slowestCase] = [tookMs, no];
  }
  return { kind: "done", counts, slowestMs, slowestCase };
}

if (parentPort !== null && isFrameJob(workerData)) parentPort.postMessage(run(workerData));

/** A worker of the test runner imports this file too, with data of its own. */
function isFrameJob(value: unknown): value is FrameJob {
  return typeof value === "object" && value !== null && "step" in value && "at" in value;
}
