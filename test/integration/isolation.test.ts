// Isolation locks and slots over HTTP, two nodes and one real agent with real scripts, which write down themselves when they ran.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { RunOptions } from "../../sdk/run-options.ts";
import type { Agent } from "../../agent/agent.ts";
import { startAgentOn } from "../harness/enrolled-agent.ts";
import { eventually } from "../harness/eventually.ts";
import { NodeGroup } from "../harness/node-group.ts";
import { queryRows } from "../harness/query.ts";

let group: NodeGroup;
let agent: Agent;

beforeAll(async () => {
  group = await NodeGroup.start(["node-b"]);
  agent = await group.startAgent("web-01");
});
afterAll(() => group[Symbol.asyncDispose]());

const truth = (name: string): string => join(group.first.folder, `truth-${name}`);
const mark = (name: string): string => `date +%s%N >> '${truth(name)}'`;
/** What it wrote down, in nanoseconds since 1970; nothing before it ran. */
async function marks(name: string): Promise<bigint[]> {
  const text = await readFile(truth(name), "utf8").catch(() => "");
  return text.split("\n").filter(Boolean).map(BigInt);
}
const intervalOf = async (name: string): Promise<{ from: bigint; to: bigint }> => {
  const seen = await marks(name);
  return { from: seen[0] ?? 0n, to: seen.at(-1) ?? 0n };
};

async function run(options: Omit<RunOptions, "on"> & { readonly script: string }): Promise<string> {
  const handle = await group.client.run({ on: "web-01", graceMs: 300, ...options });
  return handle.tasks[0]?.id ?? "";
}
/** Runs until its file says so. */
const endless = (name: string): string =>
  `${mark(name)}; until [ -e '${truth(name)}.end' ] || [ ! -d '${group.first.folder}' ]; do sleep 0.02; done; ${mark(name)}`;
const end = (name: string): Promise<void> => writeFile(`${truth(name)}.end`, "");
const view = (task: string) => group.client.tasks.show(task);
const waits = (task: string, words: string) =>
  eventually(`task ${task} waits: ${words}`, async () => {
    const seen = await view(task);
    return { done: seen.state === "accepted" && seen.waiting?.includes(words) === true, state: seen };
  });

