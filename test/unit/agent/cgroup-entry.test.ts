// When the agent moves itself to where it is: for a script that comes alone, once at a time, never away from where somebody
// has put it, and not again where the host refuses it.
import { expect, test } from "vitest";
import { CgroupEntry } from "../../../agent/cgroup-entry.ts";

/** Entries that end when the test says so. */
function host(): {
  readonly entry: CgroupEntry;
  readonly entered: string[];
  groups: string;
  nowMs: number;
  end: (verdict: "let in" | "refused") => Promise<void>;
} {
  const waiting: PromiseWithResolvers<void>[] = [];
  const entered: string[] = [];
  const self = { groups: "0::/agents/one\n", nowMs: 0 };
  const entry = new CgroupEntry("/groups/agents/one", {
    clock: { monotonicMs: () => self.nowMs },
    ownGroups: () => self.groups,
    enter: (path) => {
      entered.push(path);
      const end = Promise.withResolvers<void>();
      waiting.push(end);
      return end.promise;
    },
  });
  return Object.assign(self, {
    entry,
    entered,
    end: async (verdict: "let in" | "refused") => {
      const end = waiting.shift();
      if (verdict === "let in") end?.resolve();
      else end?.reject(new Error("EACCES"));
      await Promise.resolve();
      await Promise.resolve();
    },
  });
}

test("one at a time", async () => {
  const here = host();
  here.entry.expect();
  here.nowMs = 1_000;
  here.entry.expect();
  expect(here.entered).toEqual(["/groups/agents/one"]);
  await here.end("let in");
  here.nowMs = 2_000;
  here.entry.expect();
  expect(here.entered).toHaveLength(2);
});

test("scripts that follow each other closely need none, and the first after a pause does", async () => {
  const here = host();
  here.entry.expect();
  await here.end("let in");
  for (here.nowMs = 20; here.nowMs <= 200; here.nowMs += 20) here.entry.expect();
  expect(here.entered).toHaveLength(1);
  here.nowMs += 30;
  here.entry.expect();
  expect(here.entered).toHaveLength(2);
});

test("an agent that was moved stays where it was put", () => {
  const here = host();
  here.groups = "0::/elsewhere\n";
  here.entry.expect();
  expect(here.entered).toEqual([]);
});

test("a host that refuses is not asked again", async () => {
  const here = host();
  here.entry.expect();
  await here.end("refused");
  here.nowMs = 1_000;
  here.entry.expect();
  expect(here.entered).toHaveLength(1);
});
