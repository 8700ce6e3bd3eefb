import { expect, test } from "vitest";
import { lostFields } from "../../../shared/lost-fields.ts";

test.each([
  ["nothing is lost of what is the same", { a: 1, b: [{ c: null }] }, { a: 1, b: [{ c: null }] }, []],
  ["what a default adds is no loss", { a: 1 }, { a: 1, args: [] }, []],
  ["a field at the top", { user: "web", a: 1 }, { a: 1 }, ["user"]],
  [
    "a field within",
    { isolation: { mode: "full", scope: "host" } },
    { isolation: { mode: "full" } },
    ["isolation.scope"],
  ],
  [
    "a field of an item",
    { files: [{ name: "a" }, { name: "b", owner: "web" }] },
    { files: [{ name: "a" }, { name: "b" }] },
    ["files.1.owner"],
  ],
  ["a structure that became a value", { a: { b: 1 } }, { a: 1 }, ["a"]],
])("%s", (_name, raw, parsed, lost) => {
  expect(lostFields(raw, parsed)).toEqual(lost);
});
