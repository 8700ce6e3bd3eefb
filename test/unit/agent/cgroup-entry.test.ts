// When the agent moves itself to where it is: for a script that comes alone, once at a time, and never away from where
// somebody has put it. What goes wrong is nobody's concern.
import { expect, test } from "vitest";
import { CgroupEntry } from "../../../agent/cgroup-entry.ts";

/** Entries end at once, unless the test holds them. */
class Host {
  readonly entered: string[] = [];
  groups = "0::/agents/one\n";
  nowMs = 0;
  verdict: () => Promise<void> = () => Promise.resolve();
  readonly entry = new CgroupEntry(
    { path: "/groups/agents/one", ownGroups: this.groups },
    {
      clock: { monotonicMs: () => this.nowMs },
      ownGroups: () => Promise.resolve(this.groups),
      enter: (path) => {
        this.entered.push(path);
        return this.verdict();
      },
    },
  );
}

test("one at a time", async () => {
  const host = new Host();
  const held = Promise.withResolvers<void>();
  host.verdict = () => held.promise;
  const first = host.entry.expect();
  host.nowMs = 1_000;
  await host.entry.expect();
  expect(host.entered).toEqual(["/groups/agents/one"]);
  held.resolve();
  await first;
  host.nowMs = 2_000;
  await host.entry.expect();
  expect(host.entered).toHaveLength(2);
});

test("scripts that follow each other within 25 ms need none, and the first after a pause does", async () => {
  const host = new Host();
  await host.entry.expect();
  for (let count = 0; count < 10; count += 1) {
    host.nowMs += 24;
    await host.entry.expect();
  }
  expect(host.entered).toHaveLength(1);
  host.nowMs += 25;
  await host.entry.expect();
  expect(host.entered).toHaveLength(2);
});

test("an agent that was moved stays where it was put", async () => {
  const host = new Host();
  host.groups = "0::/elsewhere\n";
  await host.entry.expect();
  expect(host.entered).toEqual([]);
});

test("a host that refuses fails nothing, and may change its mind", async () => {
  const host = new Host();
  host.verdict = () => Promise.reject(new Error("EACCES"));
  await host.entry.expect();
  host.nowMs = 1_000;
  await host.entry.expect();
  expect(host.entered).toHaveLength(2);
});
