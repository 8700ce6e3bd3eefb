// `holdfast run` against the real HTTP edge: output, exit codes, Ctrl-C.
import { expect, test, vi } from "vitest";
import { main } from "../../../cli/main.ts";
import { AppError } from "../../../shared/errors.ts";
import { attemptView, FakeTask, startApi, taskView, type RunningApi } from "../../fakes/api-backend.ts";
import { FakeShell, type FakeShellOptions } from "../../fakes/shell.ts";

function start(
  api: RunningApi,
  words: readonly string[],
  options: FakeShellOptions = {},
): { shell: FakeShell; exitCode: Promise<number> } {
  const shell = new FakeShell(options);
  return { shell, exitCode: main(["run", "--url", api.url, "--api-key", api.apiKey, ...words], shell) };
}

test("one agent: its bytes as they are, on the right stream, and the script's exit code", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  const raw = Uint8Array.from({ length: 512 }, (_, index) => index % 256);
  const { shell, exitCode } = start(api, ["--on", "web-01", "--", "uname -a; exit 3"]);
  task.append("out", raw);
  task.append("err", "careful\n");
  task.finish("failed", { exitCode: 3 });
  expect(await exitCode).toBe(3);
  expect(shell.out.bytes.equals(raw)).toBe(true);
  expect(shell.err.text).toBe("careful\n");
  expect(api.backend.submits[0]?.submit.work).toMatchObject({
    selector: { kind: "names", names: ["web-01"] },
    spec: { script: "uname -a; exit 3" },
  });
  expect(shell.listening).toBe(0);
});

test.each([
  [{ state: "succeeded", exitCode: 0 }, 0],
  [{ state: "failed", exitCode: 127 }, 127],
  [{ state: "failed", signal: "SIGKILL" }, 137],
  [{ state: "timed-out" }, 124],
  [{ state: "lost", reason: "journal-missing" }, 200],
  [{ state: "abandoned" }, 200],
  [{ state: "expired" }, 201],
  [{ state: "cancelled" }, 202],
  [{ state: "interrupted", reason: "host-reboot" }, 203],
  [{ state: "refused", reason: "policy" }, 204],
] as const)("a task that ends as %j exits %i", async (end, expected) => {
  await using api = await startApi();
  const { state, ...rest } = end;
  api.backend.add().finish(state, rest);
  const { shell, exitCode } = start(api, ["--on", "web-01", "--", "x"]);
  expect(await exitCode).toBe(expected);
  expect(shell.err.text.includes("web-01")).toBe(!("exitCode" in end));
});

test.each([
  ["signal", "ended by SIGKILL (task"],
  ["oom-killed", "ended by SIGKILL: oom-killed (task"],
])("a script that a signal ended, reason %s, is told as %j", async (reason, told) => {
  await using api = await startApi();
  api.backend.add().finish("failed", { signal: "SIGKILL", reason });
  const { shell, exitCode } = start(api, ["--on", "web-01", "--", "x"]);
  await exitCode;
  expect(shell.err.text).toContain(told);
});

test("several agents: lines behind the agent's name, a table of results, 1 when one failed", async () => {
  await using api = await startApi();
  const [one, two] = ["web-01", "db-7"].map((agent) => api.backend.add(new FakeTask(taskView({ agent }))));
  one?.append("out", "first\nsecond");
  two?.append("out", "hi\n");
  one?.finish("succeeded", { exitCode: 0 });
  two?.finish("failed", { exitCode: 9 });
  const { shell, exitCode } = start(api, ["--on", "*", "--", "x"]);
  expect(await exitCode).toBe(1);
  expect(shell.out.text).toContain("web-01 | first\n");
  expect(shell.out.text).toContain("web-01 | second\n");
  expect(shell.out.text).toContain("db-7   | hi\n");
  expect(shell.out.text).toMatch(/AGENT {3}STATE {6}EXIT/);
  expect(shell.out.text).not.toContain("\x1b");
});

