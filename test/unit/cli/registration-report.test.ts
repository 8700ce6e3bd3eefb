// What `agent register` shows and how it exits, for every outcome; registering itself is tested with real nodes.
import { expect, test } from "vitest";
import type { NodeRow, Registration } from "../../../agent/register.ts";
import { exitCodeOfRegistration, printRegistration } from "../../../cli/registration-report.ts";
import { agentIdSchema, clusterIdSchema } from "../../../shared/ids.ts";
import { FakeShell } from "../../fakes/shell.ts";

const good: NodeRow = {
  name: "node-a",
  address: "10.0.0.1:10943",
  ok: true,
  finding: "reached",
  reason: "",
  mend: "",
  roundTripMs: 4.2,
};
const bad: NodeRow = {
  name: "node-b",
  address: "10.0.0.2:10943",
  ok: false,
  finding: "intercepted",
  reason: 'TLS intercepted by "Evil\u001b[2J CA"',
  mend: "Exempt it.",
  roundTripMs: null,
};
const refused: NodeRow = { ...bad, finding: "agent-refused" };

function registration(nodes: readonly NodeRow[], more: Partial<Registration> = {}): Registration {
  const reachedCount = nodes.filter(({ ok }) => ok).length;
  return {
    agentId: agentIdSchema.parse("01a215be-04d4-7000-b5fc-44b0312344ca"),
    cluster: clusterIdSchema.parse("01a215be-04d4-7000-b5fc-44b0312344cb"),
    name: "web-01",
    enrolment: "new",
    reached: reachedCount === 0 ? "none" : reachedCount === nodes.length ? "all" : "some",
    nodes,
    keepsTo: null,
    serverAheadMs: 300,
    ...more,
  };
}

async function shown(value: Registration, json = false) {
  const shell = new FakeShell();
  await printRegistration(shell, value, { json, runCommand: "holdfast agent run --data-dir d" });
  return { out: shell.out.text, err: shell.err.text };
}

test("each address has its row: node, address, reached, round trip, reason and mend", async () => {
  const { out, err } = await shown(registration([good, bad]));
  expect(out.split("\n").map((line) => line.split(/ {2,}/))).toEqual([
    ["NODE", "ADDRESS", "REACHED", "ROUND TRIP", "REASON AND MEND"],
    ["node-a", "10.0.0.1:10943", "yes", "4.2 ms", "-"],
    ["node-b", "10.0.0.2:10943", "no", "-", expect.stringMatching(/^TLS intercepted by "Evil.* CA"\. Exempt it\.$/)],
    [""],
  ]);
  expect(err).toContain("start it with: holdfast agent run --data-dir d");
  expect(err).toContain("reached only partly: 1 of 2 addresses");
});

test("what a stranger's certificate says cannot move the cursor; programs get it as it is", async () => {
  expect((await shown(registration([bad]))).out).not.toContain("\u001b");
  const value = registration([bad]);
  expect(JSON.parse((await shown(value, true)).out)).toEqual(value);
});

test.each([
  [{ enrolment: "kept" as const }, "the token was not used"],
  [{ enrolment: "renewed" as const }, "has a new certificate: identity and journal are kept"],
  [{ keepsTo: { nodes: ["node-a"], addresses: ["lb.example:443"] } }, "it keeps to node-a, lb.example:443"],
  [{ serverAheadMs: 7_200_000 }, "this machine's clock is about 120 min behind the server's"],
  [{ serverAheadMs: -180_000 }, "this machine's clock is about 3 min ahead of the server's"],
])("%j is told", async (more, words) => {
  expect((await shown(registration([good], more))).err).toContain(words);
});

test("a clock that is right, or unknown, is not spoken of; none reached is said clearly", async () => {
  for (const serverAheadMs of [null, 900]) {
    expect((await shown(registration([good], { serverAheadMs }))).err).not.toContain("clock");
  }
  expect((await shown(registration([bad]))).err).toContain("no node was reached");
});

test.each([
  ["all", [good, good], 0, 0],
  ["some", [good, bad], 69, 0],
  ["none", [bad], 69, 69],
  ["none, some of them refusals", [bad, refused], 69, 69],
  ["none, refused by all", [refused, refused], 77, 77],
  ["none listed", [], 69, 69],
])("%s: the exit code when every node is asked for, and when one is enough", (_name, nodes, every, any) => {
  const value = registration(nodes, nodes.length === 0 ? { reached: "none" } : {});
  expect(exitCodeOfRegistration(value, { nodes: "every" })).toBe(every);
  expect(exitCodeOfRegistration(value, { nodes: "any" })).toBe(any);
});
