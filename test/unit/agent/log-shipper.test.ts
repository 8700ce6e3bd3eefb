// How one stream leaves: at once, then gathered; within the window; from wherever the node says it stands.
import { beforeEach, describe, expect, test } from "vitest";
import { LogShipper } from "../../../agent/log-shipper.ts";
import type { LogOutlet } from "../../../agent/log-shipper.ts";
import { Pace } from "../../../agent/pace.ts";
import { initialWindowBytes, logFrameBytes } from "../../../shared/wire/fields.ts";
import type { LogContent } from "../../../shared/wire/log.ts";
import { lengthOf } from "../../../shared/wire/log.ts";
import { FakeClock } from "../../fakes/clock.ts";

interface Sent {
  readonly atMs: number;
  readonly offset: number;
  readonly content: LogContent;
}

/** A stream in memory with an optional hole; each read takes a few turns, as one of the disk does. */
class FakeSpool {
  size = 0;
  hole: { readonly from: number; readonly to: number } | undefined;
  failures = 0;
  reads = 0;

  async piece(offset: number, most: number): Promise<LogContent | undefined> {
    this.reads += 1;
    await Promise.resolve();
    if (this.failures > 0) {
      this.failures -= 1;
      throw new Error("EIO");
    }
    const { hole } = this;
    if (hole !== undefined && offset >= hole.from && offset < hole.to) return { omitted: hole.to - offset };
    const end = hole !== undefined && offset < hole.from ? Math.min(hole.from, this.size) : this.size;
    const count = Math.min(most, logFrameBytes, end - offset);
    if (count <= 0) return undefined;
    return { bytes: Uint8Array.from({ length: count }, (_, at) => (offset + at) % 251) };
  }
}

let clock: FakeClock;
let spool: FakeSpool;
let sent: Sent[];
let outlet: LogOutlet & { queued: number };
let shipper: LogShipper;
let drained: number;
let errors: unknown[];

const outletInto = (list: Sent[]): LogOutlet & { queued: number } => ({
  queued: 0,
  send: (offset, content) => list.push({ atMs: clock.monotonicMs(), offset, content }),
});

beforeEach(() => {
  clock = new FakeClock();
  spool = new FakeSpool();
  sent = [];
  drained = 0;
  errors = [];
  outlet = outletInto(sent);
  shipper = new LogShipper({
    clock,
    spool,
    onDrained: () => (drained += 1),
    onError: (cause) => errors.push(cause),
  });
});

async function grow(by: number): Promise<void> {
  spool.size += by;
  shipper.pump();
  await shipper.settle();
}

async function pass(ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 1) {
    clock.advance(1);
    await shipper.settle();
  }
}

const spans = (list: readonly Sent[] = sent): (readonly [number, number])[] =>
  list.map(({ offset, content }) => [offset, lengthOf(content)]);

/** Every byte once, in order, none changed. */
function expectWhole(list: readonly Sent[], from: number, to: number): void {
  let next = from;
  for (const { offset, content } of list) {
    expect(offset).toBe(next);
    const right = Uint8Array.from({ length: lengthOf(content) }, (_, at) => (offset + at) % 251);
    expect("bytes" in content ? content.bytes : right).toEqual(right);
    next += lengthOf(content);
  }
  expect(next).toBe(to);
}

