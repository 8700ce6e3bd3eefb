// `holdfast agents update` on two agents with real executables and supervisors that restart as systemd would: a good version
// reaches both in two waves, a bad one is taken back by the first and never reaches the second. Scripts run through all of it,
// one of them alone under its lock. Linux.
import { copyFile, mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { main } from "../../cli/main.ts";
import { buildAgent } from "../../scripts/build-agent.ts";
import { sha256Hex } from "../../shared/thumbprint.ts";
import { FakeShell } from "../fakes/shell.ts";
import { connected, enrol } from "../harness/enrolled-agent.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";
import { Supervisor } from "../harness/supervisor.ts";

const file = `holdfast-agent-${process.platform}-${process.arch}`;
const names = ["web-01", "web-02"] as const;

let node: TestNode;
let folder = "";
const supervisors: Supervisor[] = [];

const optOf = (name: string): string => join(folder, name, "opt");

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-updates-"));
  const served = join(folder, "served");
  await mkdir(served);
  node = await startTestNode({ agentExecutables: served });
  const built = await buildAgent({ version: "0.0.0-test", commit: undefined });
  for (const name of names) {
    const version = join(optOf(name), "versions", "0.0.0-test-000000000000");
    await mkdir(version, { recursive: true });
    await copyFile(built, join(version, "holdfast-agent"));
    await symlink("versions/0.0.0-test-000000000000", join(optOf(name), "current"));
    const dataPath = await enrol(node, { name, labels: { role: "web" } });
    const pidFile = join(folder, name, "pid");
    const supervisor = new Supervisor({
      program: join(optOf(name), "current", "holdfast-agent"),
      words: ["--data-dir", dataPath, "--restart-command", Supervisor.restartLine(pidFile)],
      pidFile,
    });
    supervisor.start();
    supervisors.push(supervisor);
  }
  for (const name of names) await connected(node, name);
}, 120_000);
afterAll(async () => {
  for (const supervisor of supervisors) await supervisor.stop();
  await node.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Resolves with the name of the version's folder. */
async function serve(content: string | Uint8Array, version: string): Promise<string> {
  await writeFile(join(folder, "served", file), content);
  return `${version}-${sha256Hex(content).slice(0, 12)}`;
}

async function update(...words: string[]) {
  const shell = new FakeShell();
  const all = ["agents", "update", "--on", "role=web", "--json", ...words];
  const exitCode = await main([...all, "--url", node.url, "--api-key", node.apiKey], shell);
  if (shell.out.text === "") throw new Error(`exit code ${exitCode}: ${shell.err.text}`);
  return { exitCode, err: shell.err.text, ...JSON.parse(shell.out.text) };
}

const currentOf = async (name: string): Promise<string> =>
  (await readlink(join(optOf(name), "current"))).replace("versions/", "");

test("a good version reaches both in two waves; a bad one goes back on the first and leaves the second untouched", async () => {
  // It ends with the test's folder as well: a test that fails leaves no script behind.
  const wait = `while [ -d ${folder} ] && [ ! -e ${join(folder, "go")} ]; do sleep 0.2; done; echo ended`;
  const alone = { mode: "full" } as const;
  const run = await node.client.run({ on: "role=web", interpreter: "sh", script: wait, isolation: alone });

  const good = await serve(
    await readFile(await buildAgent({ version: "0.0.1-test", commit: undefined })),
    "0.0.1-test",
  );
  const from = "0.0.0-test-000000000000";
  const done = await update();
  expect(done).toMatchObject({
    exitCode: 0,
    outcome: "done",
    agents: [
      { name: "web-01", from, to: good, state: "updated", wave: 1 },
      { name: "web-02", from, to: good, state: "updated", wave: 2 },
    ],
  });
  expect(await Promise.all(names.map(currentOf))).toEqual([good, good]);
  expect(await update()).toMatchObject({ exitCode: 0, agents: [{ state: "current" }, { state: "current" }] });

  const starts = supervisors.map((one) => one.starts);
  // Not by its version does one know that it is bad.
  await serve('#!/bin/sh\n[ "$1" = --version ] && echo "holdfast 0.0.2-broken" && exit 0\nexit 1\n', "0.0.2-broken");
  const bad = await update("--greet-within", "10s");
  expect(bad).toMatchObject({
    exitCode: 1,
    outcome: "stopped",
    agents: [
      { name: "web-01", from: good, state: "failed", reason: expect.stringContaining("update.rolled-back") },
      { name: "web-02", from: good, state: "untouched", wave: null },
    ],
  });
  expect(bad.err).toContain("left as they were: web-02");
  const { exitCode } = await node.client.tasks.show(bad.agents[0].task);
  expect(exitCode).toBe(1);
  expect(await Promise.all(names.map(currentOf))).toEqual([good, good]);
  expect(supervisors[1]?.starts).toBe(starts[1]);
  expect((await readdir(optOf("web-02"))).toSorted()).toEqual(["current", "update.lock", "versions"]);
  expect(await readdir(join(optOf("web-02"), "versions"))).toHaveLength(2);

  await writeFile(join(folder, "go"), "");
  expect(await run.result()).toMatchObject({ succeeded: true });
});
