// What a selector's text means, and what is refused.
import { describe, expect, test } from "vitest";
import { parseSelector, selectorOf, selects } from "../../../shared/api/selector.ts";

const agent = { id: "0190b7e5-0000-7000-8000-000000000001", name: "web-01", labels: { role: "web", env: "prod" } };

describe("a selector", () => {
  test.each([
    ["*", true],
    ["web-01", true],
    ["web-02", false],
    ["web-02,web-01", true],
    [" web-01 , web-02 ", true],
    ["0190b7e5-0000-7000-8000-000000000001", true],
    ["role=web", true],
    ["role==web", true],
    ["role=db", false],
    ["role!=db", true],
    ["role!=web", false],
    ["zone!=a", true],
    ["role=web,env in (prod,stage)", true],
    ["role=web,env in (stage)", false],
    ["role=web,env notin (stage, test),!canary", true],
    ["!role", false],
    ["role=web,canary", false],
    ["role=web,env", true],
    ["web-01,role=web", false],
  ])("%j meets web-01 (role=web, env=prod): %s", (text, expected) => {
    expect(selects(parseSelector(text), agent)).toBe(expected);
  });

  test.each([
    "",
    ",",
    "web 01",
    "-x",
    "role=",
    "=web",
    "env in ()",
    "env in (a",
    "env in a)",
    "a=b=c",
    "role=we b",
    "((a))",
    "!",
    "in (a)",
    "ro%le=web",
  ])("%j is refused", (text) => {
    expect(() => parseSelector(text)).toThrowError(expect.objectContaining({ code: "request.invalid" }));
  });

  test("cannot be reached through the prototype of labels", () => {
    expect(selects(parseSelector("!constructor"), agent)).toBe(true);
  });

  test("means the same as an object", () => {
    expect(selectorOf({ agents: ["web-01", "web-01"] })).toEqual({ kind: "names", names: ["web-01"] });
    expect(selectorOf({ labels: { role: "web" } })).toEqual(parseSelector("role=web"));
    expect(selectorOf({ all: true })).toEqual(parseSelector("*"));
  });
});
