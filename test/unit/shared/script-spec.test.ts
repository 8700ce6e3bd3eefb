// The forms that a script's spec may have, where one field decides about another.
import { expect, it } from "vitest";
import { journalRecordSchema } from "../../../agent/journal-record.ts";
import { runSpecSchema, taskSpecSchema, userNameSchema } from "../../../shared/task.ts";

it.each(["web", "_apt", "Deploy", "svc-1", "first.last", "a".repeat(32)])("%s may be a user's name", (name) => {
  expect(userNameSchema.safeParse(name).success).toBe(true);
});

it.each([
  "",
  "0",
  "1000",
  "+1000",
  "-root",
  "1web",
  ".web",
  "a b",
  "web\n",
  "a:b",
  "a/b",
  "dom\\web",
  "w\u00e9b",
  "a".repeat(33),
])("%j may not", (name) => {
  expect(userNameSchema.safeParse(name).success).toBe(false);
});

it.each(["UID", "BASH_ENV", "_", "OPTIND"])("a variable %s, which shells keep, is refused beside a user", (name) => {
  const spec = { kind: "script", script: "x", env: { [name]: "1" } };
  expect(taskSpecSchema.safeParse(spec).success).toBe(true);
  expect(taskSpecSchema.safeParse({ ...spec, user: "web" }).error?.issues[0]?.path).toEqual(["env", name]);
});

it("a variable by a name of the agent's shim is refused where it is submitted, unless it passes the shim by", () => {
  const spec = { kind: "script", script: "x" };
  expect(runSpecSchema.safeParse({ ...spec, env: { hf_up: "1" } }).error?.issues[0]?.path).toEqual(["env", "hf_up"]);
  expect(runSpecSchema.safeParse({ ...spec, env: { hf_up: "1" }, user: "web" }).success).toBe(true);
  expect(runSpecSchema.safeParse({ ...spec, env: { HF_UP: "1", hf: "1", version: "2" } }).success).toBe(true);
});

it("and stays readable where an earlier version has stored it, offers it or wrote it into a journal", () => {
  const spec = { kind: "script", script: "x", env: { hf_up: "1" } };
  expect(taskSpecSchema.safeParse(spec).success).toBe(true);
  const facts = {
    attempt: "00000000-0000-4000-8000-000000000001",
    task: "00000000-0000-4000-8000-000000000002",
    attemptNumber: 1,
    offerNo: 1,
    lane: "work",
    spec,
  };
  expect(journalRecordSchema.safeParse({ kind: "intent", facts }).success).toBe(true);
});
