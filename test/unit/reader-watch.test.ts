// What is noticed of an agent that does not read what it is sent, or reads it slowly.
import { expect, test } from "vitest";
import { ReaderWatch } from "../../server/gateway/reader-watch.ts";
import { FakeClock } from "../fakes/clock.ts";

function watched() {
  const link = { queued: 0, waitingBytes: 0, writingBytes: 0, written: 0 };
  const clock = new FakeClock();
  const watch = new ReaderWatch({ link, clock });
  const after = (ms: number) => {
    clock.advance(ms);
    return watch.look();
  };
  return { link, watch, after };
}

test("a frame that does not leave within a minute tells of an agent that does not read, whatever else it does", () => {
  const { link, after } = watched();
  link.writingBytes = 1;
  expect([after(0), after(30_000), after(30_000)]).toEqual(["reading", "reading", "reading"]);
  expect(after(1)).toBe("stalled");
});

test("a large frame has more time, for on a slow line it takes more", () => {
  const { link, after } = watched();
  link.writingBytes = 1024 * 1024;
  expect([after(0), after(60_000), after(127_999)]).toEqual(["reading", "reading", "reading"]);
  expect(after(1)).toBe("stalled");
});

test("an agent that reads slowly is no such one: each frame has a minute of its own", () => {
  const { link, after } = watched();
  link.writingBytes = 2;
  const found = Array.from({ length: 10 }, () => {
    link.written += 1;
    return [after(0), after(59_000)];
  });
  expect(new Set(found.flat())).toEqual(new Set(["reading"]));
});

test("an agent to which nothing is under way may be idle for ever", () => {
  const { link, after } = watched();
  link.writingBytes = 1;
  after(0);
  link.writingBytes = 0;
  after(59_000);
  link.writingBytes = 1;
  expect([after(1_000), after(59_000)]).toEqual(["reading", "reading"]);
});

test.each([
  ["messages", { queued: 257 }, { queued: 256 }],
  ["bytes", { waitingBytes: 4 * 1024 * 1024 }, { waitingBytes: 4 * 1024 * 1024 - 1 }],
])("nothing is claimed while too many %s wait, and once they do not it is told, to whom asked", (_what, full, room) => {
  const { link, watch, after } = watched();
  Object.assign(link, full);
  expect(after(0)).toBe("reading");
  expect(watch.isFull()).toBe(true);
  expect(after(0)).toBe("reading");
  Object.assign(link, room);
  expect(watch.isFull()).toBe(false);
  expect([after(0), after(0)]).toEqual(["freed", "reading"]);
});
