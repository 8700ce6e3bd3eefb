// What every bench shares: quantiles, CPU time of processes, and the result file with the machine it was made on.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { join } from "node:path";
import { ownVersion } from "../shared/version.ts";

export interface Quantiles {
  readonly count: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

export function quantiles(samples: readonly number[]): Quantiles {
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN);
  return { count: samples.length, p50: at(0.5), p95: at(0.95), p99: at(0.99) };
}

export function round(value: number): number {
  return Math.round(value * 1_000) / 1_000;
}

/** Milliseconds `act` takes, `times` times, after `warmUp` uncounted ones. */
export async function samplesOf(
  act: () => Promise<unknown>,
  options: { readonly times: number; readonly warmUp?: number },
): Promise<number[]> {
  const samples: number[] = [];
  for (let index = -(options.warmUp ?? 20); index < options.times; index += 1) {
    const startMs = performance.now();
    await act();
    if (index >= 0) samples.push(performance.now() - startMs);
  }
  return samples;
}

/** User and system CPU milliseconds of a process so far (proc(5), fields 14 and 15, at 100 ticks a second). */
export function cpuMs(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    return (Number(fields[11]) + Number(fields[12])) * 10;
  } catch {
    return 0;
  }
}

/** Processes whose parent is `pid`, and theirs. */
export function descendants(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
    const children = text.split(" ").filter(Boolean).map(Number);
    return children.flatMap((child) => [child, ...descendants(child)]);
  } catch {
    return [];
  }
}

/** CPU time of the threads a process has now, to the nanosecond: ticks of 10 ms are too coarse for what idles. */
export function runningMs(pid: number): number {
  try {
    const threads = readdirSync(`/proc/${pid}/task`);
    return threads.reduce((sum, thread) => {
      const text = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8");
      return sum + Number(text.split(" ")[0]) / 1e6;
    }, 0);
  } catch {
    return 0;
  }
}

/** Backends come and go: those that ended count by what the postmaster was told of them, in ticks. */
export function postgresMs(postmaster: number): number {
  const fields = readFileSync(`/proc/${postmaster}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  const endedMs = (Number(fields[13]) + Number(fields[14])) * 10;
  return [postmaster, ...descendants(postmaster)].reduce((sum, pid) => sum + runningMs(pid), endedMs);
}

export function report(name: string, figures: object): void {
  const machine = {
    cores: cpus().length,
    cpu: cpus()[0]?.model ?? "",
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
  };
  const result = { bench: name, at: new Date().toISOString(), version: ownVersion(), machine, figures };
  const folder = join(import.meta.dirname, "results");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(result, null, 2)}\n`);
  console.log(JSON.stringify(figures, null, 2));
}
