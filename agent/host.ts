// What the host says of itself: boot id, time since boot, free space. The only reader of these outside process-table.ts.
import { readFileSync, statfsSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { hostname, uptime } from "node:os";
import { systemClock } from "../shared/clock.ts";

/** Differs after every boot of the kernel. Where there is none (macOS), the boot time to the minute stands in. */
export function hostBootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return `${hostname()}-${Math.round((systemClock.wallMs() - uptime() * 1_000) / 60_000)}`;
  }
}

/**
 * Milliseconds since boot, suspend included: on Linux what /proc/uptime says, to 10 ms, as in the shim's marks. Node's own
 * clocks stand still during suspend.
 */
export function bootMs(): number {
  return uptime() * 1_000;
}

/** Unknown counts as plenty: a file system that cannot say must not stop work. */
export function freeBytesNow(path: string): number {
  try {
    const { bavail, bsize } = statfsSync(path);
    return bavail * bsize;
  } catch {
    return Number.MAX_SAFE_INTEGER;
  }
}

/** Bytes an ordinary user may still write on the file system that holds `path`. */
export async function freeBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}
