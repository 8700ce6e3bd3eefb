// Three hundred seeds with every test run, the seeds that once found something, and that a seed always means the same.
import { beforeAll, describe, expect, test } from "vitest";
import { keptSeeds, pairSeeds } from "./kept-seeds.ts";
import { otherPairs, simulatedPairs } from "./pairs.ts";
import { cutBugs, plantedBugs } from "./planted/bugs.ts";
import { rewrite } from "./planted/plant.ts";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { runSeed, type RunReport } from "./simulation.ts";
import { runList, runSeeds } from "./threads.ts";

const seeds = 300;
const reports = new Map<number, RunReport>();
const failures = (): string[] =>
  [...reports.values()]
    .filter(({ violations }) => violations.length > 0)
    .map(({ seed, violations }) => `npm run simulate -- --seed ${seed} --trace   # ${violations.join("; ")}`);

beforeAll(async () => {
  const keep = (report: RunReport): void => void reports.set(report.seed, report);
  await runSeeds({ from: 1, count: seeds }, keep);
  await runList([...keptSeeds.map(({ seed }) => seed), ...pairSeeds], keep);
}, 120_000);

describe("the simulated cluster", () => {
  test("keeps every promise in three hundred seeds and in those that once found something", () => {
    expect(failures()).toEqual([]);
    expect(reports.size).toBeGreaterThanOrEqual(seeds);
  });

  test.each(simulatedPairs)("meets the pair: %s", (pair) => {
    expect([...reports.values()].filter(({ pairs }) => (pairs[pair] ?? 0) > 0).length).toBeGreaterThan(0);
  });

  test("says of every other pair where it is looked at", () => {
    expect(Object.values(otherPairs).every((reason) => reason.length > 20)).toBe(true);
    expect(simulatedPairs.length + Object.keys(otherPairs).length).toBe(58);
  });
});

describe("a seed", () => {
  test.each([3, 17, 42, 101, 207])("%i gives the same trace twice, on whatever thread", async (seed) => {
    const again = await runSeed(seed);
    expect(again.hash).toBe(reports.get(seed)?.hash);
    expect(again.events).toBe(reports.get(seed)?.events);
  });

  test("gives another trace than its neighbour", () => {
    expect(new Set([...reports.values()].map(({ hash }) => hash)).size).toBe(reports.size);
  });
});

describe("a planted bug", () => {
  test.each([...plantedBugs, ...cutBugs])("has its place still: $name", (bug) => {
    const source = readFileSync(resolve(import.meta.dirname, "../..", bug.file), "utf8");
    expect(rewrite(bug, source)).not.toBe(source);
  });

  test("whose place is gone is an error", () => {
    const [bug] = plantedBugs;
    if (bug === undefined) throw new Error("there are planted bugs");
    expect(() => rewrite(bug, "something else")).toThrow("its place is found 0 times");
    expect(() => rewrite(bug, bug.find + bug.find)).toThrow("its place is found 2 times");
  });
});
