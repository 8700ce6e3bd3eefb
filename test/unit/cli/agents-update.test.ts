// `agents update`: which agents are asked, in which waves, what is said of each, and how it exits.
import { expect, test } from "vitest";
import { main } from "../../../cli/main.ts";
import { AppError } from "../../../shared/errors.ts";
import type { AgentView } from "../../../shared/api/agents.ts";
import { agentView, noDownloads, startApi, type RunningApi } from "../../fakes/api-backend.ts";
import { FakeShell } from "../../fakes/shell.ts";

const sum = "ab".repeat(32);
const served = `0.2.0-${sum.slice(0, 12)}`;
const old = "0.1.0-000000000000";
const host = (executable?: string): AgentView["host"] => ({
  hostname: "h",
  os: "linux",
  arch: "x64",
  ...(executable === undefined ? {} : { executable }),
});
const file = "holdfast-agent-linux-x64";

/** The fake lists as it was filled, where a node lists the newest first: the last one added comes first. */
async function withAgents(...agents: (Partial<AgentView> & { name: string })[]): Promise<RunningApi> {
  const list = async () => ({ text: `${sum}  ${file}\n`, digest: "", installerSha256: "" });
  const api = await startApi({}, { ...noDownloads, list });
  for (const agent of agents.toReversed()) {
    const view = agentView({ host: host(old), version: "0.1.0", ...agent });
    api.backend.agents.set(view.id, view);
  }
  // An agent that is updated says so when it greets.
  api.backend.onUpdate = (name) => {
    for (const [id, view] of api.backend.agents) {
      if (view.name === name) api.backend.agents.set(id, { ...view, host: host(served) });
    }
    return { state: "succeeded" };
  };
  return api;
}

async function update(api: RunningApi, words: readonly string[] = [], shell = new FakeShell()) {
  const all = ["agents", "update", "--on", "role=web", "--server", "http://10.0.0.1:8080", ...words];
  const exitCode = await main([...all, "--url", api.url, "--api-key", api.apiKey], shell);
  return { exitCode, out: shell.out.text, err: shell.err.text };
}

async function updateJson(api: RunningApi, ...words: string[]) {
  const { exitCode, out } = await update(api, [...words, "--json"]);
  return { exitCode, ...JSON.parse(out) };
}

const asked = (api: RunningApi): string[][] =>
  api.backend.updates.map(({ agents }) => agents.map((id) => api.backend.agents.get(id)?.name ?? id));

test("one first, then waves of the size asked for, each with the sum that the node listed", async () => {
  await using api = await withAgents(...["a", "b", "c", "d"].map((name) => ({ name })));
  const { exitCode, out, err } = await update(api, ["--wave", "2"]);
  expect(exitCode).toBe(0);
  expect(asked(api)).toEqual([["a"], ["b", "c"], ["d"]]);
  expect(api.backend.updates[0]).toMatchObject({
    sums: { [file]: sum },
    servers: ["http://10.0.0.1:8080"],
    greetMs: 60_000,
    queueTimeoutMs: 60_000,
  });
  expect(out.split("\n")[0]).toMatch(/^AGENT +FROM +TO +WAVE +STATE +REASON$/);
  expect(out).toMatch(new RegExp(`^c +${old} +${served} +2 +updated`, "m"));
  expect(err).toContain("wave 2: b, c");
});

test("agents at the version are left alone, so that the same command goes on where it stopped", async () => {
  await using api = await withAgents({ name: "a", host: host(served) }, { name: "b" });
  expect(await updateJson(api)).toMatchObject({
    exitCode: 0,
    outcome: "done",
    agents: [
      { name: "a", state: "current", wave: null },
      { name: "b", state: "updated", from: old, to: served, wave: 1 },
    ],
  });
  expect(await updateJson(api)).toMatchObject({ exitCode: 0, agents: [{ state: "current" }, { state: "current" }] });
  expect(asked(api)).toEqual([["b"]]);
});

test("what cannot be updated is said and not asked: exit code 1; what is offline is skipped: 69", async () => {
  await using api = await withAgents(
    { name: "npm", host: host() },
    { name: "arm", host: { hostname: "h", os: "linux", arch: "arm64", executable: old } },
    { name: "paused", paused: true },
    { name: "off", connection: "offline", lastSeenAt: "2026-11-23T16:00:00.000Z" },
  );
  const { exitCode, agents } = await updateJson(api);
  expect(exitCode).toBe(1);
  expect(agents).toMatchObject([
    { name: "npm", state: "refused", reason: expect.stringContaining("on its machine") },
    { name: "arm", state: "refused", reason: "the node serves no holdfast-agent-linux-arm64" },
    { name: "paused", state: "refused", reason: expect.stringContaining("paused") },
    { name: "off", state: "offline", reason: "last seen 2026-11-23T16:00:00.000Z" },
  ]);
  for (const [id, view] of api.backend.agents) if (view.name !== "off") api.backend.agents.delete(id);
  expect(await updateJson(api)).toMatchObject({ exitCode: 69, outcome: "done" });
  expect(asked(api)).toEqual([]);
});