describe("the pace", () => {
  test("is at once for the first byte and at most 50 ms for what follows it", async () => {
    shipper.attach(outlet, "start");
    await grow(1);
    expect(sent).toMatchObject([{ atMs: 0, offset: 0 }]);
    await pass(10);
    for (let no = 0; no < 5; no += 1) {
      await grow(10);
      await pass(5);
    }
    expect(sent).toHaveLength(1);
    await pass(15);
    expect(spans()).toEqual([
      [0, 1],
      [1, 50],
    ]);
    expect(sent[1]?.atMs).toBe(50);
  });

  test("after a silence of 50 ms is at once again", async () => {
    shipper.attach(outlet, "start");
    await grow(1);
    await pass(80);
    await grow(1);
    expect(sent.map(({ atMs }) => atMs)).toEqual([0, 80]);
  });

  test("does not wait with 64 KiB at hand", async () => {
    shipper.attach(outlet, "start");
    shipper.acknowledged(0, 1024 * 1024);
    await grow(1);
    await grow(logFrameBytes - 1);
    expect(sent).toHaveLength(1);
    await grow(1);
    expect(spans()).toEqual([
      [0, 1],
      [1, logFrameBytes],
    ]);
    expect(clock.monotonicMs()).toBe(0);
  });

  test("does not wait with the last bytes of a sealed stream", async () => {
    shipper.attach(outlet, "start");
    await grow(1);
    spool.size += 3;
    shipper.seal();
    await shipper.settle();
    expect(spans()).toEqual([
      [0, 1],
      [1, 3],
    ]);
    expect(drained).toBe(1);
  });

  test("does not wait any longer once the stream is sealed", async () => {
    shipper.attach(outlet, "start");
    await grow(1);
    await grow(3);
    expect(sent).toHaveLength(1);
    shipper.seal();
    await shipper.settle();
    expect(spans()).toEqual([
      [0, 1],
      [1, 3],
    ]);
    expect(drained).toBe(1);
    expect(clock.timers).toBe(0);
  });

  test("pauses while messages queue behind the socket", async () => {
    shipper.attach(outlet, "start");
    outlet.queued = 65;
    await grow(10);
    await pass(100);
    expect(sent).toEqual([]);
    outlet.queued = 0;
    await pass(20);
    expect(spans()).toEqual([[0, 10]]);
  });
});

describe("the window", () => {
  test("is 64 KiB before the first word of the node and never passed", async () => {
    shipper.attach(outlet, "start");
    await grow(300_000);
    await pass(200);
    expectWhole(sent, 0, initialWindowBytes);
    shipper.acknowledged(initialWindowBytes, 100_000);
    await shipper.settle();
    await pass(200);
    expectWhole(sent, 0, initialWindowBytes + 100_000);
    shipper.acknowledged(initialWindowBytes + 100_000, 1024 * 1024);
    await shipper.settle();
    await pass(200);
    expectWhole(sent, 0, 300_000);
    for (const { content } of sent) expect(lengthOf(content)).toBeLessThanOrEqual(logFrameBytes);
  });

  test("does not shrink by an acknowledgement that comes late", async () => {
    shipper.attach(outlet, "start");
    shipper.acknowledged(0, 200_000);
    shipper.acknowledged(0, 10);
    await grow(150_000);
    await pass(100);
    expectWhole(sent, 0, 150_000);
  });
});

describe("resume-from", () => {
  test("goes back, and on, and nothing is left out", async () => {
    shipper.attach(outlet, "start");
    await grow(50_000);
    sent.length = 0;
    shipper.resumeFrom(20_000, 100_000);
    await shipper.settle();
    expectWhole(sent, 20_000, 50_000);
    sent.length = 0;
    shipper.resumeFrom(45_000, 100_000);
    await shipper.settle();
    expectWhole(sent, 45_000, 50_000);
    sent.length = 0;
    shipper.resumeFrom(60_000, 100_000);
    await grow(20_000);
    expectWhole(sent, 60_000, 70_000);
  });

  test("that comes while a piece is read drops that piece", async () => {
    shipper.attach(outlet, "start");
    spool.size = 10_000;
    shipper.pump();
    shipper.resumeFrom(4_000, 100_000);
    await shipper.settle();
    await pass(60);
    expectWhole(sent, 4_000, 10_000);
  });

  test("is waited for by a resumed home for 2 s, then its own position is tried", async () => {
    shipper.attach(outlet, "start");
    await grow(10_000);
    shipper.acknowledged(6_000, 65_536);
    const second: Sent[] = [];
    shipper.attach(outletInto(second), "node");
    await pass(1_999);
    expect(second).toEqual([]);
    await pass(1);
    expectWhole(second, 6_000, 10_000);
    expect(sent).toHaveLength(1);
  });

  test("is waited for no longer when it is asked for again and again", async () => {
    shipper.attach(outlet, "start");
    await grow(10_000);
    shipper.acknowledged(6_000, 65_536);
    const second: Sent[] = [];
    for (let asked = 0; asked < 4; asked += 1) {
      shipper.attach(outletInto(second), "node");
      await pass(600);
    }
    expectWhole(second, 6_000, 10_000);
  });

  test("of a sealed stream tells the drain again", async () => {
    shipper.attach(outlet, "start");
    await grow(100);
    shipper.seal();
    await shipper.settle();
    expect(drained).toBe(1);
    shipper.resumeFrom(0, 65_536);
    await shipper.settle();
    expect(drained).toBe(2);
  });
});

