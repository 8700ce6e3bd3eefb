// What the service manager is told and when, with its program replaced by a recorder; the real one is in integration tests.
import { describe, expect, test } from "vitest";
import { Notifier, openNotifier, watchdogLimitMs } from "../../../agent/service/notifier.ts";
import { silentLogger } from "../../../shared/logger.ts";
import { FakeClock } from "../../fakes/clock.ts";

function scene(watchdogMs: number | undefined) {
  const clock = new FakeClock();
  const sent: string[][] = [];
  const waiting: ((left: boolean) => void)[] = [];
  const send = (assignments: readonly string[]): Promise<boolean> => {
    sent.push([...assignments]);
    return new Promise((resolve) => waiting.push(resolve));
  };
  const notifier = new Notifier({ clock, logger: silentLogger, send }, { watchdogMs });
  const answer = async (left: boolean): Promise<void> => {
    waiting.shift()?.(left);
    await Promise.resolve();
  };
  return { clock, sent, notifier, answer };
}

describe("the service manager", () => {
  test("hears of readiness once, with the status, and is fed at half its limit", async () => {
    const { clock, sent, notifier, answer } = scene(120_000);
    notifier.ready(() => "no node yet");
    notifier.ready(() => "again");
    await answer(true);
    clock.advance(59_999);
    expect(sent).toEqual([["READY=1", "STATUS=no node yet"]]);
    clock.advance(1);
    await answer(true);
    clock.advance(60_000);
    expect(sent.slice(1)).toEqual([["WATCHDOG=1"], ["WATCHDOG=1"]]);
    notifier.stop();
    expect(clock.timers).toBe(0);
  });

  test("is told one thing at a time: what comes meanwhile is merged, the latest status counts", async () => {
    const { clock, sent, notifier, answer } = scene(10_000);
    let status = "one";
    notifier.ready(() => status);
    status = "two";
    notifier.look();
    status = "three\nREADY=0";
    clock.advance(20_000);
    expect(sent).toHaveLength(1);
    await answer(true);
    expect(sent.slice(1)).toEqual([["STATUS=three READY=0", "WATCHDOG=1"]]);
    notifier.stop();
  });

  test("is told again what did not reach it", async () => {
    const { clock, sent, notifier, answer } = scene(10_000);
    notifier.ready(() => "up");
    await answer(false);
    expect(sent).toHaveLength(1);
    clock.advance(5_000);
    expect(sent[1]?.toSorted()).toEqual(["READY=1", "STATUS=up", "WATCHDOG=1"]);
    notifier.stop();
  });

  test("hears of the end, is fed until it is there, and nothing after it", async () => {
    const { clock, sent, notifier, answer } = scene(10_000);
    notifier.ready(() => "up");
    await answer(true);
    notifier.stopping("draining");
    await answer(true);
    clock.advance(5_000);
    await answer(true);
    notifier.stop();
    notifier.stopping("again");
    notifier.look();
    clock.advance(60_000);
    expect(sent.slice(1)).toEqual([["STOPPING=1", "STATUS=draining"], ["WATCHDOG=1"]]);
  });

  test("without a watchdog hears changes of the status only", async () => {
    const { clock, sent, notifier, answer } = scene(undefined);
    let status = "one";
    notifier.ready(() => status);
    await answer(true);
    clock.advance(30_000);
    status = "two";
    clock.advance(30_000);
    expect(sent.slice(1)).toEqual([["STATUS=two"]]);
    notifier.stop();
  });
});

test("nobody is told anything where no service manager asked", () => {
  const deps = { clock: new FakeClock(), logger: silentLogger };
  expect(openNotifier(deps, { environment: {}, processId: 1 })).toBeUndefined();
  expect(openNotifier(deps, { environment: { NOTIFY_SOCKET: "" }, processId: 1 })).toBeUndefined();
  expect(openNotifier(deps, { environment: { NOTIFY_SOCKET: "/x" }, processId: 1 })).toBeDefined();
});

test.each([
  [{ WATCHDOG_USEC: "120000000", WATCHDOG_PID: "5" }, 120_000],
  [{ WATCHDOG_USEC: "1500" }, 1.5],
  [{ WATCHDOG_USEC: "120000000", WATCHDOG_PID: "6" }, undefined],
  [{ WATCHDOG_USEC: "0" }, undefined],
  [{ WATCHDOG_USEC: "soon" }, undefined],
  [{}, undefined],
])("%j makes process 5 feed a watchdog of %s ms", (environment, limitMs) => {
  expect(watchdogLimitMs({ environment, processId: 5 })).toBe(limitMs);
});
