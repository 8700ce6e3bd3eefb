// Ids, errors and the bounded queue.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BoundedQueue } from "../../../shared/bounded-queue.ts";
import { AppError, describeError, errorRows, errnoOf, isErrorCode } from "../../../shared/errors.ts";
import { createIdSource, firstIdAt, newId, taskIdSchema } from "../../../shared/ids.ts";
import { SystemRandom } from "../../../shared/random.ts";
import { FakeClock } from "../../fakes/clock.ts";

describe("the system's random bytes", () => {
  const hexOf = (bytes: Uint8Array = new Uint8Array()): string => Buffer.from(bytes).toString("hex");

  it("are each handed out once, over the borders of pages, and longer than a page", () => {
    const random = new SystemRandom();
    const drawn = Array.from({ length: 3_000 }, (_, index) => random.bytes(8 + (index % 7)));
    expect(new Set(drawn.map((bytes) => hexOf(bytes))).size).toBe(3_000);
    expect(drawn.map((bytes) => bytes.length)).toEqual(drawn.map((_, index) => 8 + (index % 7)));
    // What was handed out stays as it was when the page is cleared behind it.
    const [kept] = drawn;
    const before = hexOf(kept);
    for (let count = 0; count < 2_000; count += 1) random.bytes(16);
    expect(hexOf(kept)).toBe(before);
    expect(drawn.some((bytes) => bytes.every((byte) => byte === 0))).toBe(false);
    const long = random.bytes(10_000);
    expect([long.length, new Set(long).size]).toEqual([10_000, 256]);
    expect(random.bytes(0)).toHaveLength(0);
  });
});

describe("ids", () => {
  const source = () => {
    const clock = new FakeClock();
    return { clock, ids: createIdSource({ clock, random: new SystemRandom() }) };
  };

  it("are UUIDs of version 7 and variant 10, in lower case", () => {
    const { ids } = source();
    for (let count = 0; count < 100; count += 1)
      expect(ids.next()).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  it("grow strictly as text, through 10,000 in one millisecond and a wall clock that goes back", () => {
    const { clock, ids } = source();
    const made: string[] = [];
    for (let count = 0; count < 10_000; count += 1) made.push(ids.next());
    clock.jumpWall(-3_600_000);
    for (let count = 0; count < 100; count += 1) made.push(ids.next());
    clock.advance(7_200_000);
    made.push(ids.next());
    expect(made).toEqual(made.toSorted());
    expect(new Set(made).size).toBe(made.length);
  });

  it("fall between the first id of their millisecond and that of the next", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 47 }), (wallMs) => {
        const id = createIdSource({ clock: new FakeClock({ wallMs }), random: new SystemRandom() }).next();
        return firstIdAt(wallMs) <= id && id < firstIdAt(wallMs + 1);
      }),
    );
  });

  it("are branded by the schema of their kind, which takes nothing else", () => {
    const { ids } = source();
    expect(taskIdSchema.safeParse(newId(ids, taskIdSchema)).success).toBe(true);
    for (const wrong of ["", "x", ids.next().toUpperCase(), `${ids.next()} `, ids.next().replaceAll("-", "")])
      expect(taskIdSchema.safeParse(wrong).success).toBe(false);
  });
});

describe("errors", () => {
  it("carry the mend and the retryability of their code unless the place that throws knows better", () => {
    const error = new AppError("agent.unknown", "no agent x");
    expect([error.mend, error.retryable, error.retryAfterSeconds]).toEqual([
      errorRows["agent.unknown"].mend,
      false,
      undefined,
    ]);
    expect(new AppError("queue.full", "full", { mend: "Cancel some.", retryAfterSeconds: 3 })).toMatchObject({
      mend: "Cancel some.",
      retryable: true,
      retryAfterSeconds: 3,
    });
  });

  it("come back as they are, and wrap anything else thrown", () => {
    const error = new AppError("disk.full", "full");
    expect(AppError.from(error)).toBe(error);
    for (const cause of ["text", 7, null, new TypeError("no"), { a: 1 }]) {
      expect(AppError.from(cause, "queue.full")).toMatchObject({ code: "queue.full", cause });
    }
    expect(AppError.from(undefined).code).toBe("internal");
    // What could not write, wherever that was, ends with the code that asks to be started again.
    const full = AppError.from(Object.assign(new Error("no space left on device, write"), { code: "ENOSPC" }));
    expect([full.code, errorRows[full.code].exitCode]).toEqual(["disk.full", 75]);
  });

  it("describe causes in one line with the code they carry, once", () => {
    const refused = Object.assign(new Error("connect"), { code: "ECONNREFUSED" });
    expect(describeError(refused)).toBe("connect (ECONNREFUSED)");
    expect(describeError(Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" }))).toBe(
      "connect ECONNREFUSED",
    );
    expect(describeError(new AggregateError([refused, new Error("other")]))).toBe("connect (ECONNREFUSED); other");
    expect(describeError(new TypeError())).toBe("TypeError");
    expect([errnoOf(refused), errnoOf({ code: 7 }), errnoOf("x"), errnoOf(null)]).toEqual([
      "ECONNREFUSED",
      undefined,
      undefined,
      undefined,
    ]);
  });

  it("have a closed list of codes", () => {
    expect([isErrorCode("internal"), isErrorCode("toString"), isErrorCode("nope")]).toEqual([true, false, false]);
  });
});

type QueueAct = { readonly push: number } | { readonly take: number } | { readonly shift: true };

/** The same act on the queue and on a plain list; answers what each gave. */
function both(
  on: { readonly queue: BoundedQueue<number>; readonly model: number[]; readonly capacity: number },
  act: QueueAct,
): [unknown, unknown] {
  const { queue, model, capacity } = on;
  if ("take" in act) return [queue.take(act.take), model.splice(0, act.take)];
  if ("shift" in act) return [queue.shift(), model.shift()];
  const hasRoom = model.length < capacity;
  if (hasRoom) model.push(act.push);
  return [queue.push(act.push), hasRoom];
}

describe("a bounded queue", () => {
  it("behaves as a list with a bound, whatever is done to it", () => {
    const act = fc.oneof(
      fc.record({ push: fc.nat() }),
      fc.record({ take: fc.nat(5) }),
      fc.constant({ shift: true as const }),
    );
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), fc.array(act, { maxLength: 300 }), (capacity, acts) => {
        const queue = new BoundedQueue<number>({ capacity });
        const model: number[] = [];
        for (const step of acts) {
          const [seen, expected] = both({ queue, model, capacity }, step);
          expect(seen).toEqual(expected);
          expect([queue.size, queue.peek()]).toEqual([model.length, model[0]]);
        }
      }),
    );
  });

  it("keeps its order over many more items than it holds at once", () => {
    const queue = new BoundedQueue<number>({ capacity: 10 });
    const taken: number[] = [];
    for (let item = 0; item < 20_000; item += 1) {
      expect(queue.push(item)).toBe(true);
      if (queue.size === 10) taken.push(...queue.take(7));
    }
    taken.push(...queue.take(10));
    expect(taken).toEqual(Array.from({ length: 20_000 }, (_, index) => index));
  });
});
