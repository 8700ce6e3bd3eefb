// What `agent doctor` says when it is done, for people and for programs, and how it exits. Examines nothing itself.
// Invariant: every failure is shown with its mend, and the exit code is that of the failure a person has to see to first.
import type { CheckRow, Examination } from "../agent/doctor/doctor.ts";
import { exitCodes } from "./exit-code.ts";
import { counted, note, printJson, printTable } from "./output.ts";
import type { Shell } from "./shell.ts";

export async function printExamination(shell: Shell, found: Examination, form: "text" | "json"): Promise<void> {
  if (form === "json") {
    await printJson(shell.out, found);
    return;
  }
  await printTable(shell.out, found.checks, [
    { title: "STATUS", cell: ({ status }) => status },
    { title: "CHECK", cell: ({ check, subject }) => (subject === null ? check : `${check} ${subject}`) },
    // Seen and mend in one column: long texts in the middle of a table would push all that follows off the screen.
    { title: "SEEN AND MEND", cell: ({ seen, mend }) => (mend === "" ? seen : `${seen}. → ${mend}`) },
  ]);
  await note(shell, summaryOf(found));
}

function summaryOf({ dataPath, agent, counts: { pass, warn, fail } }: Examination): string {
  const running = {
    running: "running",
    "not-running": "not running",
    "other-boot": "not running since the host booted",
  };
  const state = agent === "unknown" ? "" : `, agent ${running[agent]}`;
  if (fail > 0)
    return `${dataPath}${state}: ${counted(fail, "check")} failed, ${counted(warn, "warning")}, ${pass} passed`;
  if (warn > 0) return `${dataPath}${state}: nothing failed, ${counted(warn, "warning")}, ${pass} passed`;
  return `${dataPath}${state}: every check passed (${pass})`;
}

/**
 * 0 nothing failed, warnings or not. Else the first of these that applies: 78 identity, certificate or journal; 2 folder,
 * rights, settings; 77 a node refuses this agent; 69 a node cannot be reached; 1 disk, clock or another check.
 */
export function exitCodeOfExamination({ checks }: Pick<Examination, "checks">): number {
  const codes = new Set(checks.filter(({ status }) => status === "fail").map(codeOf));
  return byUrgency.find((code) => codes.has(code)) ?? exitCodes.done;
}

const byUrgency = [exitCodes.needsPerson, exitCodes.usage, exitCodes.denied, exitCodes.unreachable, exitCodes.failed];

function codeOf({ check, detail }: CheckRow): number {
  switch (check) {
    case "identity":
    case "certificate":
    case "journal":
      return exitCodes.needsPerson;
    case "agent":
      return detail["state"] === "quarantined" ? exitCodes.needsPerson : exitCodes.failed;
    case "environment":
    case "configuration":
    case "data-directory":
    case "rights":
      return exitCodes.usage;
    case "node":
      return detail["finding"] === "agent-refused" || detail["finding"] === "agent-expired"
        ? exitCodes.denied
        : exitCodes.unreachable;
    default:
      return exitCodes.failed;
  }
}
