// Whether an offer finds room on the disk for all that it brings.
import { expect, test } from "vitest";
import { admitOffer } from "../../../agent/admission.ts";
import type { Admission } from "../../../agent/roster-event.ts";
import type { UserRequest } from "../../../agent/script-users.ts";
import { attemptIdSchema, journalIdSchema, taskIdSchema } from "../../../shared/ids.ts";
import { taskSpecSchema } from "../../../shared/task.ts";

const id = "00000000-0000-7000-8000-000000000001";

const judgeUser = ({ user }: UserRequest): Admission =>
  user === "web" ? { kind: "ok" } : { kind: "never", refusal: { reason: "invalid", detail: "no such user" } };

function verdictOn(change: object, freeBytes: number, stoodMs = 0): string {
  const offer = {
    attempt: attemptIdSchema.parse(id),
    task: taskIdSchema.parse(id),
    attemptNumber: 1,
    offerNo: 1,
    journalId: journalIdSchema.parse(id),
    lane: "work" as const,
    startWindowMs: 3_000,
    spec: taskSpecSchema.parse({ kind: "script", interpreter: "/bin/sh", script: "x".repeat(100), ...change }),
  };
  const facts = {
    freeBytes,
    stoodMs,
    freeBytesAtLeast: 1_000,
    searchPath: "/bin",
    canLimit: () => false,
    judgeUser,
    updateLack: () => "it runs from sources",
  };
  const admission = admitOffer(offer, facts);
  return admission.kind === "ok" ? "ok" : admission.kind === "later" ? admission.reason : admission.refusal.reason;
}

const files = [{ name: "a", base64: Buffer.alloc(500).toString("base64") }];

test.each([
  ["its script, twice", {}, 1_200],
  ["its script and its attached files, twice", { files }, 2_200],
])("an offer needs room for %s, beside what is to stay free", (_what, change, needed) => {
  expect([verdictOn(change, needed), verdictOn(change, needed - 1)]).toEqual(["ok", "disk-full"]);
});

test("the user it names is judged", () => {
  expect([verdictOn({ user: "web" }, 1_200), verdictOn({ user: "ghost" }, 1_200)]).toEqual(["ok", "invalid"]);
});

test("an update that this agent cannot do is refused for good, whatever room there is", () => {
  const update = { kind: "update", sha256: "0".repeat(64), servers: ["http://node:8080"] };
  expect(verdictOn(update, 10_000)).toBe("unsupported");
});

test("an offer that is older than its window when it is judged, as after a suspend, is for later", () => {
  expect([verdictOn({}, 10_000, 3_000), verdictOn({}, 10_000, 3_001)]).toEqual(["ok", "window-passed"]);
});
