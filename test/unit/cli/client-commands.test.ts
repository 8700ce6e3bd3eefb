// The other client commands: listings, JSON, login and what wins over what.
import { afterEach, expect, test, vi } from "vitest";
import { main } from "../../../cli/main.ts";
import { attemptView, agentView, FakeTask, startApi, taskView, type RunningApi } from "../../fakes/api-backend.ts";
import { FakeShell, type FakeShellOptions } from "../../fakes/shell.ts";

afterEach(() => vi.unstubAllEnvs());

async function run(
  words: readonly string[],
  options: FakeShellOptions = {},
): Promise<{ shell: FakeShell; exitCode: number }> {
  const shell = new FakeShell(options);
  return { shell, exitCode: await main(words, shell) };
}

const withKey = (api: RunningApi): string[] => ["--url", api.url, "--api-key", api.apiKey];

test("every listing is {items, next} as JSON and a table for people", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  for (const noun of ["tasks", "agents", "nodes", "tokens"]) {
    const json = await run([noun, "list", "--json", ...withKey(api)]);
    expect([json.exitCode, json.shell.err.text]).toEqual([0, ""]);
    expect(JSON.parse(json.shell.out.text)).toMatchObject({ items: expect.any(Array), next: null });
    expect((await run([noun, "list", ...withKey(api)])).shell.out.text).toMatch(/^[A-Z]/);
  }
  expect((await run(["tasks", "list", ...withKey(api)])).shell.out.text).toContain(task.view.id);
});

test("a listing with more says how to go on", async () => {
  await using api = await startApi();
  for (let index = 0; index < 3; index += 1) api.backend.add();
  const { shell } = await run(["tasks", "list", "--limit", "2", ...withKey(api)]);
  expect(shell.err.text).toMatch(/--cursor [0-9a-f-]{36}/);
});

test("tasks show prints the task, as JSON with stable names", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  expect(JSON.parse((await run(["tasks", "show", task.view.id, "--json", ...withKey(api)])).shell.out.text)).toEqual(
    task.view,
  );
  expect((await run(["tasks", "show", task.view.id, ...withKey(api)])).shell.out.text).toContain("running");
});

test("tasks logs parts the streams; with --follow it goes on to the end; as JSON it is one object per line", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  task.append("out", "one\ntwo\n");
  task.append("err", "bad\n");
  const stored = await run(["tasks", "logs", task.view.id, ...withKey(api)]);
  expect([stored.shell.out.text, stored.shell.err.text]).toEqual(["one\ntwo\n", "bad\n"]);
  const following = run(["tasks", "logs", task.view.id, "--follow", "--stream", "out", ...withKey(api)]);
  task.append("out", "three\n");
  task.finish("failed", { exitCode: 5 });
  const followed = await following;
  expect([followed.exitCode, followed.shell.out.text, followed.shell.err.text]).toEqual([0, "one\ntwo\nthree\n", ""]);
  const json = await run(["tasks", "logs", task.view.id, "--json", ...withKey(api)]);
  expect(
    json.shell.out.text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).text),
  ).toEqual(["one", "two", "bad", "three"]);
});

test("tasks cancel is recorded; of a finished task it fails with its code", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  expect((await run(["tasks", "cancel", task.view.id, ...withKey(api)])).exitCode).toBe(0);
  expect(api.backend.cancelled).toEqual([task.view.id]);
  task.finish("cancelled");
  const late = await run(["tasks", "cancel", task.view.id, "--json", ...withKey(api)]);
  expect(late.exitCode).toBe(1);
  expect(JSON.parse(late.shell.err.text)).toMatchObject({ code: "task.finished" });
});

test("tasks abandon says that it may still run; of a queued task that it is cancelled; of a finished one it fails", async () => {
  await using api = await startApi();
  const [task, queued] = [api.backend.add(), api.backend.add(new FakeTask(taskView({ state: "queued" })))];
  const abandoned = await run(["tasks", "abandon", task.view.id, ...withKey(api)]);
  expect([abandoned.exitCode, abandoned.shell.out.text]).toEqual([
    0,
    "abandoned; it may still run on web-01, which is asked to cancel it\n",
  ]);
  const json = await run(["tasks", "abandon", task.view.id, "--json", ...withKey(api)]);
  expect(JSON.parse(json.shell.out.text)).toMatchObject({ state: "abandoned", reason: "may-still-run" });
  expect((await run(["tasks", "abandon", queued.view.id, ...withKey(api)])).shell.out.text).toBe("cancelled\n");
  const done = api.backend.add();
  done.finish("failed", { exitCode: 1 });
  const late = await run(["tasks", "abandon", done.view.id, ...withKey(api)]);
  expect([late.exitCode, late.shell.err.text]).toEqual([1, expect.stringContaining("task.finished")]);
});

test("tasks show prints results that came too late below the attempts, and nothing where there are none", async () => {
  await using api = await startApi();
  const attempt = attemptView({ state: "abandoned", reason: "may-still-run" });
  const late = {
    receivedAt: "2026-11-23T17:00:00.000Z",
    outcome: "failed" as const,
    reason: null,
    exitCode: 77,
    signal: null,
  };
  const show = async (lateResults: readonly (typeof late)[]) => {
    const view = taskView({ attempts: [{ ...attempt, lateResults: [...lateResults] }] });
    api.backend.add(new FakeTask(view));
    return (await run(["tasks", "show", view.id, ...withKey(api)])).shell.out.text;
  };
  expect(await show([late])).toMatch(/too late to count:\n.*OUTCOME.*\n1 +failed +77 +2026-11-23T17:00:00.000Z/);
  expect(await show([])).not.toContain("too late");
});

