// When an agent's frames are not read: while what it sent waits for the database in too great a part, or the node's memory
// for logs is full. And that reading always goes on again, whoever made the room.
import { expect, test } from "vitest";
import { AttemptWrites, type JoinedRun } from "../../server/gateway/attempt-writes.ts";
import { LogBudget } from "../../server/gateway/log-budget.ts";
import { heldBytesAtMost, Reading } from "../../server/gateway/reading.ts";
import { Background } from "../../shared/background.ts";
import { attemptIdSchema, type AttemptId } from "../../shared/ids.ts";
import { silentLogger as logger } from "../../shared/logger.ts";
import type { LogContent } from "../../shared/wire/log.ts";
import { FakeClock } from "../fakes/clock.ts";

const attemptOf = (no: number): AttemptId =>
  attemptIdSchema.parse(`00000000-0000-7000-8000-${String(no).padStart(12, "0")}`);

function session(budget = new LogBudget({ totalBytes: 1_000 })) {
  let socket: "read" | "paused" = "read";
  const waiting: (() => void)[] = [];
  const ending = new AbortController();
  const writes = new AttemptWrites({
    background: new Background({ logger }),
    clock: new FakeClock(),
    defer: (act) => act(),
    signal: ending.signal,
    onFailed: (error) => {
      throw error;
    },
    onWritten: () => reading.goOn(),
    onDropped: (bytes) => budget.give(bytes),
  });
  const reading = new Reading({
    socket: { pause: () => void (socket = "paused"), resume: () => void (socket = "read") },
    budget,
    writes,
    onResumed: () => undefined,
  });
  const write = (): Promise<void> => new Promise((resolve) => void waiting.push(resolve));
  /** Frames are looked at for as long as they are read. */
  const receive = (act: () => void): number => {
    let frames = 0;
    for (; socket === "read" && frames < 100_000; frames += 1) {
      act();
      reading.hold();
    }
    return frames;
  };
  /** The database answers everything that is asked of it, until it is asked nothing more. */
  const answer = async (): Promise<void> => {
    while (waiting.length > 0) {
      for (const resolve of waiting.splice(0)) resolve();
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return { budget, writes, write, receive, answer, socket: () => socket, end: () => ending.abort() };
}

test("questions without end about one attempt are read until they hold too much, and again once they are answered", async () => {
  const { writes, write, receive, answer, socket } = session();
  const frames = receive(() => writes.run(attemptOf(1), "other", write));
  expect(frames).toBeLessThan(10_000);
  expect(writes.size).toBe(1);
  expect(writes.heldBytes).toBeGreaterThan(heldBytesAtMost);
  await answer();
  expect({ socket: socket(), held: writes.heldBytes, size: writes.size }).toEqual({ socket: "read", held: 0, size: 0 });
});

test("so are log pieces of one byte, which the node's memory for logs hardly counts", async () => {
  const { writes, write, receive, answer, socket } = session();
  let offset = 0;
  const content = { bytes: Buffer.alloc(1) };
  const frames = receive(() => {
    writes.append(attemptOf(1), { homeNo: 1, stream: "out", offset, content }, write);
    offset += 1;
  });
  expect(frames).toBeLessThan(10_000);
  await answer();
  expect({ socket: socket(), held: writes.heldBytes }).toEqual({ socket: "read", held: 0 });
});

test("omissions that follow each other are one", async () => {
  const { writes, write, answer } = session();
  const written: JoinedRun[] = [];
  const append = (offset: number, content: LogContent): void =>
    writes.append(attemptOf(1), { homeNo: 1, stream: "out", offset, content }, (run) => {
      written.push(run);
      return write();
    });
  append(0, { bytes: Buffer.from("a") });
  for (let offset = 1; offset < 10_001; offset += 1) append(offset, { omitted: 1 });
  append(10_001, { bytes: Buffer.from("b") });
  append(10_002, { omitted: 5 });
  await answer();
  expect(written.map(({ runs }) => runs.out?.pieces)).toEqual([
    // The first is under way at once.
    [{ bytes: Uint8Array.from(Buffer.from("a")) }],
    [{ omitted: 10_000 }, { bytes: Uint8Array.from(Buffer.from("b")) }, { omitted: 5 }],
  ]);
  expect(writes.heldBytes).toBe(0);
});

test("what a result carries counts by its size", () => {
  const { writes, write, receive } = session();
  expect(receive(() => writes.run(attemptOf(1), "result", write, heldBytesAtMost / 4))).toBe(4);
});

test("a progress that a later one replaces holds nothing", async () => {
  const { writes, write, answer } = session();
  for (let no = 0; no < 10_000; no += 1) writes.run(attemptOf(1), "progress", write);
  // One under way and the newest.
  expect(writes.heldBytes).toBeLessThan(10_000);
  await answer();
  expect(writes.heldBytes).toBe(0);
});

test("writes about very many attempts are read no further either", () => {
  const { writes, write, receive } = session();
  let no = 0;
  expect(receive(() => writes.run(attemptOf(no++), "other", write))).toBeLessThan(3_000);
});

test("a session that waits for room which others take is read again as soon as they give it", () => {
  const budget = new LogBudget({ totalBytes: 1_000 });
  budget.take(1_500);
  const sessions = [session(budget), session(budget)];
  const states = (): string[] => sessions.map(({ socket }) => socket());
  for (const one of sessions) expect(one.receive(() => undefined)).toBe(1);
  budget.give(400);
  expect(states()).toEqual(["paused", "paused"]);
  budget.give(400);
  expect(states()).toEqual(["read", "read"]);
});

test("and waits on when what it wrote itself has gone but the room has not come", async () => {
  const budget = new LogBudget({ totalBytes: 1_000 });
  const { writes, write, receive, answer, socket } = session(budget);
  receive(() => writes.run(attemptOf(1), "other", write));
  budget.take(1_500);
  await answer();
  expect(socket()).toBe("paused");
  budget.give(1_500);
  expect(socket()).toBe("read");
});

test("a piece of a log that waits does not keep the frame it came in", () => {
  const { writes, write } = session();
  const mebi = 1024 * 1024;
  const held: number[] = [];
  const bytes = new Uint8Array(mebi).subarray(10, 11);
  writes.append(attemptOf(1), { homeNo: 1, stream: "out", offset: 0, content: { bytes } }, ({ runs }) => {
    for (const piece of runs.out?.pieces ?? []) if ("bytes" in piece) held.push(piece.bytes.buffer.byteLength);
    return write();
  });
  expect(held).toEqual([1]);
});

test("what has not begun when its session ends is not written, and its memory given back", async () => {
  const { budget, writes, write, answer, end } = session();
  let begun = 0;
  const content = { bytes: Buffer.alloc(100) };
  for (let no = 1; no <= 5; no += 1) {
    budget.take(100);
    writes.append(attemptOf(1), { homeNo: no, stream: "out", offset: 0, content }, async ({ bytes }) => {
      begun += 1;
      await write();
      budget.give(bytes);
    });
  }
  end();
  await answer();
  expect({ begun, size: writes.size, held: writes.heldBytes, budget: budget.heldBytes }).toEqual({
    begun: 1,
    size: 0,
    held: 0,
    budget: 0,
  });
});
