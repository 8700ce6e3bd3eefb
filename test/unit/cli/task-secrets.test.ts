// `--secret` and `--secret-file`: where a value is read from, and that no message repeats what may be one.
import { describe, expect, it, test } from "vitest";
import { main } from "../../../cli/main.ts";
import { readTaskSecrets, type SecretFlags } from "../../../cli/task-secrets.ts";
import { startApi } from "../../fakes/api-backend.ts";
import { FakeShell, type FakeShellOptions } from "../../fakes/shell.ts";

const read = (flags: SecretFlags, options: FakeShellOptions = {}) => readTaskSecrets(new FakeShell(options), flags);

describe("a secret's value", () => {
  const files = { pw: "from file\n", key: "line\n\n", "fd:3": "from descriptor\r\n", binary: "a\u{FFFD}b" };

  it("comes from a file, a variable, a descriptor or standard input, without its last line break", async () => {
    const secret = ["A=file://pw", "B=env://B_VALUE", "C=fd://3", "D=-"];
    const { secrets, exposed } = await read(
      { secret },
      { files, environment: { B_VALUE: "from env" }, input: "typed\n" },
    );
    expect(secrets.map(({ value }) => value)).toEqual(["from file", "from env", "from descriptor", "typed"]);
    expect(exposed).toEqual([]);
  });

  it("keeps every byte when it is to be a file", async () => {
    const { secrets } = await read({ secretFile: ["KEY=file://key"] }, { files });
    expect(secrets).toEqual([{ name: "KEY", value: "line\n\n", as: "file" }]);
  });

  it("may hold anything when it stands on the command line, which is told as exposed", async () => {
    const { secrets, exposed } = await read({ secret: ["A=x=y,z\n", "B="] });
    expect(secrets.map(({ value }) => value)).toEqual(["x=y,z\n", ""]);
    expect(exposed).toEqual(["A", "B"]);
  });

  it.each([
    [{ secret: ["hunter22"] }, /expected NAME=/],
    [{ secret: ["hunter22!=x"] }, /expected NAME=/],
    [{ secret: ["HOLDFAST_X=hunter22"] }, /expected NAME=/],
    [{ secretFile: ["PPID=hunter22"] }, /expected NAME=/],
    [{ secret: ["A=hunter22", "A=hunter22"] }, /secret A: is given twice/],
    [{ secret: [`A=${"hunter22".repeat(5_000)}`] }, /secret A: at most 32768 bytes/],
    [{ secret: ["A=hunter22\0"] }, /secret A: must not contain NUL/],
    [{ secret: Array.from({ length: 65 }, (_, index) => `A${index}=hunter22`) }, /secrets: /],
    [{ secret: Array.from({ length: 5 }, (_, index) => `A${index}=${"hunter22".repeat(4_000)}`) }, /131072/],
    [{ secret: ["A=file://binary"] }, /not UTF-8/],
    [{ secret: ["A=env://NOWHERE"] }, /NOWHERE is not set/],
    [{ secret: ["A=-"], script: "-" }, /standard input/],
  ] satisfies [SecretFlags, RegExp][])("%# is refused without being repeated", async (flags, message) => {
    const error: unknown = await read(flags, { files }).catch((cause: unknown) => cause);
    expect(String(error)).toMatch(message);
    expect(String(error)).not.toContain("hunter22");
  });
});

test("run sends them beside the spec and warns of a value on the command line, by its name", async () => {
  await using api = await startApi();
  api.backend.add().finish("succeeded", { exitCode: 0 });
  const shell = new FakeShell({ files: { pw: "from file\n" } });
  const flags = ["--secret", "A=file://pw", "--secret-file", "B=hunter22"];
  const words = ["run", "--url", api.url, "--api-key", api.apiKey, "--on", "web-01", ...flags, "--", "true"];
  expect(await main(words, shell)).toBe(0);
  const work = api.backend.submits[0]?.submit.work;
  expect(work).toMatchObject({
    secrets: [
      { name: "A", value: "from file", as: "variable" },
      { name: "B", value: "hunter22", as: "file" },
    ],
  });
  expect(JSON.stringify(work !== undefined && "spec" in work ? work.spec : "")).not.toContain("hunter22");
  expect(shell.err.text).toMatch(/^.*B: a secret on the command line can be read/);
  expect(shell.err.text).not.toContain("hunter22");
});
