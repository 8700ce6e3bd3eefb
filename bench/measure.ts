// What every bench measures with: repeats, quantiles and the CPU time of processes. What it leaves behind is result.ts.
import { readdirSync, readFileSync } from "node:fs";
import { round } from "./result.ts";

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

/** `npm run bench -- --repeats N` asks for other than the usual; a bench says beside its call why one is usual. */
export function repeatsAsked(usual: number): number {
  const asked = process.argv.indexOf("--repeats");
  return asked < 0 ? usual : Number(process.argv[asked + 1]);
}

/** What `act` finds, `times` times, one after the other. */
export async function repeated<Found>(times: number, act: () => Promise<Found>): Promise<Found[]> {
  const found: Found[] = [];
  for (let turn = 0; turn < times; turn += 1) found.push(await act());
  return found;
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
