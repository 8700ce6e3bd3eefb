// Every command helps: what it is for, its flags, an example; unknown words suggest the nearest.
import { expect, test } from "vitest";
import { main } from "../../cli/main.ts";
import { createProgram } from "../../cli/program.ts";
import { everyCommand, wordsOf } from "../../cli/tree.ts";
import { FakeShell } from "../fakes/shell.ts";

const program = createProgram({ shell: new FakeShell(), finish: () => undefined });
const commands = everyCommand(program).map(wordsOf);

test("the commands are exactly these", () => {
  expect(commands).toEqual([
    "holdfast",
    "holdfast run",
    "holdfast tasks",
    "holdfast tasks list",
    "holdfast tasks show",
    "holdfast tasks logs",
    "holdfast tasks cancel",
    "holdfast tasks abandon",
    "holdfast tasks retry",
    "holdfast tasks top",
    "holdfast agents",
    "holdfast agents list",
    "holdfast agents show",
    "holdfast agents set",
    "holdfast agents locks",
    "holdfast agents pause",
    "holdfast agents resume",
    "holdfast agents revoke",
    "holdfast agents remove",
    "holdfast agents update",
    "holdfast nodes",
    "holdfast nodes list",
    "holdfast cluster",
    "holdfast cluster show",
    "holdfast cluster pause",
    "holdfast cluster resume",
    "holdfast tokens",
    "holdfast tokens create",
    "holdfast tokens list",
    "holdfast tokens revoke",
    "holdfast login",
    "holdfast server",
    "holdfast server start",
    "holdfast server join",
    "holdfast server drain",
    "holdfast server resume",
    "holdfast server set",
    "holdfast server remove",
    "holdfast agent",
    "holdfast agent register",
    "holdfast agent run",
    "holdfast agent doctor",
    "holdfast agent install",
    "holdfast agent uninstall",
    "holdfast agent status",
    "holdfast agent update",
  ]);
});

test.each(commands)("`%s --help` shows its flags and an example, on standard output, and exits 0", async (words) => {
  const shell = new FakeShell();
  expect(await main([...words.split(" ").slice(1), "--help"], shell)).toBe(0);
  expect(shell.out.text).toContain(`Usage: ${words}`);
  expect(shell.out.text).toContain("--help");
  expect(shell.out.text).toMatch(/Examples:\n {2}# .+\n {2}.*holdfast /);
  expect(shell.err.text).toBe("");
});

test.each([
  [["taks"], "tasks"],
  [["tasks", "lst"], "list"],
  [["run", "--onn", "x"], "--on"],
  [["server", "start", "--data-dri", "x"], "--data-dir"],
])("%j exits 2 and suggests %s", async (words, suggestion) => {
  const shell = new FakeShell();
  expect(await main(words, shell)).toBe(2);
  expect(shell.err.text).toContain(`Did you mean ${suggestion}?`);
  expect(shell.err.text).toContain("--help");
});

test.each([[["tasks"]], [[]]])("%j alone shows the help on standard error and exits 2", async (words) => {
  const shell = new FakeShell();
  expect(await main(words, shell)).toBe(2);
  expect(shell.err.text).toContain("Commands:");
});

test.each([
  [["tasks", "show"], "missing required argument"],
  [["tasks", "show", "a", "b"], "too many arguments"],
  [["tasks", "list", "--state", "done"], "running"],
  [["server", "start", "--api-listen", "8080"], "host:port"],
  [["agent", "register", "--server", "http://x"], "--token"],
  [["server", "start", "--queue-per-agent", "0"], "--queue-per-agent"],
  [["server", "start", "--queue-total", "many"], "--queue-total"],
  [["login"], "--api-key"],
])("%j exits 2 and says what is wrong", async (words, said) => {
  const shell = new FakeShell();
  expect(await main(words, shell)).toBe(2);
  expect(shell.err.text).toContain(said);
});

test("--version tells version, protocol and Node", async () => {
  const shell = new FakeShell();
  expect(await main(["--version"], shell)).toBe(0);
  expect(shell.out.text).toMatch(/^holdfast \d+\.\d+\.\d+ \((?:commit [0-9a-f]{12}, )?protocol \d+, Node v\d+/);
});