test("on a terminal names are coloured and a script cannot move the cursor", async () => {
  await using api = await startApi();
  for (const agent of ["a", "b"]) {
    const task = api.backend.add(new FakeTask(taskView({ agent })));
    task.append("out", "\x1b[2J\x1b[31mred\x1b[0m\n");
    task.finish("succeeded", { exitCode: 0 });
  }
  const { shell, exitCode } = start(api, ["--on", "a,b", "--", "x"], { terminal: true });
  expect(await exitCode).toBe(0);
  expect(shell.out.text).toContain("\x1b[36ma |\x1b[39m \x1b[31mred\x1b[0m");
  expect(shell.out.text).not.toContain("\x1b[2J");
});

test("NO_COLOR takes the colours away", async () => {
  await using api = await startApi();
  for (const agent of ["a", "b"])
    api.backend.add(new FakeTask(taskView({ agent }))).finish("succeeded", { exitCode: 0 });
  const { shell, exitCode } = start(api, ["--on", "a,b", "--", "x"], {
    terminal: true,
    environment: { NO_COLOR: "1" },
  });
  await exitCode;
  expect(shell.out.text).not.toContain("\x1b[36m");
});

test("--json prints one value that parts outcome from exit code; the log goes to standard error", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  task.append("out", "hello\n");
  task.finish("failed", { exitCode: 4 });
  const { shell, exitCode } = start(api, ["--on", "web-01", "--json", "--", "x"]);
  expect(await exitCode).toBe(4);
  expect(JSON.parse(shell.out.text)).toMatchObject({
    outcome: "failed",
    exitCode: 4,
    signal: null,
    tasks: [{ id: task.view.id, agent: "web-01" }],
  });
  expect(shell.err.text).toBe("hello\n");
});

test("Ctrl-C once cancels and waits for the agent to confirm", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  task.append("out", "working\n");
  const { shell, exitCode } = start(api, ["--on", "web-01", "--", "sleep 100"]);
  await shell.out.until("working");
  shell.press();
  await expect.poll(() => api.backend.cancelled, { timeout: 2_000, interval: 5 }).toEqual([task.view.id]);
  task.append("err", "Terminated\n");
  task.finish("cancelled");
  expect(await exitCode).toBe(202);
  expect(shell.err.text).toContain("Terminated\n");
});