test("with --wait those that are offline come last and have so long to begin; one that does not is no failure", async () => {
  await using api = await withAgents({ name: "off", connection: "offline" }, { name: "on" });
  const updated = api.backend.onUpdate;
  api.backend.onUpdate = (name) => (name === "off" ? { state: "expired" } : updated(name));
  expect(await updateJson(api, "--wait", "10m")).toMatchObject({
    exitCode: 69,
    outcome: "done",
    agents: [
      { name: "on", state: "updated" },
      { name: "off", state: "offline", reason: "it did not begin in time" },
    ],
  });
  expect(api.backend.updates[0]).toMatchObject({ queueTimeoutMs: 600_000 });
});

const rolledBack = {
  state: "failed",
  exitCode: 1,
  log: "holdfast: switching\nholdfast: the new version was not kept: it was not seen (update.rolled-back)\n  Read the log.\n",
} as const;

test("more failures than may be: no further wave, and who was left is named", async () => {
  await using api = await withAgents(...["a", "b", "c", "d", "e"].map((name) => ({ name })));
  const updated = api.backend.onUpdate;
  api.backend.onUpdate = (name) => (name === "b" || name === "c" ? rolledBack : updated(name));
  const { exitCode, err } = await update(api, ["--wave", "2", "--failures", "1"]);
  expect(exitCode).toBe(1);
  expect(asked(api)).toEqual([["a"], ["b", "c"]]);
  expect(err).toContain("b: failed: the new version was not kept: it was not seen (update.rolled-back)");
  expect(err).toContain("stopped, too many failed: 1 updated, 2 failed, 2 untouched; left as they were: d, e");
});

test("as many failures as may be: it goes on, and exits 1 at the end", async () => {
  await using api = await withAgents(...["a", "b", "c"].map((name) => ({ name })));
  const updated = api.backend.onUpdate;
  api.backend.onUpdate = (name) => (name === "b" ? { state: "lost", reason: "unreachable" } : updated(name));
  expect(await updateJson(api, "--failures", "1")).toMatchObject({
    exitCode: 1,
    outcome: "done",
    agents: [{ state: "updated" }, { state: "failed", reason: "lost: unreachable" }, { state: "updated" }],
  });
});

test("--dry-run shows what would be done and asks nobody", async () => {
  await using api = await withAgents({ name: "a" }, { name: "b", connection: "offline" });
  expect(await updateJson(api, "--dry-run")).toMatchObject({
    exitCode: 0,
    outcome: "planned",
    agents: [
      { name: "a", state: "planned", to: sum.slice(0, 12) },
      { name: "b", state: "offline" },
    ],
  });
  expect(asked(api)).toEqual([]);
});

test("Ctrl-C stops after the wave that is under way and names who is left; exit code 130", async () => {
  await using api = await withAgents({ name: "a" }, { name: "b" });
  const updated = api.backend.onUpdate;
  api.backend.onUpdate = () => ({ state: "running" });
  const shell = new FakeShell();
  const running = update(api, [], shell);
  await shell.err.until("wave 1: a");
  shell.press();
  await shell.err.until("stopping after this wave");
  updated("a");
  await expect.poll(() => api.backend.tasks.size).toBe(1);
  for (const task of api.backend.tasks.values()) task.finish("succeeded", { exitCode: 0 });
  const { exitCode, err, out } = await running;
  expect(exitCode).toBe(130);
  expect(asked(api)).toEqual([["a"]]);
  expect(err).toContain("the same command goes on from here: 1 updated, 1 untouched; left as they were: b");
  expect(out).toMatch(/^b .* untouched/m);
  expect(shell.listening).toBe(0);
});

test("a second Ctrl-C leaves at once: what is under way goes on, and is called that", async () => {
  await using api = await withAgents({ name: "a" }, { name: "b" });
  api.backend.onUpdate = () => ({ state: "running" });
  const shell = new FakeShell();
  const running = update(api, [], shell);
  await shell.err.until("wave 1: a");
  await expect.poll(() => api.backend.tasks.size).toBe(1);
  shell.press();
  shell.press("SIGTERM");
  const { exitCode, err, out } = await running;
  expect(exitCode).toBe(130);
  expect(out).toMatch(/^a .* running/m);
  expect(out).toMatch(/^b .* untouched/m);
  expect(err).toContain("updates that are under way go on");
});

test("a pause between waves ends with Ctrl-C", async () => {
  await using api = await withAgents({ name: "a" }, { name: "b" });
  const shell = new FakeShell();
  const running = update(api, ["--pause", "1h"], shell);
  await shell.err.until("a: updated");
  shell.press("SIGTERM");
  expect((await running).exitCode).toBe(143);
  expect(asked(api)).toEqual([["a"]]);
});

