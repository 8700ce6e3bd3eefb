// Which clocks and versions may join.
import { describe, expect, it } from "vitest";
import { judgeClock, judgeVersion } from "../../../server/cluster/join-checks.ts";

const sample = (gapMs: number, wayMs = 2) => ({
  sentMs: 1_000,
  databaseMs: 1_000 + wayMs / 2 - gapMs,
  receivedMs: 1_000 + wayMs,
});

describe("the clock of a joining node", () => {
  it("may differ from the database's by 2 s, and by what the way may hide", () => {
    for (const gapMs of [0, 2_000, -2_000]) expect(() => judgeClock([sample(gapMs)])).not.toThrow();
    expect(() => judgeClock([sample(4_000, 5_000)])).not.toThrow();
    expect(() => judgeClock([])).not.toThrow();
  });

  it("is refused beyond that, in words that say which way", () => {
    expect(() => judgeClock([sample(2_500)])).toThrow(/2\.5 s ahead of the database's/);
    expect(() => judgeClock([sample(-86_400_000)])).toThrow(/86400\.0 s behind the database's/);
  });

  it("is judged by the quickest sample", () => {
    expect(() => judgeClock([sample(0, 20_000), sample(5_000, 2)])).toThrow(/5\.0 s ahead/);
    expect(() => judgeClock([sample(9_000, 20_000), sample(100, 2)])).not.toThrow();
  });
});

describe("the version of a joining node", () => {
  const others = (version: string) => [{ name: "node-b", version }];
  it.each(["1.3.0", "1.4.9", "1.5.0-rc.1", "odd"])("joins beside %s", (version) => {
    expect(() => judgeVersion("1.4.2", others(version))).not.toThrow();
  });
  it.each(["1.2.9", "1.6.0", "2.4.2", "0.4.2"])("is refused beside %s, naming the node", (version) => {
    expect(() => judgeVersion("1.4.2", others(version))).toThrow(`node node-b runs ${version}`);
  });
});
