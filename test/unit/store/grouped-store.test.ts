// Which verbs share statements: whatever one agent says of very many attempts takes one connection of the database's few at a
// time, and the others' is not behind it.
import { expect, test } from "vitest";
import { createGroupedStore, type StoreVerbs } from "../../../server/store/grouped-store.ts";
import type { ResumeOutcome } from "../../../server/store/resume-attempts.ts";
import { agentIdSchema, attemptIdSchema, journalIdSchema, nodeIdSchema } from "../../../shared/ids.ts";

const uuid = (no: number): string => `00000000-0000-7000-8000-${String(no).padStart(12, "0")}`;
const by = { agent: agentIdSchema.parse(uuid(1)), journalId: journalIdSchema.parse(uuid(2)) };
const node = nodeIdSchema.parse(uuid(3));
const attempts = Array.from({ length: 2_000 }, (_, no) => attemptIdSchema.parse(uuid(100 + no)));

function counted() {
  let underWay = 0;
  const statements = { count: 0, atOnce: 0 };
  const run = async <Outcome>(outcome: Outcome): Promise<Outcome> => {
    underWay += 1;
    statements.count += 1;
    statements.atOnce = Math.max(statements.atOnce, underWay);
    await new Promise((resolve) => setImmediate(resolve));
    underWay -= 1;
    return outcome;
  };
  const unused = (): Promise<never> => Promise.reject(new Error("not asked for"));
  const verbs: StoreVerbs = {
    submitTasks: unused,
    claim: unused,
    progressAttempts: unused,
    noteProgress: unused,
    refuseAttempts: unused,
    release: unused,
    appendLog: unused,
    finishAttempts: unused,
    greet: unused,
    readOpen: unused,
    writePresence: unused,
    resumeAttempts: (items) => run(items.map((): ResumeOutcome => ({ kind: "unknown" }))),
    loseAttempts: () => run(undefined),
  };
  return { store: createGroupedStore(verbs), statements };
}

test("homes that one agent moves share statements, one of which is under way at a time", async () => {
  const { store, statements } = counted();
  const outcomes = await Promise.all(attempts.map((attempt) => store.resume([{ attempt, ...by, node, homeNo: 1 }])));
  expect(outcomes).toHaveLength(2_000);
  expect(statements).toEqual({ count: 4, atOnce: 1 });
});

test("so do attempts that one agent knows nothing of", async () => {
  const { store, statements } = counted();
  await Promise.all(attempts.map((attempt) => store.lose({ ...by, attempts: [attempt], answer: "unknown" })));
  expect(statements).toEqual({ count: 4, atOnce: 1 });
});
