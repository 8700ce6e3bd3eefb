// Group commit: one batch on its way at a time, keys apart, a poisoned item fails alone.
import { describe, expect, it } from "vitest";
import { AppError } from "../../../shared/errors.ts";
import { GroupCommit } from "../../../server/store/group-commit.ts";

interface Call {
  readonly items: readonly string[];
  readonly answer: (outcomes?: readonly string[]) => void;
  readonly fail: (code: "internal" | "database.conflict" | "database.unavailable") => void;
}

/** A store whose batches a test answers by hand. */
function byHand(
  options: { readonly largestBatch?: number; readonly largestBytes?: number; readonly capacity?: number } = {},
) {
  const calls: Call[] = [];
  const arrivals: (() => void)[] = [];
  const group = new GroupCommit<string, string>(
    {
      commit: (items) =>
        new Promise((resolve, reject) => {
          calls.push({
            items,
            answer: (outcomes = items.map((item) => `${item}!`)) => resolve(outcomes),
            fail: (code) => reject(new AppError(code, code)),
          });
          for (const arrived of arrivals.splice(0)) arrived();
        }),
      keyOf: (item) => item.slice(0, 1),
      bytesOf: (item) => item.length,
    },
    { largestBatch: 3, capacity: 10, ...options },
  );
  const call = async (index: number): Promise<Call> => {
    for (;;) {
      const found = calls[index];
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => arrivals.push(resolve));
    }
  };
  return { group, call, calls };
}

describe("group commit", () => {
  it("sends what came in one turn together, and the next batch only when that one returned", async () => {
    const { group, call, calls } = byHand();
    const first = [group.add("a"), group.add("b")];
    const one = await call(0);
    expect(one.items).toEqual(["a", "b"]);
    const later = group.add("c");
    await Promise.resolve();
    expect(calls).toHaveLength(1);
    one.answer();
    expect(await Promise.all(first)).toEqual(["a!", "b!"]);
    (await call(1)).answer();
    expect(await later).toBe("c!");
    await group.settle();
    expect(group.waiting).toBe(0);
  });

  it("takes no more bytes than a batch may have, and what has more goes alone", async () => {
    const { group, call } = byHand({ largestBytes: 5 });
    const all = Promise.all(["aaa", "bb", "c", "dddddddd", "e"].map((item) => group.add(item)));
    for (const [index, items] of [["aaa", "bb"], ["c", "e"], ["dddddddd"]].entries()) {
      const batch = await call(index);
      expect(batch.items).toEqual(items);
      batch.answer();
    }
    expect(await all).toEqual(["aaa!", "bb!", "c!", "dddddddd!", "e!"]);
  });

  it("takes at most the largest batch, in order", async () => {
    const { group, call } = byHand();
    const all = Promise.all(["a", "b", "c", "d"].map((item) => group.add(item)));
    (await call(0)).answer();
    const second = await call(1);
    expect(second.items).toEqual(["d"]);
    second.answer();
    expect(await all).toEqual(["a!", "b!", "c!", "d!"]);
  });

  it("never puts two items of one key into a batch, and keeps their order", async () => {
    const { group, call } = byHand();
    const all = Promise.all(["a1", "a2", "b1", "a3"].map((item) => group.add(item)));
    for (const [index, expected] of [["a1", "b1"], ["a2"], ["a3"]].entries()) {
      const batch = await call(index);
      expect(batch.items).toEqual(expected);
      batch.answer();
    }
    await all;
  });

  it("halves a failing batch until the item at fault is alone, and commits the others", async () => {
    const { group, call } = byHand({ largestBatch: 4 });
    const outcomes = Promise.allSettled(["a", "b", "x", "d"].map((item) => group.add(item)));
    for (let index = 0; index < 5; index += 1) {
      const batch = await call(index);
      if (batch.items.includes("x")) batch.fail("internal");
      else batch.answer();
    }
    expect((await outcomes).map((outcome) => (outcome.status === "fulfilled" ? outcome.value : "failed"))).toEqual([
      "a!",
      "b!",
      "failed",
      "d!",
    ]);
  });

  it("tries a batch again as a whole after a conflict", async () => {
    const { group, call } = byHand();
    const all = Promise.all([group.add("a"), group.add("b")]);
    (await call(0)).fail("database.conflict");
    const again = await call(1);
    expect(again.items).toEqual(["a", "b"]);
    again.answer();
    expect(await all).toEqual(["a!", "b!"]);
  });

  it("fails the whole batch at once while the database is away: whether it was stored is not known", async () => {
    const { group, call, calls } = byHand();
    const outcomes = Promise.allSettled([group.add("a"), group.add("b")]);
    (await call(0)).fail("database.unavailable");
    expect((await outcomes).map((outcome) => outcome.status)).toEqual(["rejected", "rejected"]);
    expect(calls).toHaveLength(1);
  });

  it("refuses more than its capacity and takes items again afterwards", async () => {
    const { group, call } = byHand({ capacity: 2 });
    const first = group.add("a");
    const batch = await call(0);
    const waiting = [group.add("b"), group.add("c")];
    await expect(group.add("d")).rejects.toMatchObject({ code: "rate.limited" });
    batch.answer();
    (await call(1)).answer();
    await Promise.all([first, ...waiting]);
  });

  it("fails an item whose outcome is missing instead of leaving it waiting", async () => {
    const { group, call } = byHand();
    const outcomes = Promise.allSettled([group.add("a"), group.add("b")]);
    (await call(0)).answer(["a!"]);
    expect(await outcomes).toMatchObject([{ value: "a!" }, { reason: { code: "internal" } }]);
  });
});