test.each([
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const)("%s twice leaves at once with %i", async (signal, expected) => {
  await using api = await startApi();
  const task = api.backend.add();
  task.append("out", "working\n");
  const { shell, exitCode } = start(api, ["--on", "web-01", "--", "sleep 100"]);
  await shell.out.until("working");
  shell.press(signal);
  shell.press(signal);
  expect(await exitCode).toBe(expected);
  expect(shell.listening).toBe(0);
});

test("it says why a task waits", async () => {
  await using api = await startApi();
  const task = api.backend.add(
    new FakeTask(taskView({ state: "queued", home: null, waiting: "agent offline since 15:59" })),
  );
  const { shell, exitCode } = start(api, ["--on", "web-01", "--", "x"]);
  await shell.err.until("web-01 waits: agent offline since 15:59");
  task.finish("expired");
  expect(await exitCode).toBe(201);
});

test("an error after the submission never looks as if nothing had been started", async () => {
  await using api = await startApi();
  api.backend.add();
  const readTask = api.backend.readTask;
  api.backend.readTask = async () => {
    throw new AppError("auth.forbidden", "no more");
  };
  const { shell, exitCode } = start(api, ["--on", "web-01", "--", "x"]);
  expect(await exitCode).toBe(200);
  expect(shell.err.text).toContain("the outcome is not known here");
  api.backend.readTask = readTask;
});

test("an error before it has its own exit code and mend", async () => {
  await using api = await startApi();
  api.backend.onSubmit = async () => {
    throw new AppError("selector.empty", "no agent has role=db");
  };
  const { shell, exitCode } = start(api, ["--on", "role=db", "--", "x"]);
  expect(await exitCode).toBe(1);
  expect(shell.err.text).toContain("no agent has role=db");
  expect(shell.err.text).toContain("holdfast agents list");
});

test("script from a file with arguments, environment and limits", async () => {
  await using api = await startApi();
  api.backend.add().finish("succeeded", { exitCode: 0 });
  const words = [
    "--on",
    "role=web",
    "--on",
    "!canary",
    "--script",
    "./deploy.sh",
    "--env",
    "K=V=W",
    "--env",
    "E=",
    "--timeout",
    "10m",
    "--grace",
    "5s",
    "--",
    "a",
    "b c",
  ];
  const { exitCode } = start(api, words, { files: { "./deploy.sh": "echo $1" } });
  expect(await exitCode).toBe(0);
  expect(api.backend.submits[0]?.submit.work).toMatchObject({
    selector: { kind: "labels", requirements: [{ label: "role" }, { label: "canary", operator: "absent" }] },
    spec: { script: "echo $1", args: ["a", "b c"], env: { K: "V=W", E: "" }, timeoutMs: 600_000, graceMs: 5_000 },
  });
});

test("script from standard input", async () => {
  await using api = await startApi();
  api.backend.add().finish("succeeded", { exitCode: 0 });
  const { exitCode } = start(api, ["--on", "web-01", "--script", "-"], { input: "date\n" });
  expect(await exitCode).toBe(0);
  expect(api.backend.submits[0]?.submit.work).toMatchObject({ spec: { script: "date\n" } });
});

test.each([
  [["--", "x"], "on which agents"],
  [["--on", "web-01"], "nothing to run"],
  [["--on", "web-01", "--timeout", "10", "--", "x"], "--timeout"],
  [["--on", "web-01", "--env", "KV", "--", "x"], "KEY=value"],
  [["--on", "web-01", "--script", "absent.sh"], "absent.sh"],
  [["--on", "web-01", "--wait", "2m", "--no-wait", "--", "x"], "--wait and --no-wait"],
  [["--on", "web-01", "--no-wait", "--wait", "2m", "--", "x"], "--wait and --no-wait"],
])("wrong usage %j exits 2 and says what is wrong", async (words, said) => {
  await using api = await startApi();
  const { shell, exitCode } = start(api, words);
  expect(await exitCode).toBe(2);
  expect(shell.err.text).toContain(said);
  expect(api.backend.submits).toEqual([]);
});

test("--detach prints the tasks and does not wait", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  const { shell, exitCode } = start(api, ["--on", "web-01", "--detach", "--", "x"]);
  expect(await exitCode).toBe(0);
  expect(shell.out.text).toBe(`${task.view.id}  web-01\n`);
});

test.each([
  ["--json before the script", ["--json", "--", "x"], "", "json"],
  ["--json behind the word that is wrong", ["--timeout", "10", "--json"], "", "json"],
  ["HOLDFAST_JSON", ["--", "x"], "1", "json"],
  ["HOLDFAST_JSON that says no", ["--", "x"], "0", "text"],
  ["--json of the script's own", ["--", "report", "--json"], "", "text"],
] as const)("errors are for programs or people: %s", async (_name, words, variable, form) => {
  await using api = await startApi();
  api.backend.onSubmit = async () => {
    throw new AppError("selector.empty", "no agent has role=db");
  };
  vi.stubEnv("HOLDFAST_JSON", variable);
  try {
    const { shell, exitCode } = start(api, ["--on", "role=db", ...words]);
    await exitCode;
    expect(shell.err.text).toMatch(form === "json" ? /^\{"code":/ : /^holdfast: /);
  } finally {
    vi.unstubAllEnvs();
  }
});

test("output variables are in the one value of --json; those that were dropped are told of", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  const reason = "outputs-dropped: BIG (over 65536 bytes)";
  task.finish("succeeded", { exitCode: 0, reason, attempts: [attemptView({ outputs: { VERSION: "1.2.3" } })] });
  const json = start(api, ["--on", "web-01", "--json", "--", "x"]);
  expect(await json.exitCode).toBe(0);
  expect(JSON.parse(json.shell.out.text)).toMatchObject({ outputs: { VERSION: "1.2.3" }, reason });
  const text = start(api, ["--on", "web-01", "--", "x"]);
  expect(await text.exitCode).toBe(0);
  expect(text.shell.err.text).toContain(reason);
});

