// What `agent doctor` shows and how it exits, for every kind of failure; the looking itself is tested with real agents.
import { expect, test } from "vitest";
import type { CheckRow, Examination } from "../../../agent/doctor/doctor.ts";
import { exitCodeOfExamination, printExamination } from "../../../cli/doctor-report.ts";
import { FakeShell } from "../../fakes/shell.ts";

const row = (check: CheckRow["check"], status: CheckRow["status"], more: Partial<CheckRow> = {}): CheckRow => ({
  check,
  subject: null,
  status,
  seen: `what was seen of ${check}`,
  mend: status === "pass" || status === "info" ? "" : `mend ${check}`,
  detail: {},
  ...more,
});

function examination(checks: readonly CheckRow[], more: Partial<Examination> = {}): Examination {
  const count = (status: CheckRow["status"]): number => checks.filter((one) => one.status === status).length;
  const counts = { pass: count("pass"), info: count("info"), warn: count("warn"), fail: count("fail") };
  return { format: 1, dataPath: "/d", agent: "running", verdict: "pass", counts, checks, ...more };
}

const exitOf = (...checks: CheckRow[]): number => exitCodeOfExamination({ checks });

test.each<[CheckRow["check"], number, CheckRow["detail"]?]>([
  ["identity", 78],
  ["certificate", 78],
  ["journal", 78],
  ["agent", 78, { state: "quarantined" }],
  ["environment", 2],
  ["configuration", 2],
  ["data-directory", 2],
  ["rights", 2],
  ["node", 77, { finding: "agent-refused" }],
  ["node", 77, { finding: "agent-expired" }],
  ["node", 69, { finding: "refused" }],
  ["agent", 1],
  ["disk", 1],
  ["inodes", 1],
  ["clock", 1],
])("a failure of %s alone exits %i", (check, code, detail = {}) => {
  expect(exitOf(row("proxy", "pass"), row(check, "fail", { detail }))).toBe(code);
  expect(exitOf(row(check, "warn", { detail }))).toBe(0);
});

test("of several failures the one that a person has to see to first decides", () => {
  const refused = row("node", "fail", { detail: { finding: "agent-refused" } });
  const all = [row("clock", "fail"), row("node", "fail"), refused, row("rights", "fail"), row("journal", "fail")];
  expect(all.map((_, index) => exitOf(...all.slice(0, index + 1)))).toEqual([1, 69, 77, 2, 78]);
});

test("each row is shown with subject and mend, safe for a terminal, and the summary counts", async () => {
  const shell = new FakeShell();
  const evil = row("node", "fail", { subject: "node-a 10.0.0.1:10943", seen: 'by "Evil\u001b[2J CA"' });
  await printExamination(shell, examination([row("journal", "pass"), row("reserve", "warn"), evil]), "text");
  expect(shell.out.text.split("\n")).toEqual([
    "STATUS  CHECK                       SEEN AND MEND",
    "pass    journal                     what was seen of journal",
    "warn    reserve                     what was seen of reserve. → mend reserve",
    'fail    node node-a 10.0.0.1:10943  by "Evil CA". → mend node',
    "",
  ]);
  expect(shell.err.text).toBe("holdfast: /d, agent running: 1 check failed, 1 warning, 1 passed\n");
});

test.each([
  [[row("journal", "pass")], "/d, agent not running: every check passed (1)"],
  [[row("journal", "pass"), row("reserve", "warn")], "/d, agent not running: nothing failed, 1 warning, 1 passed"],
])("without a failure the summary says so", async (checks, words) => {
  const shell = new FakeShell();
  await printExamination(shell, examination(checks, { agent: "not-running" }), "text");
  expect(shell.err.text).toBe(`holdfast: ${words}\n`);
});

test("--json is the examination as one value on standard output", async () => {
  const shell = new FakeShell();
  const found = examination([row("journal", "pass")]);
  await printExamination(shell, found, "json");
  expect(JSON.parse(shell.out.text)).toEqual(found);
  expect(shell.err.text).toBe("");
});
