// docs/configuration.md lists every flag with its environment variable and default, as the commands have them.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { createProgram } from "../../cli/program.ts";
import { flagsOf } from "../../cli/reference.ts";
import { renderConfiguration } from "../../scripts/render-docs.ts";
import { FakeShell } from "../fakes/shell.ts";

const rows = flagsOf(createProgram({ shell: new FakeShell(), finish: () => undefined }));

test("docs/configuration.md is what the commands say (else run: node scripts/render-docs.ts)", async () => {
  expect(readFileSync(new URL("../../docs/configuration.md", import.meta.url), "utf8")).toBe(
    await renderConfiguration(),
  );
});

test("a flag has the same variable and meaning wherever it stands", () => {
  const variables = new Map<string, string | null>();
  for (const row of rows) {
    const long = /--[a-z-]+/.exec(row.flags)?.[0] ?? row.flags;
    // `--token`, `--on`, `--label` and the like name what an act is about in one command and a setting in another.
    if (row.environment === null) continue;
    expect(variables.get(long) ?? row.environment).toBe(row.environment);
    variables.set(long, row.environment);
    expect(row.environment).toBe(`HOLDFAST_${long.slice(2).replaceAll("-", "_").toUpperCase()}`);
  }
});

test.each([
  "--data-dir",
  "--name",
  "--api-listen",
  "--agent-listen",
  "--advertise",
  "--database-url",
  "--master-key-file",
  "--trusted-proxies",
  "--allow-origin",
  "--queue-per-agent",
  "--queue-total",
  "--agent-executables",
])("server start takes %s from flag or environment", (flag) => {
  expect(
    rows.find((row) => row.command === "holdfast server start" && row.flags.startsWith(flag))?.environment,
  ).not.toBeNull();
});
