// The model of one attempt (attempt.pml) holds in every reachable state, and each rule it is made of is needed: without it
// Spin finds a run that breaks a property. HOLDFAST_MODEL_FAULTS=3 searches deeper, in minutes.
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { missingTools, search } from "./spin.ts";

const model = join(import.meta.dirname, "attempt.pml");
const faults = `FAULTS=${process.env["HOLDFAST_MODEL_FAULTS"] ?? "2"}`;
const limits = process.env["HOLDFAST_MODEL_FAULTS"] === undefined ? {} : { memoryMiB: 12_000, limitMs: 1_700_000 };
const missing = missingTools();
const isSkipped = missing.length > 0 && process.env["CI"] !== "true";
if (isSkipped)
  process.stderr.write(
    `SKIPPED: the model is not checked, ${missing.join(" and ")} missing: sh scripts/install-test-tools.sh\n`,
  );

const report = (line: string): void => void process.stdout.write(`model: ${line}\n`);

describe.skipIf(isSkipped)("one attempt, two nodes, one agent, a network that loses, repeats and reorders", () => {
  beforeAll(() => {
    if (missing.length > 0) throw new Error(`${missing.join(" and ")} missing: sh scripts/install-test-tools.sh`);
  });

  test("starts at most once, is acknowledged only when final and equal, and keeps its files until then", async () => {
    const { states, depth, violation, trail } = await search({ model, define: [faults], search: "safety", ...limits });
    report(`${states} states to depth ${depth}, ${faults}`);
    expect({ violation, trail }).toEqual({ violation: undefined, trail: "" });
    expect(states).toBeGreaterThan(500_000);
  });

  test("becomes final in every run", async () => {
    const { states, depth, violation, trail } = await search({
      model,
      define: [faults, "LTL"],
      search: { formula: "concluded" },
      ...limits,
    });
    report(`${states} states to depth ${depth}, ${faults}`);
    expect({ violation, trail }).toEqual({ violation: undefined, trail: "" });
    expect(states).toBeGreaterThan(300_000);
  });

  // Without cancels where the start is the property to be seen: a start after a confirmed cancel is found sooner.
  test.each([
    ["INTENT is not synced before the start", ["NO_SYNC_INTENT", "NO_CANCEL"], "(starts<=1)"],
    ["the script starts before mkdir", ["EXEC_BEFORE_MKDIR", "NO_CANCEL"], "(starts<=1)"],
    ["an agent takes offers made to another journal", ["OFFER_NOT_BOUND", "NO_CANCEL"], "(starts<=1)"],
    ["files go before the acknowledgement", ["COLLECT_BEFORE_ACK"], "(rank==9)"],
    ["a result is stored without its log", ["NO_LOG_CHECK"], "( !(takenLen[n])||dbLog)"],
    ["a cancel is final before the agent confirms it", ["CANCEL_FINAL_EARLY"], "!(((rank==9)&&(dbExit==2)))"],
    ["a result is sent before it is synced", ["SEND_BEFORE_SYNC"], "((dbExit==record)||byServer)"],
    ["a result is sent once only", ["RESULT_SENT_ONCE"], "(rank==9)"],
  ])("is broken when %s", async (_name, [mutation = "", ...more], property) => {
    const { states, violation, trail } = await search({
      model,
      define: [faults, `MUTATE_${mutation}`, ...more],
      search: "safety",
    });
    report(`${mutation}: found after ${states} states`);
    expect({ violation, trail }).toMatchObject({ violation: expect.stringContaining(property) });
  });
});
