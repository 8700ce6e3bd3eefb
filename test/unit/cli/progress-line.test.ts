// How far scripts say they are, as `holdfast run`, `tasks logs` and `tasks show` show it, on a terminal and elsewhere.
import { expect, test } from "vitest";
import { main } from "../../../cli/main.ts";
import type { ProgressView } from "../../../shared/api/tasks.ts";
import { attemptView, FakeTask, startApi, taskView, type RunningApi } from "../../fakes/api-backend.ts";
import { FakeShell, type FakeShellOptions } from "../../fakes/shell.ts";

const erase = "\r\x1b[2K";
const drawn = (text: string): string => `\x1b[?7l${text}\x1b[?7h`;

function start(
  api: RunningApi,
  words: readonly string[],
  options: FakeShellOptions = {},
): { shell: FakeShell; exitCode: Promise<number> } {
  const shell = new FakeShell(options);
  return { shell, exitCode: main([...words, "--url", api.url, "--api-key", api.apiKey], shell) };
}

const run = ["run", "--on", "*", "--script", "/script.sh"];
const files = { "/script.sh": "x" };
const onTerminal = { terminal: true, files, environment: { NO_COLOR: "1" } };

function say(task: FakeTask | undefined, second: number, progress: Pick<ProgressView, "percent" | "message">): void {
  const at = new Date(Date.UTC(2026, 10, 23) + second * 1_000).toISOString();
  task?.enter("running", { attempts: [attemptView({ progress: { ...progress, at } })] });
}

test("on a terminal one line is redrawn, moves below the log, and goes with the task", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  const { shell, exitCode } = start(api, run, onTerminal);
  say(task, 0, { percent: 10, message: "copying" });
  await shell.err.until("10 % copying");
  task.append("out", "a line\n");
  await shell.out.until("a line\n");
  say(task, 1, { percent: 20, message: "copying" });
  await shell.err.until("20 % copying");
  task.finish("succeeded", { exitCode: 0 });
  expect(await exitCode).toBe(0);
  const ten = drawn("10 % copying");
  expect(shell.err.text).toBe(`${ten}${erase}${ten}${erase}${drawn("20 % copying")}${erase}`);
  expect(shell.out.text).toBe("a line\n");
});

test("behind a line of the script's that has not ended it waits for its end", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  const { shell, exitCode } = start(api, run, onTerminal);
  task.append("out", "half");
  await shell.out.until("half");
  say(task, 0, { percent: 10, message: "" });
  task.append("err", "of two streams");
  await shell.err.until("of two streams");
  expect(shell.err.text).toBe("of two streams");
  task.append("out", " a line\n");
  await shell.err.until("10 %");
  task.finish("succeeded", { exitCode: 0 });
  await exitCode;
  expect(shell.err.text).toBe(`of two streams${drawn("10 %")}${erase}`);
});

test("a message cannot command the terminal", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  const { shell, exitCode } = start(api, run, onTerminal);
  say(task, 0, { percent: 1, message: "\x1b[2Jclear\x1b]0;title\x07\r\nover\x9b5n" });
  await shell.err.until("over");
  task.finish("succeeded", { exitCode: 0 });
  await exitCode;
  expect(shell.err.text).toBe(`${drawn("1 % clear over\\x9b5n")}${erase}`);
});

test("of several agents the one that spoke last is shown by name, and another when its task has ended", async () => {
  await using api = await startApi();
  const [web, db] = ["web-01", "db-01"].map((agent) => api.backend.add(new FakeTask(taskView({ agent }))));
  const { shell, exitCode } = start(api, run, onTerminal);
  say(web, 0, { percent: 10, message: "" });
  await shell.err.until("web-01: 10 %");
  say(db, 1, { percent: null, message: "waiting" });
  await shell.err.until("db-01: waiting");
  db?.finish("succeeded", { exitCode: 0, attempts: [] });
  await shell.err.until(`${drawn("db-01: waiting")}${erase}${drawn("web-01: 10 %")}`);
  web?.finish("succeeded", { exitCode: 0 });
  await exitCode;
});

test("elsewhere a line is said for each step of 10 % or other words, at most one in 5 s", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  const { shell, exitCode } = start(api, run, { files });
  const steps: [second: number, percent: number, message: string][] = [
    [0, 1, "copying"],
    [10, 9, "copying"],
    [20, 11, "copying"],
    [22, 60, "too soon"],
    [26, 61, "checking"],
    [40, 61, "checking"],
    [50, 51, "checking"],
    [60, 52, "last"],
  ];
  for (const [second, percent, message] of steps) {
    say(task, second, { percent, message });
    // Seen by the reader before the next one: what follows in the log comes behind it.
    task.append("out", `${second}\n`);
    await shell.out.until(`${second}\n`);
  }
  await shell.err.until("last");
  task.finish("succeeded", { exitCode: 0 });
  await exitCode;
  const told = ["1 % copying", "11 % copying", "61 % checking", "51 % checking", "52 % last"];
  expect(shell.err.text).toBe(told.map((text) => `holdfast: ${text}\n`).join(""));
});

test("with --json nothing is said beside the data, which has what was said last", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  const { shell, exitCode } = start(api, [...run, "--json"], { ...onTerminal, terminal: true });
  say(task, 0, { percent: 10, message: "copying" });
  task.append("out", "log\n");
  await shell.err.until("log\n");
  task.finish("succeeded", { exitCode: 0 });
  expect(await exitCode).toBe(0);
  expect(shell.err.text).toBe("log\n");
  expect(JSON.parse(shell.out.text)).toMatchObject({
    tasks: [{ attempts: [{ progress: { percent: 10, message: "copying" } }] }],
  });
});

test("a dumb terminal gets lines and no escape sequence", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  const { shell, exitCode } = start(api, run, { ...onTerminal, environment: { TERM: "dumb" } });
  say(task, 0, { percent: 10, message: "copying" });
  await shell.err.until("copying");
  task.finish("succeeded", { exitCode: 0 });
  await exitCode;
  expect(shell.err.text).toBe("holdfast: 10 % copying\n");
});

test("Ctrl-C does not write into the line", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  const { shell, exitCode } = start(api, run, onTerminal);
  say(task, 0, { percent: 10, message: "" });
  await shell.err.until("10 %");
  shell.press();
  await shell.err.until("cancelling");
  expect(shell.err.text).toContain(`${drawn("10 %")}${erase}holdfast: cancelling`);
  task.finish("cancelled");
  await exitCode;
});

test("`tasks logs --follow` shows it too, `tasks show` while the task runs", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  say(task, 0, { percent: 10, message: "copying\x1b[2J" });
  const shown = start(api, ["tasks", "show", task.view.id], {});
  expect(await shown.exitCode).toBe(0);
  expect(shown.shell.out.text).toContain("progress:         10 % copying (2026-11-23T00:00:00.000Z)\n");
  const { shell, exitCode } = start(api, ["tasks", "logs", task.view.id, "--follow", "--stream", "out"], onTerminal);
  await shell.err.until("10 % copying");
  task.finish("succeeded", { exitCode: 0 });
  await exitCode;
  const after = start(api, ["tasks", "show", task.view.id], {});
  await after.exitCode;
  expect(after.shell.out.text).not.toContain("progress");
});
