// How a node asks its agents to go: spread, those with tasks last when it finishes, and back again when it stays.
import { describe, expect, it } from "vitest";
import { Leaving, type LeavingSession } from "../../server/leaving.ts";
import { FakeClock } from "../fakes/clock.ts";

class Session implements LeavingSession {
  load = 0;
  asked = 0;
  closed: number | undefined;
  apply(): void {
    this.asked += 1;
  }
  close(code: number): void {
    this.closed = code;
  }
}

function bench(count: number) {
  const sessions = Array.from({ length: count }, () => new Session());
  const clock = new FakeClock();
  let next = 0;
  const random = { unit: () => (next = (next + 0.37) % 1), bytes: () => new Uint8Array() };
  const leaving = new Leaving({ sessions: { all: () => sessions, size: count }, clock, random });
  const asked = () => sessions.filter((session) => session.asked > 0).length;
  return { sessions, clock, leaving, asked };
}

describe("leaving", () => {
  it("asks a few at once and many over at most 10 s, each once", () => {
    const few = bench(10);
    few.leaving.leave("hand-over");
    few.clock.advance(20);
    expect(few.asked()).toBe(10);
    const many = bench(20_000);
    many.leaving.leave("hand-over");
    many.clock.advance(1_000);
    expect(many.asked()).toBeGreaterThan(1_500);
    expect(many.asked()).toBeLessThan(2_500);
    many.clock.advance(9_000);
    expect(many.asked()).toBe(20_000);
    expect(many.sessions.every(({ asked }) => asked === 1)).toBe(true);
    many.leaving.stop();
    expect(many.clock.timers).toBe(0);
  });

  it("once stopped, begins nothing again: a heartbeat under way may still say that the node drains", () => {
    const { clock, leaving, sessions } = bench(3);
    leaving.leave("hand-over");
    leaving.stop();
    leaving.leave("hand-over");
    leaving.leave("finish");
    leaving.stay();
    expect(clock.timers).toBe(0);
    expect([leaving.mode, sessions.some(({ closed }) => closed !== undefined)]).toEqual(["stopped", false]);
  });

  it("to finish, asks those that hold nothing, and the others once they do not any more", () => {
    const { sessions, clock, leaving, asked } = bench(3);
    const [busy] = sessions;
    if (busy !== undefined) busy.load = 1;
    leaving.leave("finish");
    clock.advance(5_000);
    expect([asked(), busy?.asked]).toEqual([2, 0]);
    if (busy !== undefined) busy.load = 0;
    clock.advance(1_100);
    expect(busy?.asked).toBe(1);
    leaving.stop();
  });

  it("asks the rest at once when finishing becomes handing over", () => {
    const { sessions, clock, leaving } = bench(2);
    for (const session of sessions) session.load = 1;
    leaving.leave("finish");
    clock.advance(3_000);
    leaving.leave("hand-over");
    clock.advance(10);
    expect(sessions.map(({ asked }) => asked)).toEqual([1, 1]);
    leaving.stop();
  });

  it("asks everybody once, also whose turn had not come when the way of leaving changed", () => {
    const { sessions, clock, leaving } = bench(2_000);
    leaving.leave("finish");
    clock.advance(500);
    leaving.leave("hand-over");
    clock.advance(10_000);
    expect(sessions.filter(({ asked }) => asked !== 1)).toEqual([]);
    leaving.stop();
    expect(clock.timers).toBe(0);
  });

  it("closes only whom it has asked when it stays after all", () => {
    const { sessions, clock, leaving } = bench(2_000);
    leaving.leave("hand-over");
    clock.advance(500);
    leaving.stay();
    const asked = sessions.filter((session) => session.asked > 0);
    expect(asked.length).toBeGreaterThan(0);
    expect(asked.length).toBeLessThan(2_000);
    expect(sessions.filter(({ closed }) => closed !== undefined)).toEqual(asked);
  });

  it("asks a session that opened meanwhile", () => {
    const { sessions, clock, leaving } = bench(1);
    leaving.leave("hand-over");
    clock.advance(100);
    const late = new Session();
    sessions.push(late);
    clock.advance(1_100);
    expect(late.asked).toBe(1);
    leaving.stop();
  });

  it("closes those it asked when the node stays after all: nothing takes a go-away back", () => {
    const { sessions, clock, leaving } = bench(2);
    const [busy] = sessions;
    if (busy !== undefined) busy.load = 1;
    leaving.leave("finish");
    clock.advance(100);
    leaving.stay();
    expect(sessions.map(({ closed }) => closed)).toEqual([undefined, 1001]);
    expect([leaving.mode, clock.timers]).toEqual(["staying", 0]);
  });
});