describe("what was omitted", () => {
  test("is one piece of the exact length, which the window does not bound and the offset counts", async () => {
    spool.hole = { from: 1_000, to: 900_000 };
    shipper.attach(outlet, "start");
    await grow(1_000_000);
    await pass(100);
    expect(spans()).toEqual([
      [0, 1_000],
      [1_000, 899_000],
    ]);
    expect(sent[1]?.content).toMatchObject({ omitted: 899_000 });
    shipper.acknowledged(900_000, 200_000);
    await shipper.settle();
    await pass(100);
    expectWhole(sent, 0, 1_000_000);
  });
});

test("each piece carries the time at which its first byte was seen, also when it is sent later or again", async () => {
  const timesOf = (list: readonly Sent[]) => list.map(({ offset, content }) => [offset, content.atMs]);
  spool.size = 10;
  shipper.pump();
  await pass(5_000);
  spool.size = 20;
  shipper.pump();
  const seen = clock.wallMs();
  shipper.attach(outlet, "start");
  await shipper.settle();
  expect(timesOf(sent)).toEqual([[0, seen - 5_000]]);
  shipper.resumeFrom(15, 1_000);
  await shipper.settle();
  expect(timesOf(sent).at(-1)).toEqual([15, seen]);
});

function pacedShipper(bytesPerSecond: number): LogShipper {
  return new LogShipper({
    clock,
    spool,
    pace: new Pace({ bytesPerSecond, nowMs: clock.monotonicMs() }),
    onDrained: () => (drained += 1),
    onError: (cause) => errors.push(cause),
  });
}

describe("with a limit", () => {
  test("no more leaves than a second's worth at once and then that much a second, all of it in the end", async () => {
    shipper = pacedShipper(10_000);
    shipper.attach(outlet, "start");
    const startMs = clock.monotonicMs();
    await grow(50_000);
    shipper.acknowledged(0, 1_000_000);
    shipper.seal();
    const seconds = [0, 1, 2, 3].map(
      (second) => () =>
        sent
          .filter(({ atMs }) => atMs < startMs + second * 1_000 + 1)
          .reduce((sum, { content }) => sum + lengthOf(content), 0),
    );
    await pass(3_900);
    expect(drained).toBe(0);
    for (const [second, sentBy] of seconds.entries()) expect(sentBy()).toBeLessThanOrEqual(10_000 * (second + 1));
    await pass(1_000);
    expect(drained).toBe(1);
    expectWhole(sent, 0, 50_000);
  });
});

test("with a limit, pieces are no crumbs although time passes while they are read and sent", async () => {
  const piece = spool.piece.bind(spool);
  spool.piece = async (offset, most) => {
    clock.advance(1);
    return piece(offset, most);
  };
  shipper = pacedShipper(65_536);
  shipper.attach(outlet, "start");
  await grow(200_001);
  shipper.acknowledged(0, 1_000_000);
  shipper.seal();
  await pass(5_000);
  expect(drained).toBe(1);
  expectWhole(sent, 0, 200_001);
  expect(sent.slice(0, -1).every(({ content }) => lengthOf(content) >= 4_096)).toBe(true);
});

describe("a file that cannot be read", () => {
  test("is tried again each second, not as fast as it fails", async () => {
    spool.failures = 3;
    shipper.attach(outlet, "start");
    await grow(10);
    expect(errors).toHaveLength(1);
    await pass(999);
    expect(spool.reads).toBe(1);
    await pass(2_001);
    expect(errors).toHaveLength(3);
    expectWhole(sent, 0, 10);
  });

  test("because it shrank costs one look per 50 ms", async () => {
    shipper.attach(outlet, "start");
    spool.hole = { from: 0, to: 0 };
    spool.piece = async () => {
      spool.reads += 1;
      return undefined;
    };
    spool.size = 10;
    shipper.pump();
    await shipper.settle();
    await pass(100);
    expect(spool.reads).toBeLessThanOrEqual(3);
  });
});

test("a detached shipper leaves no timer and sends nothing more", async () => {
  shipper.attach(outlet, "start");
  await grow(1);
  await grow(1);
  shipper.detach();
  expect(clock.timers).toBe(0);
  await pass(100);
  expect(sent).toHaveLength(1);
});
