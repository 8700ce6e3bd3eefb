// Every cut of an exchange that a step and a phase choose, worked off by several threads, each end held to the undisturbed one.
import { availableParallelism } from "node:os";
import { isDeepStrictEqual } from "node:util";
import { Worker } from "node:worker_threads";
import { directions, type ByteCut, type Direction } from "../byte-cut.ts";
import { runExchange, type ExchangeEnd, type ExchangeRun } from "./exchange.ts";
import type { CutJob } from "./worker.ts";

const workerUrl = new URL("./worker.ts", import.meta.url);

interface CutRun {
  readonly cut: ByteCut;
  readonly isCut: boolean;
  readonly end: ExchangeEnd;
}

export interface CutsReport {
  readonly undisturbed: ExchangeRun;
  readonly asked: number;
  readonly made: number;
  /** Ends that differ from the undisturbed one, and what cut did it. */
  readonly wrong: readonly { readonly cut: ByteCut; readonly end: ExchangeEnd }[];
  readonly seconds: number;
}

export interface CutsOptions {
  readonly seed: number;
  readonly act: ByteCut["act"];
  /** Every so many bytes, from `phase` on; or only where a frame begins. */
  readonly at: { readonly step: number; readonly phase?: number } | "frames";
  readonly bug?: string;
}

function placesOf({ passed, frames }: ExchangeRun, direction: Direction, at: CutsOptions["at"]): readonly number[] {
  if (at === "frames") return frames[direction];
  const { step, phase = 0 } = at;
  const count = Math.max(0, Math.ceil((passed[direction] - phase) / step));
  return Array.from({ length: count }, (_, index) => phase + index * step);
}

export async function runCuts({ seed, act, at, bug }: CutsOptions): Promise<CutsReport> {
  const startedMs = performance.now();
  const undisturbed = await runExchange(seed);
  const cuts: ByteCut[] = directions.flatMap((direction) =>
    placesOf(undisturbed, direction, at).map((afterBytes) => ({ direction, afterBytes, act })),
  );
  const wrong: { cut: ByteCut; end: ExchangeEnd }[] = [];
  let made = 0;
  const onRun = ({ cut, isCut, end }: CutRun): void => {
    if (isCut) made += 1;
    if (!isDeepStrictEqual(end, undisturbed.end)) wrong.push({ cut, end });
  };
  const threads = availableParallelism();
  const jobs = Array.from({ length: threads }, (_, thread) => cuts.filter((_cut, index) => index % threads === thread));
  await Promise.all(jobs.map((share) => runJob({ seed, cuts: share, ...(bug === undefined ? {} : { bug }) }, onRun)));
  return { undisturbed, asked: cuts.length, made, wrong, seconds: (performance.now() - startedMs) / 1_000 };
}

function runJob(job: CutJob, onRun: (run: CutRun) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(workerUrl, { workerData: job });
    worker.on("message", onRun);
    worker.on("error", reject);
    worker.on("exit", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`a thread of cuts ended with ${code}`));
    });
  });
}

export function describeCuts(report: CutsReport, what: string): string {
  const { toNode, toAgent } = report.undisturbed.passed;
  return `${what}: ${report.made} of ${report.asked} cuts within ${toNode} + ${toAgent} bytes, ${report.seconds.toFixed(1)} s`;
}
