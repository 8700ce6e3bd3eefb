// Heartbeat, back-off, group commit and tracked work on a clock that a test moves.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createBackoff } from "../../../shared/backoff.ts";
import { Background } from "../../../shared/background.ts";
import { Heartbeat } from "../../../shared/heartbeat.ts";
import type { Logger } from "../../../shared/logger.ts";
import { silentLogger } from "../../../shared/logger.ts";
import { startAll, stopAll, type Service } from "../../../shared/service.ts";
import { FakeClock } from "../../fakes/clock.ts";

describe("the fake clock", () => {
  it("fires timers in the order of their moments, and those they start within the same advance", () => {
    const clock = new FakeClock();
    const seen: string[] = [];
    clock.after(20, () => seen.push(`b@${clock.monotonicMs()}`));
    clock.after(10, () => {
      seen.push(`a@${clock.monotonicMs()}`);
      clock.after(5, () => seen.push(`nested@${clock.monotonicMs()}`));
    });
    const every = clock.every(8, () => seen.push(`every@${clock.monotonicMs()}`));
    clock.advance(20);
    every.cancel();
    clock.advance(100);
    expect(seen).toEqual(["every@8", "a@10", "nested@15", "every@16", "b@20"]);
    expect([clock.timers, clock.monotonicMs()]).toEqual([0, 120]);
  });

  it("wakes a sleeper at its time, or rejects it when its signal aborts, and leaves no timer", async () => {
    const clock = new FakeClock();
    const ending = new AbortController();
    const [woken, aborted] = [clock.sleep(10), clock.sleep(10, ending.signal)];
    ending.abort(new Error("enough"));
    await expect(aborted).rejects.toThrow("enough");
    clock.advance(10);
    await woken;
    expect(clock.timers).toBe(0);
  });
});

describe("a heartbeat", () => {
  const watched = (pingMs: number) => {
    const clock = new FakeClock();
    const seen: string[] = [];
    const heartbeat = new Heartbeat(
      { clock, ping: () => seen.push("ping"), onSilent: () => seen.push(`silent@${clock.monotonicMs()}`) },
      { pingMs, silenceMs: 25_000 },
    );
    heartbeat.start();
    return { clock, seen, heartbeat };
  };

  it("pings in its period and calls once when nothing was heard for the limit", () => {
    const { clock, seen } = watched(10_000);
    clock.advance(24_999);
    expect(seen).toEqual(["ping", "ping"]);
    clock.advance(1);
    expect(seen).toEqual(["ping", "ping", "silent@25000"]);
  });

  it("counts silence from whatever was heard last", () => {
    const { clock, seen, heartbeat } = watched(0);
    for (let count = 0; count < 10; count += 1) {
      clock.advance(24_000);
      heartbeat.heard();
    }
    expect([seen, heartbeat.silentMs]).toEqual([[], 0]);
    clock.advance(25_000);
    expect(seen).toEqual(["silent@265000"]);
  });

  it("sends no ping of its own with a period of 0, and leaves no timer after stop", () => {
    const { clock, seen, heartbeat } = watched(0);
    clock.advance(20_000);
    heartbeat.stop();
    clock.advance(60_000);
    expect([seen, clock.timers]).toEqual([[], 0]);
  });
});

describe("back-off", () => {
  const options = { baseMs: 500, capMs: 30_000 };
  const ceiling = { unit: () => 1, bytes: () => new Uint8Array() };

  it("doubles its ceiling from the base to the cap and starts over after proof of life", () => {
    const backoff = createBackoff({ random: ceiling }, options);
    const delays = Array.from({ length: 9 }, () => backoff.nextMs());
    expect(delays).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    backoff.reset();
    expect(backoff.nextMs()).toBe(500);
  });

  it("stays between 0 and the ceiling whatever the dice say, however often it failed", () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), fc.nat(2_000), (unit, failures) => {
        const backoff = createBackoff({ random: { ...ceiling, unit: () => unit } }, options);
        for (let count = 0; count < failures; count += 1) backoff.nextMs();
        const delayMs = backoff.nextMs();
        return delayMs >= 0 && delayMs <= Math.min(30_000, 500 * 2 ** failures);
      }),
    );
  });

  it("waits at least as long as the peer asked, and a little longer so that not all come at once", () => {
    const backoff = createBackoff({ random: { ...ceiling, unit: () => 0.5 } }, options);
    expect(backoff.nextMs(7_000)).toBe(7_250);
  });
});

describe("background work", () => {
  it("is waited for at settle, with whatever it starts", async () => {
    const background = new Background({ logger: silentLogger });
    const ended: string[] = [];
    background.run("outer", async () => {
      await Promise.resolve();
      background.run("inner", async () => {
        await Promise.resolve();
        ended.push("inner");
      });
      ended.push("outer");
    });
    expect(background.size).toBe(1);
    await background.settle();
    expect([ended, background.size]).toEqual([["outer", "inner"], 0]);
  });

  it("reports a failure under its name and goes no further", async () => {
    const lines: unknown[] = [];
    const logger: Logger = { ...silentLogger, error: (fields, message) => void lines.push([fields, message]) };
    const background = new Background({ logger });
    const cause = new Error("no");
    background.run("doomed", () => Promise.reject(cause));
    await background.settle();
    expect(lines).toEqual([[{ err: cause, work: "doomed" }, "background work failed: no"]]);
  });
});

describe("services", () => {
  const service = (
    name: string,
    seen: string[],
    faults: { readonly start?: Error; readonly stop?: Error } = {},
  ): Service => ({
    start: () => (
      seen.push(`start ${name}`),
      faults.start === undefined ? Promise.resolve() : Promise.reject(faults.start)
    ),
    stop: () => (
      seen.push(`stop ${name}`),
      faults.stop === undefined ? Promise.resolve() : Promise.reject(faults.stop)
    ),
  });

  it("start in order; when one fails, those before it stop in reverse and its error is thrown", async () => {
    const seen: string[] = [];
    const failure = new Error("port in use");
    await expect(
      startAll([service("a", seen), service("b", seen), service("c", seen, { start: failure }), service("d", seen)]),
    ).rejects.toBe(failure);
    expect(seen).toEqual(["start a", "start b", "start c", "stop b", "stop a"]);
  });

  it("stop in reverse, every one of them, and the first failure is thrown", async () => {
    const seen: string[] = [];
    const failure = new Error("stuck");
    await expect(
      stopAll([
        service("a", seen, { stop: new Error("later") }),
        service("b", seen, { stop: failure }),
        service("c", seen),
      ]),
    ).rejects.toBe(failure);
    expect(seen).toEqual(["stop c", "stop b", "stop a"]);
  });
});