test("tasks show prints output variables, made safe, and nothing where there are none", async () => {
  await using api = await startApi();
  const show = async (outputs: Record<string, string> | undefined) => {
    const view = taskView({ attempts: [attemptView(outputs === undefined ? {} : { outputs })] });
    api.backend.add(new FakeTask(view));
    return (await run(["tasks", "show", view.id, ...withKey(api)])).shell.out.text;
  };
  const shown = await show({ VERSION: "1.2.3", TRICK: "\x1b[2Jgone" });
  expect(shown).toMatch(/Output variables:\n.*NAME.*VALUE\n1 +VERSION +1\.2\.3\n1 +TRICK/);
  expect(shown).not.toContain("\x1b");
  expect(await show({})).not.toContain("Output");
  expect(await show(undefined)).not.toContain("Output");
});

test("agents remove does nothing without --yes, says what it would do, and with it removes what it looked at", async () => {
  await using api = await startApi();
  const agent = agentView({ name: "web-07" });
  api.backend.agents.set(agent.id, agent);
  const asked = await run(["agents", "remove", "web-07", ...withKey(api)]);
  expect([asked.exitCode, asked.shell.out.text, api.backend.agents.get(agent.id)?.status]).toEqual([2, "", "active"]);
  expect(asked.shell.err.text).toMatch(/removing agent web-07 \(active, connected\) cannot be undone[^]*--yes/);
  const removed = await run(["agents", "remove", "web-07", "--yes", ...withKey(api)]);
  expect([removed.exitCode, removed.shell.out.text]).toEqual([0, "web-07 is removed\n"]);
  expect(api.backend.agents.get(agent.id)?.status).toBe("removed");
  const again = await run(["agents", "remove", "web-07", "--yes", ...withKey(api)]);
  expect([again.exitCode, again.shell.err.text]).toEqual([1, expect.stringContaining("was removed already")]);
  const unknown = await run(["agents", "remove", "nobody", ...withKey(api)]);
  expect([unknown.exitCode, unknown.shell.err.text]).toEqual([1, expect.stringContaining("agent.unknown")]);
});

test("tokens create prints the token alone on standard output", async () => {
  await using api = await startApi();
  const { shell } = await run([
    "tokens",
    "create",
    "--label",
    "role=web",
    "env=prod",
    "--label",
    "a=b",
    "--expires",
    "10m",
    ...withKey(api),
  ]);
  expect(shell.out.text).toBe("hft_secret\n");
  expect(shell.err.text).not.toContain("install.sh");
  api.backend.installerSha256 = "ab".repeat(32);
  const serving = await run(["tokens", "create", ...withKey(api)]);
  expect(serving.shell.out.text).toBe("hft_secret\n");
  expect(serving.shell.err.text).toContain(`\n  curl -fsSLO ${api.url}/downloads/install.sh && echo "abab`);
  expect(serving.shell.err.text).toContain("127.0.0.1 is this machine");
  const json = await run(["tokens", "create", "--label", "role=web,env=prod", "--json", ...withKey(api)]);
  expect(JSON.parse(json.shell.out.text)).toMatchObject({ token: "hft_secret", labels: { role: "web", env: "prod" } });
});

test("login saves URL and key, later commands use them, environment wins over them, flags over both", async () => {
  await using api = await startApi();
  await using other = await startApi();
  const task = api.backend.add();
  const login = await run(["login", "--url", api.url, "--api-key", "file://key"], {
    files: { key: `${api.apiKey}\n` },
  });
  expect([login.exitCode, login.shell.err.text]).toEqual([0, expect.stringContaining("saved in")]);
  const files = Object.fromEntries(login.shell.files);
  expect(JSON.parse(files["/home/test/.config/holdfast/login.json"] ?? "")).toEqual({
    url: api.url,
    apiKey: api.apiKey,
  });
  expect((await run(["tasks", "list"], { files })).shell.out.text).toContain(task.view.id);
  vi.stubEnv("HOLDFAST_URL", other.url);
  vi.stubEnv("HOLDFAST_API_KEY", other.apiKey);
  expect((await run(["tasks", "list"], { files })).shell.out.text).not.toContain(task.view.id);
  expect((await run(["tasks", "list", ...withKey(api)], { files })).shell.out.text).toContain(task.view.id);
});

test("a saved key is not sent to another server", async () => {
  await using api = await startApi();
  const files = {
    "/home/test/.config/holdfast/login.json": JSON.stringify({ url: "https://prod.example.com", apiKey: api.apiKey }),
  };
  const { exitCode, shell } = await run(["tasks", "list", "--url", api.url], { files });
  expect(exitCode).toBe(77);
  expect(shell.err.text).toContain("auth.missing");
});

test("login refuses a key that the server refuses and saves nothing", async () => {
  await using api = await startApi();
  const { exitCode, shell } = await run(["login", "--url", api.url, "--api-key", "hfk_wrong"]);
  expect(exitCode).toBe(77);
  expect(shell.files.size).toBe(0);
});

test("an empty variable counts as not set, a switch may say no", async () => {
  await using api = await startApi();
  vi.stubEnv("HOLDFAST_URL", "");
  vi.stubEnv("HOLDFAST_JSON", "0");
  expect((await run(["nodes", "list", ...withKey(api)])).shell.out.text).toMatch(/^NAME/);
  vi.stubEnv("HOLDFAST_JSON", "1");
  expect((await run(["nodes", "list", ...withKey(api)])).shell.out.text).toMatch(/^\{/);
});
