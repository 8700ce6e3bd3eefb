// The forms that a script's spec may have, where one field decides about another.
import { expect, it } from "vitest";
import { taskSpecSchema, userNameSchema } from "../../../shared/task.ts";

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

it("a variable by a name of the agent's shim is refused, and one that only looks like it is not", () => {
  const spec = { kind: "script", script: "x" };
  expect(taskSpecSchema.safeParse({ ...spec, env: { hf_up: "1" } }).error?.issues[0]?.path).toEqual(["env", "hf_up"]);
  expect(taskSpecSchema.safeParse({ ...spec, env: { HF_UP: "1", hf: "1", version: "2" } }).success).toBe(true);
});
