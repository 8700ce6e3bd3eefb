// The forms people write values in.
import { describe, expect, test } from "vitest";
import { parseDuration } from "../../../cli/duration.ts";
import { exitCodeOfRun } from "../../../cli/exit-code.ts";
import { parseHostPort } from "../../../cli/host-port.ts";
import { parseEnvironment, parseLabels } from "../../../cli/pairs.ts";
import { resolveSecret } from "../../../cli/secret.ts";
import { FakeShell } from "../../fakes/shell.ts";

const invalid = expect.objectContaining({ code: "config.invalid" });

describe("durations", () => {
  test.each([
    ["500ms", 500],
    ["10s", 10_000],
    ["1h30m", 5_400_000],
    ["2d", 172_800_000],
    ["1.5s", 1_500],
    ["0", 0],
  ])("%s is %i ms", (text, ms) => expect(parseDuration(text)).toBe(ms));
  test.each(["", "10", "s", "10 s", "-1s", "1w", "1h30", "1e3s"])("%j is refused", (text) =>
    expect(() => parseDuration(text)).toThrowError(invalid),
  );
});

test("labels and environment", () => {
  expect(parseLabels(["role=web,env=prod", "role=db"])).toEqual({ role: "db", env: "prod" });
  expect(parseEnvironment(["A=b=c,d", "E="])).toEqual({ A: "b=c,d", E: "" });
  for (const text of ["role", "=web", "role=", "ro le=web", ""])
    expect(() => parseLabels([text])).toThrowError(invalid);
  for (const text of ["A", "=b", "1A=b", "A-B=c"]) expect(() => parseEnvironment([text])).toThrowError(invalid);
});

test("listener addresses", () => {
  expect(parseHostPort("127.0.0.1:8080")).toEqual({ host: "127.0.0.1", port: 8080 });
  expect(parseHostPort("[::]:0")).toEqual({ host: "::", port: 0 });
  expect(parseHostPort("node-a.example.com:10943")).toEqual({ host: "node-a.example.com", port: 10943 });
  for (const text of ["8080", ":8080", "a:b", "a:70000", "::1:8080", "http://a:1"])
    expect(() => parseHostPort(text)).toThrowError(invalid);
});

test("secrets come from where they are said to be", async () => {
  const shell = new FakeShell({
    environment: { KEY: "from env" },
    files: { "/k": "from file\n", "fd:3": "from fd\n" },
  });
  expect(await resolveSecret(shell, "file:///k")).toBe("from file");
  expect(await resolveSecret(shell, "env://KEY")).toBe("from env");
  expect(await resolveSecret(shell, "fd://3")).toBe("from fd");
  expect(await resolveSecret(shell, "plain")).toBe("plain");
  await expect(resolveSecret(shell, "env://NONE")).rejects.toMatchObject({ code: "config.invalid" });
});

test("several tasks exit 0 only when all succeeded", () => {
  const done = { state: "succeeded", exitCode: 0, signal: null } as const;
  expect(exitCodeOfRun([done, done])).toBe(0);
  expect(exitCodeOfRun([done, { state: "failed", exitCode: 42, signal: null }])).toBe(1);
  expect(exitCodeOfRun([done, { state: "lost", exitCode: null, signal: null }])).toBe(1);
});
