// Several real processes: a node, two agents, the command line. The main job, and the deaths it must survive.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TestCluster, type TestAgent } from "../harness/cluster.ts";
import { eventually } from "../harness/eventually.ts";
import { countedLines, countingScript, startsIn } from "../harness/script-truth.ts";

describe("a node and two agents", () => {
  let cluster: TestCluster;
  let web: TestAgent;

  beforeAll(async () => {
    cluster = await TestCluster.start();
    web = await cluster.startAgent({ name: "web-01", labels: ["role=web"] });
    await cluster.startAgent({ name: "db-01", labels: ["role=db"] });
  });
  afterAll(async () => {
    await cluster.stop();
  });

  it("runs a script with its log on standard output and makes its exit code the command's", async () => {
    const ran = await cluster.cli("run", "--on", "web-01", "--", "echo hello; echo problem >&2; exit 3");
    expect(ran).toMatchObject({
      exitCode: 3,
      output: expect.stringMatching(/hello[\s\S]*problem|problem[\s\S]*hello/),
    });
  });

  it("prefixes the lines of several agents and shows a table of results", async () => {
    const ran = await cluster.cli("run", "--on", "*", "--", "echo from $HOLDFAST_AGENT");
    expect(ran.exitCode).toBe(0);
    expect(ran.output).toMatch(/web-01 +\| from web-01/);
    expect(ran.output).toMatch(/db-01 +\| from db-01/);
    expect(ran.output).toMatch(/succeeded/);
  });

  it("delivers the whole log and one start when the server is killed in the middle of a script", async () => {
    const truth = join(cluster.folder, "truth-server");
    const handle = await cluster.client.run({
      on: "web-01",
      script: countingScript(truth, { count: 30, pauseSeconds: 0.1 }),
    });
    const [task] = handle.tasks;
    await eventually("the script runs", () => ({ done: startsIn(truth) === 1, state: startsIn(truth) }));
    cluster.server.program.kill("SIGKILL");
    await cluster.server.program.exited;
    await cluster.restartServer();
    const lines: string[] = [];
    for await (const line of handle.log()) lines.push(`${line.text}\n`);
    expect(lines.join("")).toBe(countedLines(30));
    expect(await cluster.finished(task?.id ?? "")).toMatchObject({ state: "succeeded", exitCode: 0 });
    expect(startsIn(truth)).toBe(1);
  });

  it("delivers the whole log and one start when the agent is killed in the middle of a script", async () => {
    const truth = join(cluster.folder, "truth-agent");
    const handle = await cluster.client.run({
      on: "web-01",
      script: countingScript(truth, { count: 30, pauseSeconds: 0.1 }),
    });
    const [task] = handle.tasks;
    await eventually("the script runs", () => ({ done: startsIn(truth) === 1, state: startsIn(truth) }));
    web.program.kill("SIGKILL");
    await web.program.exited;
    await cluster.restartAgent(web);
    const lines: string[] = [];
    for await (const line of handle.log()) lines.push(`${line.text}\n`);
    expect(lines.join("")).toBe(countedLines(30));
    expect(await cluster.finished(task?.id ?? "")).toMatchObject({ state: "succeeded", exitCode: 0 });
    expect(startsIn(truth)).toBe(1);
  });

  it("ends the whole process tree of a cancelled task and calls it cancelled only then", async () => {
    const handle = await cluster.client.run({
      on: "web-01",
      script: "echo up; sleep 98765 & sleep 98765",
      graceMs: 500,
    });
    for await (const piece of handle.bytes()) if ("bytes" in piece) break;
    await handle.cancel();
    expect(await cluster.finished(handle.tasks[0]?.id ?? "")).toMatchObject({ state: "cancelled" });
    expect(await processesNamed("sleep 98765")).toBe(0);
  });

  it("closes the live connection of a revoked agent and gives it no further session", async () => {
    const gone = await cluster.startAgent({ name: "gone-01" });
    await cluster.client.agents.revoke("gone-01");
    expect(await gone.program.exited).toBe(77);
    // Presence is gathered for 100 ms before it is stored.
    await eventually("it is shown as revoked and offline", async () => {
      const { status, connection } = await cluster.client.agents.show("gone-01");
      return { done: status === "revoked" && connection === "offline", state: { status, connection } };
    });
  });
});

function processesNamed(text: string): Promise<number> {
  const child = spawn("pgrep", ["-fc", `^${text}`], { stdio: ["ignore", "pipe", "ignore"] });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  return new Promise((resolve) => void child.once("close", () => resolve(Number(output.trim()))));
}
