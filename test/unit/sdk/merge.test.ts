// Many sources as one: bounded, ordered per source, nothing left running.
import { expect, test } from "vitest";
import { merge, type Source } from "../../../sdk/merge.ts";

function counting(name: string, count: number, log: string[] = []): Source<string> {
  return async function* (signal) {
    try {
      for (let index = 0; index < count && !signal.aborted; index += 1) {
        log.push(`${name}${index}`);
        yield `${name}${index}`;
      }
    } finally {
      log.push(`${name} closed`);
    }
  };
}

test("every item of every source comes out, each source's in order", async () => {
  const got: string[] = [];
  for await (const item of merge([counting("a", 50), counting("b", 3), counting("c", 20)], { most: 2 })) got.push(item);
  for (const name of ["a", "b", "c"])
    expect(got.filter((item) => item.startsWith(name))).toEqual(
      got
        .filter((item) => item.startsWith(name))
        .toSorted((one, other) => Number(one.slice(1)) - Number(other.slice(1))),
    );
  expect(got).toHaveLength(73);
});

test("a reader that stops reading stops the sources", async () => {
  const log: string[] = [];
  for await (const item of merge([counting("a", 1_000, log), counting("b", 1_000, log)], { most: 2 }))
    if (item === "a3") break;
  expect(log.length).toBeLessThan(20);
  expect(log.filter((entry) => entry.endsWith("closed")).toSorted()).toEqual(["a closed", "b closed"]);
});

test("an error of one source ends all and comes out", async () => {
  const log: string[] = [];
  const failing: Source<string> = async function* () {
    yield "x";
    throw new Error("broken");
  };
  const reading = async (): Promise<void> => {
    for await (const _item of merge([counting("a", 1_000_000, log), failing], { most: 2 }));
  };
  await expect(reading()).rejects.toThrow("broken");
  expect(log.at(-1)).toBe("a closed");
});

test("no sources are an empty sequence", async () => {
  expect((await merge([], { most: 2 }).next()).done).toBe(true);
});