describe("full scripts of one lock", () => {
  it("never run side by side, nor beside none ones, though slots are free", async () => {
    const names = ["a", "b", "c", "d", "e", "f"];
    const tasks = await Promise.all(
      names.map((name, at) =>
        run({
          script: `${mark(name)}; sleep 0.15; ${mark(name)}`,
          isolation: { name: "deploy", mode: at % 3 === 2 ? "none" : "full" },
        }),
      ),
    );
    for (const task of tasks) await group.reaches(task, "succeeded");
    const intervals = await Promise.all(names.map(intervalOf));
    for (const [one, first] of intervals.entries()) {
      for (const [other, second] of intervals.entries()) {
        if (one >= other || (one % 3 === 2 && other % 3 === 2)) continue;
        expect(first.to < second.from || second.to < first.from, `${names[one]} beside ${names[other]}`).toBe(true);
      }
    }
  });

  it("hold it until what they left in the background is gone", async () => {
    // The script dies of TERM; its child takes no notice, and lives until KILL.
    const stubborn = `sh -c 'trap "" TERM; while [ -d "${group.first.folder}" ]; do ${mark("child").replaceAll("'", '"')}; sleep 0.02; done' & wait`;
    const first = await run({ script: stubborn, isolation: { mode: "full" }, timeoutMs: 400, graceMs: 1_200 });
    await group.reaches(first, "running");
    const next = await run({ script: mark("next"), isolation: { mode: "full" } });
    await group.reaches(first, "timed-out");
    await group.reaches(next, "succeeded");
    const [child, after] = [await intervalOf("child"), await intervalOf("next")];
    expect(child.to - child.from).toBeGreaterThan(1_000_000_000n);
    expect(after.from).toBeGreaterThan(child.to);
  });

  it("are seen with their age, and say to those who wait who holds the lock", async () => {
    const holder = await run({ script: endless("holder"), isolation: { name: "deploy", mode: "full" } });
    await group.reaches(holder, "running");
    const writer = await run({ script: mark("writer"), isolation: { name: "deploy", mode: "full" } });
    await waits(writer, `isolation lock deploy of agent web-01 is held by task ${holder} since`);
    const reader = await run({ script: mark("reader"), isolation: { name: "deploy" } });
    await waits(reader, `is held by task ${holder}`);
    const { locks } = await group.named("node-b").client.agents.locks("web-01");
    const deploy = locks.find(({ name }) => name === "deploy");
    expect(deploy?.holders).toMatchObject([{ task: holder, mode: "full" }]);
    expect(deploy?.holders[0]?.ageMs).toBeGreaterThan(0);
    expect(deploy?.waiting.map(({ task, mode }) => [task, mode])).toEqual([
      [writer, "full"],
      [reader, "none"],
    ]);
    // Others are not held up.
    await group.reaches(await run({ script: "true" }), "succeeded");
    await end("holder");
    await group.reaches(reader, "succeeded");
    expect((await intervalOf("writer")).to).toBeLessThan((await intervalOf("reader")).from);
  });

  it("let go of it when a person abandons them", async () => {
    const holder = await run({ script: endless("given-up"), isolation: { mode: "full" } });
    await group.reaches(holder, "running");
    const next = await run({ script: "true", isolation: { mode: "full" } });
    await waits(next, `is held by task ${holder}`);
    await group.client.tasks.abandon(holder);
    await group.reaches(next, "succeeded");
  });

  it("keep it over a restart of the agent, and those who waited still wait", async () => {
    const holder = await run({ script: endless("kept"), isolation: { mode: "full" } });
    await group.reaches(holder, "running");
    const next = await run({ script: mark("kept-next"), isolation: { mode: "full" } });
    await waits(next, `is held by task ${holder}`);
    await agent.stop();
    agent = await startAgentOn(join(group.first.folder, "agents", "web-01"));
    group.agents.push(agent);
    await group.connectedTo("web-01", ["node-a", "node-b"]);
    expect(agent.status().attempts).toMatchObject({ running: 1, waiting: 1 });
    await end("kept");
    await group.reaches(next, "succeeded");
    expect((await intervalOf("kept")).to).toBeLessThan((await intervalOf("kept-next")).from);
  });

  it("end as timed out when they would not wait so long", async () => {
    const holder = await run({ script: endless("long"), isolation: { mode: "full" } });
    await group.reaches(holder, "running");
    const next = await run({ script: mark("too-late"), isolation: { mode: "full", waitMs: 300 } });
    await group.reaches(next, "timed-out");
    expect((await view(next)).attempts.at(-1)).toMatchObject({ reason: "lock-wait", startedAt: null });
    await end("long");
    await group.reaches(holder, "succeeded");
    expect(await marks("too-late")).toEqual([]);
  });
});

describe("slots set at run time", () => {
  const set = (slots: number | null) => group.named("node-b").client.agents.set("web-01", { slots });

  it("lowered end nothing and let nothing more start; raised, what waited starts at once", async () => {
    const names = ["one", "two", "three"];
    const tasks = await Promise.all(names.map((name) => run({ script: endless(name) })));
    for (const task of tasks) await group.reaches(task, "running");
    expect(await set(1)).toMatchObject({ name: "web-01", slots: 1 });
    const more = await run({ script: mark("four") });
    await end("one");
    await group.reaches(tasks[0] ?? "", "succeeded");
    for (const task of tasks.slice(1)) expect((await view(task)).state).toBe("running");
    await eventually("the fourth has no slot", async () => {
      const seen = await view(more);
      return { done: seen.waiting?.includes("no free slot") === true, state: seen };
    });
    expect(await marks("four")).toEqual([]);
    await set(3);
    await group.reaches(more, "succeeded");
    for (const name of ["two", "three"]) await end(name);
    for (const task of tasks) await group.reaches(task, "succeeded");
  });

  it("of none take nothing until they are the agent's own again, and each act is on record", async () => {
    await set(0);
    const task = await run({ script: "true" });
    // Credit is not taken back: what was granted before brings offers, which are refused for now.
    await eventually("it has no slot", async () => {
      const seen = await view(task);
      return { done: /no free slot|busy: .*set to 0/.test(seen.waiting ?? ""), state: seen };
    });
    expect(await set(null)).toMatchObject({ slots: null });
    await group.reaches(task, "succeeded");
    const audit = await queryRows(
      group.first.databaseUrl,
      `select detail->>'slots' as slots from audit where action = 'agent-set' order by id`,
    );
    expect(audit).toEqual([{ slots: "1" }, { slots: "3" }, { slots: "0" }, { slots: null }]);
  });
});
