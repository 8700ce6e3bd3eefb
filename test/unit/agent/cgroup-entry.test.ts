// When the agent moves itself to where it is: once at a time, never away from where somebody has put it, and not again where
// the host refuses it.
import { expect, test } from "vitest";
import { CgroupEntry } from "../../../agent/cgroup-entry.ts";

/** Entries that end when the test says so. */
function host(): {
  readonly entry: CgroupEntry;
  readonly entered: string[];
  groups: string;
  end: (verdict: "let in" | "refused") => Promise<void>;
} {
  const waiting: PromiseWithResolvers<void>[] = [];
  const entered: string[] = [];
  const self = { groups: "0::/agents/one\n" };
  const entry = new CgroupEntry("/groups/agents/one", {
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

test("those that expect an entry while one is under way share it", async () => {
  const { entry, entered, end } = host();
  entry.expect();
  entry.expect();
  expect(entered).toEqual(["/groups/agents/one"]);
  await end("let in");
  entry.expect();
  expect(entered).toHaveLength(2);
});

test("an agent that was moved stays where it was put", () => {
  const here = host();
  here.groups = "0::/elsewhere\n";
  here.entry.expect();
  expect(here.entered).toEqual([]);
});

test("a host that refuses is not asked again", async () => {
  const { entry, entered, end } = host();
  entry.expect();
  await end("refused");
  entry.expect();
  expect(entered).toHaveLength(1);
});
