// An agent process under a service manager that listens: the shipped launcher, the real systemd-notify, a real socket.
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { connected, enrol } from "../harness/enrolled-agent.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";
import { NotifyReceiver } from "../harness/notify-receiver.ts";

const launcher = join(import.meta.dirname, "../../bin/holdfast");
const missing = ["systemd-notify", "python3"].filter((name) => spawnSync(name, ["--version"]).error !== undefined);
if (missing.length > 0) process.stderr.write(`\n${missing.join()} missing: sh scripts/install-test-tools.sh\n`);

/** systemd-notify speaks for its parent only where it may: root of a container may not always. */
const mayImpersonate = (): boolean => {
  const effective = /^CapEff:\s+([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  return (BigInt(`0x${effective}`) & (1n << 21n)) !== 0n;
};

const ending: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ending.splice(0).toReversed()) await end();
});

async function scene(): Promise<{ node: TestNode; dataPath: string; receiver: NotifyReceiver }> {
  const node = await startTestNode();
  ending.push(() => node.stop());
  const receiver = await NotifyReceiver.start();
  ending.push(() => receiver[Symbol.asyncDispose]());
  return { node, receiver, dataPath: await enrol(node, { name: "web-01" }) };
}

function start(dataPath: string, receiver: NotifyReceiver, more: Record<string, string> = {}): ChildProcess {
  const child = spawn(launcher, ["agent", "run", "--data-dir", dataPath, "--log-level", "silent"], {
    env: { PATH: process.env["PATH"], NOTIFY_SOCKET: receiver.socket, ...more },
    stdio: "ignore",
  });
  const gone = once(child, "exit");
  ending.push(() => {
    child.kill("SIGKILL");
    return gone;
  });
  return child;
}

describe.skipIf(missing.length > 0 && process.env["CI"] !== "true")("under a service manager", () => {
  test("an agent says that it is up, connected, alive and ending, in its own name; scripts hear of none of it", async () => {
    const { node, receiver, dataPath } = await scene();
    const child = start(dataPath, receiver, { WATCHDOG_USEC: "600000", INVOCATION_ID: "x", SEEN: "1" });
    await receiver.until("READY=1");
    await receiver.until(/^STATUS=web-01: running, connected to 1 of 1 /);
    await receiver.until("WATCHDOG=1", 3);
    await connected(node, "web-01");
    const run = await node.client.run({ on: "web-01", script: "env" });
    let stdout = "";
    for await (const piece of run.bytes()) if ("bytes" in piece) stdout += Buffer.from(piece.bytes).toString();
    expect(stdout).toMatch(/^SEEN=1$/m);
    expect(stdout).not.toMatch(/^(NOTIFY_SOCKET|WATCHDOG_USEC|INVOCATION_ID)=/m);
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    expect(await ended).toEqual([0, null]);
    await receiver.until("STOPPING=1");
    expect(receiver.lines.filter((line) => line === "READY=1")).toHaveLength(1);
    expect(receiver.lines.indexOf("READY=1")).toBeLessThan(receiver.lines.indexOf("WATCHDOG=1"));
    const senders = new Set(receiver.heard.map(({ pid }) => pid));
    expect([...senders].filter((pid) => mayImpersonate() && pid !== child.pid)).toEqual([]);
  });

  test("an agent whose cluster cannot be reached is up all the same, and says that it is not connected", async () => {
    const { node, receiver, dataPath } = await scene();
    await node.node.stop();
    start(dataPath, receiver);
    await receiver.until("READY=1");
    await receiver.until(/^STATUS=web-01: running, connected to 0 of [1-9]/);
    expect(receiver.lines).not.toContain("WATCHDOG=1");
  });

  test("an agent that cannot start says why", async () => {
    const { receiver, dataPath } = await scene();
    const child = start(`${dataPath}-nowhere`, receiver);
    expect(await once(child, "exit")).toEqual([2, null]);
    await receiver.until(/^STATUS=.*holds no agent identity/);
    expect(receiver.lines).not.toContain("READY=1");
  });
});