/** Has the request that starts the wave of this number fail, once its answer has come or before anything is stored. */
function failWave(api: RunningApi, { wave, stored, error }: { wave: number; stored: boolean; error: AppError }): void {
  const { backend } = api;
  const real = backend.updateAgents.bind(backend);
  let waves = 0;
  backend.updateAgents = async (asking) => {
    waves += 1;
    if (waves !== wave) return real(asking);
    if (stored) await real(asking);
    throw error;
  };
}

test("a wave that is refused breaks it off: all rows are shown, nothing of that wave was begun, the error's exit code", async () => {
  await using api = await withAgents({ name: "a" }, { name: "b" }, { name: "c" });
  failWave(api, { wave: 2, stored: false, error: new AppError("download.unknown", "another version is served") });
  const shell = new FakeShell();
  const { exitCode, out, err } = await update(api, ["--wave", "1", "--json"], shell);
  expect(exitCode).toBe(1);
  expect(JSON.parse(out)).toMatchObject({
    outcome: "broken-off",
    agents: [
      { name: "a", state: "updated", wave: 1 },
      { name: "b", state: "untouched", wave: null },
      { name: "c", state: "untouched", wave: null },
    ],
  });
  expect(err).toContain(
    "broken off; updates that are under way go on: 1 updated, 2 untouched; left as they were: b, c",
  );
  expect(err).toContain("another version is served");
  expect(shell.listening).toBe(0);
});

test("an API that goes away in a wave leaves that wave running, as far as anybody knows", async () => {
  await using api = await withAgents({ name: "a" }, { name: "b" });
  api.backend.readSubmission = async () => {
    throw new AppError("internal", "gone wrong");
  };
  api.backend.readTask = async () => {
    throw new AppError("internal", "gone wrong");
  };
  const { exitCode, out, err } = await update(api);
  expect(exitCode).toBe(1);
  expect(out).toMatch(/^a .* 1 +running/m);
  expect(out).toMatch(/^b .* untouched/m);
  expect(err).toContain("1 running, 1 untouched; left as they were: b");
  expect(err).toContain("(internal)");
});

test("whose submission's outcome is not known may be under way", async () => {
  await using api = await withAgents({ name: "a" }, { name: "b" });
  failWave(api, { wave: 1, stored: true, error: new AppError("internal", "after the commit") });
  expect(await updateJson(api)).toMatchObject({
    exitCode: 1,
    agents: [
      { state: "running", wave: 1 },
      { state: "untouched", wave: null },
    ],
  });
});

test("an agent that is removed on the way is gone, and the others of its wave are updated", async () => {
  await using api = await withAgents({ name: "a" }, { name: "b" }, { name: "c" }, { name: "d" });
  const { backend } = api;
  const real = backend.updateAgents.bind(backend);
  const idOf = (name: string): string => [...backend.agents.values()].find((view) => view.name === name)?.id ?? "";
  backend.updateAgents = async (asking) => {
    const [first = ""] = asking.request.agents;
    if (first === idOf("b")) {
      const view = backend.agents.get(first);
      if (view?.status === "active") backend.agents.set(first, { ...view, status: "removed" });
      throw new AppError("agent.unknown", "no active agent is called b");
    }
    return real(asking);
  };
  const { exitCode, agents, outcome } = await updateJson(api, "--wave", "2");
  expect(agents).toMatchObject([
    { name: "a", state: "updated", wave: 1 },
    { name: "b", state: "gone", reason: "it is removed", to: null, wave: null },
    { name: "c", state: "updated", wave: 2 },
    { name: "d", state: "updated", wave: 3 },
  ]);
  expect([exitCode, outcome]).toEqual([0, "done"]);
});

test("an agent that is unknown to the wave and known when it is looked at breaks it off, and is not asked for ever", async () => {
  await using api = await withAgents({ name: "a" });
  failWave(api, { wave: 1, stored: false, error: new AppError("agent.unknown", "no active agent is called a") });
  expect(await updateJson(api)).toMatchObject({ exitCode: 1, outcome: "broken-off", agents: [{ state: "untouched" }] });
});

test("an agent that is updated and cannot be looked at is updated all the same", async () => {
  await using api = await withAgents({ name: "a" });
  api.backend.findAgent = async () => {
    throw new AppError("agent.unknown", "no agent is called a");
  };
  expect(await updateJson(api)).toMatchObject({
    exitCode: 0,
    outcome: "done",
    agents: [{ state: "updated", to: sum.slice(0, 12) }],
  });
});

test.each([
  [["--wave", "0"], "--wave"],
  [["--wave", "101%"], "--wave"],
  [["--failures", "-1"], "--failures"],
  [["--greet-within", "10m"], "--greet-within"],
  [["--wait", "0"], "--wait"],
])("%j is wrong usage", async (words, flag) => {
  await using api = await withAgents({ name: "a" });
  const { exitCode, err } = await update(api, words);
  expect([exitCode, err]).toEqual([2, expect.stringContaining(flag)]);
  expect(asked(api)).toEqual([]);
});
