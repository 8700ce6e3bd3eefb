// The definitions that `agent install --print` shows, held as files; systemd's own is verified by systemd-analyze. Those for
// launchd and Windows have never been loaded by either.
import { spawnSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { defineService } from "../../agent/service/definition.ts";
import { renderUnit } from "../../agent/service/systemd-unit.ts";
import { main } from "../../cli/main.ts";
import { FakeShell } from "../fakes/shell.ts";

const environment = { HOLDFAST_COMMAND: "/usr/local/bin/holdfast" };

test.each([
  ["holdfast-agent.service", ["--platform", "linux"]],
  ["holdfast-agent-blue.service", ["--instance", "blue", "--user", "deploy", "--data-dir", "/srv/blue agent"]],
  ["holdfast-agent.plist", ["--platform", "darwin"]],
  ["holdfast-agent-blue.plist", ["--platform", "darwin", "--instance", "blue", "--data-dir", "/srv/a & b"]],
  ["holdfast-agent.xml", ["--platform", "win32"]],
  ["holdfast-agent-blue.xml", ["--platform", "win32", "--instance", "blue", "--data-dir", "D:\\a & b\\"]],
])("the definition is %s", async (file, words) => {
  const shell = new FakeShell({ environment });
  // Of an empty root, so that this machine's own agent does not matter.
  const root = await mkdtemp(join(tmpdir(), "holdfast-print-"));
  expect(await main(["agent", "install", "--print", "--root", root, ...words], shell)).toBe(0);
  await rm(root, { recursive: true });
  await expect(shell.out.text).toMatchFileSnapshot(join(import.meta.dirname, "service", file));
});

const isMissing = spawnSync("systemd-analyze", ["--version"]).error !== undefined;
if (isMissing) process.stderr.write("\nsystemd-analyze is not installed: sh scripts/install-test-tools.sh\n");

describe.skipIf(isMissing && process.env["CI"] !== "true")("systemd-analyze verify", () => {
  let folder: string;
  let program: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "holdfast-unit-"));
    // What the path of a program may hold and means something to systemd elsewhere.
    const odd = join(folder, "a b%h$HOME");
    await mkdir(odd);
    program = join(odd, "holdfast");
    await writeFile(program, "#!/bin/sh\n");
    await chmod(program, 0o755);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  /** What it says of the unit, one line each, without what an older systemd does not know. */
  async function complaints(text: string): Promise<string[]> {
    const path = join(folder, "holdfast-agent.service");
    await writeFile(path, text);
    const { error, stdout, stderr } = spawnSync("systemd-analyze", ["verify", "--man=no", path], { encoding: "utf8" });
    if (error !== undefined) throw error;
    const lines = `${stdout}${stderr}`.split("\n").filter((line) => line.includes("holdfast"));
    // Since systemd 254; an older one passes it over, and the agent then has no controllers of version 2.
    return lines.filter((line) => !line.includes("Unknown key 'DelegateSubgroup'"));
  }

  test.each([[undefined], ["daemon"]])("finds nothing to say about the unit of user %s", async (user) => {
    expect(await complaints(renderUnit(defineService({ program: [program], user })))).toEqual([]);
  });

  test("finds a folder of any name", async () => {
    const dataPath = join(folder, "d %i $X '\"\\");
    expect(await complaints(renderUnit(defineService({ program: [program], dataPath })))).toEqual([]);
  });

  test.each(["'", '"', "\\"])("takes no program with %s in its path, so none is written", async (character) => {
    const text = renderUnit(defineService({ program: [program] })).replace(
      `/holdfast" agent`,
      `/\\${character}" agent`,
    );
    expect((await complaints(text)).join()).toContain("special characters");
    expect(() => renderUnit(defineService({ program: [`/opt/${character}/holdfast`] }))).toThrowError(
      expect.objectContaining({ code: "config.invalid" }),
    );
  });

  test("would have found a mistake", async () => {
    const text = renderUnit(defineService({ program: [program] }));
    expect(await complaints(text.replace("KillMode=process", "KillMode=proces"))).not.toEqual([]);
    expect(await complaints(text.replace("Restart=always", "Restrat=always"))).not.toEqual([]);
    expect(await complaints(text.replace("%%h", "%h"))).not.toEqual([]);
  });
});