test("arguments of the interpreter and of the script go along in the order they are given", async () => {
  await using api = await startApi();
  api.backend.add().finish("succeeded", { exitCode: 0 });
  const words = ["--interpreter-arg", "-u", "--interpreter-arg=-X dev", "--arg", "--one", "--arg", "two words"];
  const { exitCode } = start(
    api,
    ["--on", "web-01", "--interpreter", "python3", ...words, "--script", "-", "--", "three"],
    { input: "print(1)" },
  );
  expect(await exitCode).toBe(0);
  expect(api.backend.submits[0]?.submit.work).toMatchObject({
    spec: { interpreter: "python3", interpreterArgs: ["-u", "-X dev"], args: ["--one", "two words", "three"] },
  });
});

const trace = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;
const otherTrace = `00-${"c".repeat(32)}-${"d".repeat(16)}-00`;

test.each([
  ["from the option", ["--traceparent", trace], { TRACEPARENT: otherTrace }, trace],
  ["from the command's environment", [], { TRACEPARENT: trace }, trace],
  ["not from an environment of another form", [], { TRACEPARENT: "x" }, undefined],
])("the trace comes %s", async (_whence, words, environment, expected) => {
  await using api = await startApi();
  api.backend.add().finish("succeeded", { exitCode: 0 });
  const { exitCode } = start(api, ["--on", "web-01", ...words, "--", "x"], { environment });
  expect(await exitCode).toBe(0);
  const [got] = api.backend.submits;
  const spec = got !== undefined && "spec" in got.submit.work ? got.submit.work.spec : undefined;
  expect(spec?.kind === "script" ? spec.env["TRACEPARENT"] : null).toBe(expected);
});

test("an option --traceparent of another form is refused before anything is sent", async () => {
  await using api = await startApi();
  const { shell, exitCode } = start(api, ["--on", "web-01", "--traceparent", "x", "--", "x"]);
  expect(await exitCode).toBe(2);
  expect(shell.err.text).toContain("--traceparent: expected a traceparent");
  expect(api.backend.submits).toEqual([]);
});

test("the user to run as goes along by name, and is never a number", async () => {
  await using api = await startApi();
  api.backend.add().finish("succeeded", { exitCode: 0 });
  expect(await start(api, ["--on", "web-01", "--user", "web", "--", "x"]).exitCode).toBe(0);
  expect(api.backend.submits[0]?.submit.work).toMatchObject({ spec: { user: "web" } });
  const { shell, exitCode } = start(api, ["--on", "web-01", "--user", "1000", "--", "x"]);
  expect(await exitCode).toBe(2);
  expect(shell.err.text).toContain("--user: expected a user's name");
});

test("attached files go along byte for byte, under their own name or another, executable where they are", async () => {
  await using api = await startApi();
  api.backend.add().finish("succeeded", { exitCode: 0 });
  const files = { "./conf/app.conf": "a\u00e9\0b", "/opt/tool-v2": "#!/bin/sh" };
  const words = ["--attach", "./conf/app.conf", "--attach", "/opt/tool-v2:tool"];
  const { exitCode } = start(api, ["--on", "web-01", ...words, "--", "x"], { files });
  expect(await exitCode).toBe(0);
  expect(api.backend.submits[0]?.submit.work).toMatchObject({
    spec: {
      files: [
        { name: "app.conf", base64: Buffer.from("a\u00e9\0b").toString("base64") },
        { name: "tool", base64: Buffer.from("#!/bin/sh").toString("base64"), executable: true },
      ],
    },
  });
});

test.each([
  ["a name with a folder", ["./a:b/c"], "no name for a file"],
  ["a name that leads out", ["./a:.."], "no name for a file"],
  ["a file that is not there", ["./none"], "cannot read ./none"],
  ["the same name twice", ["./a", "./b:a"], "the same name"],
  ["too much", ["./big"], "at most 262144"],
  ["too many", Array.from({ length: 17 }, (_, no) => `./a:f${no}`), "17 files"],
])("%s is refused before anything is sent", async (_what, attached, told) => {
  await using api = await startApi();
  const files = { "./a": "a", "./b": "b", "./big": "x".repeat(256 * 1024 + 1) };
  const words = attached.flatMap((text) => ["--attach", text]);
  const { shell, exitCode } = start(api, ["--on", "web-01", ...words, "--", "x"], { files });
  expect(await exitCode).not.toBe(0);
  expect(shell.err.text).toContain(told);
  expect(api.backend.submits).toEqual([]);
});
