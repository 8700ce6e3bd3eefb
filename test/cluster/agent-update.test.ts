// `agent update` with real executables, a real node and a supervisor that restarts as systemd would: to a good version, to one
// that does not start, to one that starts and never greets. A script runs through all of it. Linux.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFile, mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildAgent } from "../../scripts/build-agent.ts";
import { connected, enrol } from "../harness/enrolled-agent.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";
import { Supervisor } from "../harness/supervisor.ts";

const name = `holdfast-agent-${process.platform}-${process.arch}`;
/** Not by its version does one know that it is bad. */
const broken = (act: string): string => `#!/bin/sh
[ "$1" != --version ] || { echo "holdfast 0.0.2-broken (of a test)"; exit 0; }
${act}
`;

let node: TestNode;
let folder = "";
let dataPath = "";
let supervisor: Supervisor;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-update-"));
  const served = join(folder, "served");
  const version = join(folder, "opt", "versions", "0.0.0-test-000000000000");
  for (const one of [served, version]) await mkdir(one, { recursive: true });
  await copyFile(await buildAgent({ version: "0.0.0-test", commit: undefined }), join(version, "holdfast-agent"));
  await symlink("versions/0.0.0-test-000000000000", join(folder, "opt", "current"));
  node = await startTestNode({ agentExecutables: served });
  dataPath = await enrol(node, { name: "web-01" });
  supervisor = new Supervisor({
    program: join(folder, "opt", "current", "holdfast-agent"),
    words: ["--data-dir", dataPath],
    pidFile: join(folder, "pid"),
  });
  supervisor.start();
  await connected(node, "web-01");
}, 120_000);
afterAll(async () => {
  await supervisor.stop();
  await node.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Resolves with the executable's SHA-256. */
async function serve(content: string | Uint8Array): Promise<string> {
  await writeFile(join(folder, "served", name), content);
  return createHash("sha256").update(content).digest("hex");
}

function update(sha256: string, ...words: string[]): Promise<{ exitCode: number; out: string; err: string }> {
  const restart = ["--restart-command", Supervisor.restartLine(join(folder, "pid")), "--greet-within", "15s"];
  const all = [
    "agent",
    "update",
    "--server",
    node.url,
    "--sha256",
    sha256,
    "--data-dir",
    dataPath,
    ...restart,
    ...words,
  ];
  return new Promise((resolve) => {
    execFile(join(folder, "opt", "current", "holdfast-agent"), all, (error, out, err) => {
      resolve({ exitCode: error === null ? 0 : Number(error.code), out, err });
    });
  });
}

const current = async (): Promise<string> => (await readlink(join(folder, "opt", "current"))).replace("versions/", "");
const versionOnNode = async (): Promise<string | null> => (await node.client.agents.show("web-01")).version;

test("a script runs through a good update, two bad ones that are taken back, and one that is not to be trusted", async () => {
  const script =
    "echo begun; while [ ! -e ../go ] && [ ! -e " + join(folder, "go") + " ]; do sleep 0.2; done; echo ended";
  const run = await node.client.run({ on: "web-01", interpreter: "sh", script });

  const good = await readFile(await buildAgent({ version: "0.0.1-test", commit: undefined }));
  const goodSum = await serve(good);
  const updated = await update(goodSum);
  expect(updated).toMatchObject({ exitCode: 0, out: `0.0.1-test-${goodSum.slice(0, 12)} runs and is connected\n` });
  expect(await versionOnNode()).toBe("0.0.1-test");
  expect(await update(goodSum)).toMatchObject({ exitCode: 0, out: expect.stringContaining("runs already") });

  for (const act of ["exit 1", "exec sleep 60"]) {
    const bad = await update(await serve(broken(act)));
    expect([bad.exitCode, bad.err]).toEqual([1, expect.stringContaining("update.rolled-back")]);
    expect(bad.err).toContain(`0.0.1-test-${goodSum.slice(0, 12)} runs again`);
    expect(await current()).toBe(`0.0.1-test-${goodSum.slice(0, 12)}`);
    await connected(node, "web-01");
  }

  await serve(broken("exit 0"));
  const before = await readdir(join(folder, "opt", "versions"));
  const untrusted = await update(goodSum.replace(/^./, (digit) => (digit === "0" ? "1" : "0")));
  expect([untrusted.exitCode, untrusted.err]).toEqual([77, expect.stringContaining("expected SHA-256")]);
  expect(await readdir(join(folder, "opt", "versions"))).toEqual(before);
  expect((await readdir(join(folder, "opt"))).toSorted()).toEqual(["current", "update.lock", "versions"]);

  await writeFile(join(folder, "go"), "");
  expect(await run.result()).toMatchObject({ state: "succeeded", exitCode: 0 });
  let log = "";
  for await (const { text } of run.log()) log += `${text}\n`;
  expect(log).toBe("begun\nended\n");
});
