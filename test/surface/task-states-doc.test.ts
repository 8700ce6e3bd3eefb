// docs/task-states.md and shared/task.ts say the same: every state with its rank, and no state that is not there.
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { isFinal, outcomes, rankOf, taskStates } from "../../shared/task.ts";
import { laterReasons, neverReasons } from "../../shared/wire/refuse.ts";

const page = readFileSync(new URL("../../docs/task-states.md", import.meta.url), "utf8");
const rows = page.split("\n").filter((line) => line.startsWith("| `"));
const cells = (line: string): string[] => line.split("|").map((cell) => cell.trim());
const stateRows = new Map(
  rows
    .map(cells)
    .flatMap(([, name = "", rank = ""]) => (/^\d$/.test(rank) ? [[name.replaceAll("`", ""), rank] as const] : [])),
);

it("shows every state with its rank, and no other", () => {
  expect(Object.fromEntries(stateRows)).toEqual(
    Object.fromEntries(taskStates.map((state) => [state, String(rankOf(state))])),
  );
});

it("shows open states above final ones, under their own heading", () => {
  const [open = "", final = ""] = page.split("## Final states");
  const misplaced = taskStates.filter(
    (state) => !new RegExp(`^\\| \`${state}\` `, "m").test(isFinal(state) ? final : open),
  );
  expect(misplaced).toEqual([]);
});

it("says of every outcome an agent can report that the agent's result decides it", () => {
  const byOthers = outcomes.filter((outcome) => {
    const row = rows.map(cells).find(([, name, rank]) => name === `\`${outcome}\`` && rank === "9");
    return row?.[4]?.includes("agent's result") !== true;
  });
  expect(byOthers).toEqual([]);
});

it("names every reason of a refusal", () => {
  for (const reason of [...laterReasons, ...neverReasons]) expect(page).toContain(`\`${reason}\``);
});

it("names every reason that the store's statements give", () => {
  const given = [
    "journal-missing",
    "unreachable",
    "result-collected",
    "queue-time-limit",
    "before-offer",
    "agent-removed",
    "may-still-run",
  ];
  for (const reason of given) expect(page).toContain(`\`${reason}\``);
});
