// The agent as a service of a real systemd: installed by install.sh from a real node, restarted, killed, hung, updated, shut
// down and uninstalled, while scripts run. Linux, root, systemd; skipped without them, and in CI it fails.
import { existsSync, readFileSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { main } from "../../cli/main.ts";
import { patience } from "../../demo/patience.ts";
import type { RunHandle } from "../../sdk/run-handle.ts";
import { buildAgent } from "../../scripts/build-agent.ts";
import { sha256Hex } from "../../shared/thumbprint.ts";
import { FakeShell } from "../fakes/shell.ts";
import { connected } from "../harness/enrolled-agent.ts";
import { eventually } from "../harness/eventually.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";
import { countedLines } from "../harness/script-truth.ts";
import { SystemdContainer } from "../harness/systemd-container.ts";

const whyNot = SystemdContainer.whyNot();
const isSkipped = whyNot !== undefined && process.env["CI"] !== "true";
if (isSkipped) process.stderr.write(`\nSKIPPED, no real systemd ran the agent: ${whyNot}\n`);

const file = `holdfast-agent-${process.platform}-${process.arch}`;
const unit = "holdfast-agent.service";
const group = `system.slice/${unit}`;
/** Counts until it is told to stop; its truth says who began and ended. */
const longScript = `echo "start $$" >>/var/lib/truth
i=0
while [ ! -e /var/lib/go ]; do i=$((i + 1)); echo "line $i"; echo $i >/var/lib/count; sleep 0.1; done
echo "end $$" >>/var/lib/truth`;

describe.skipIf(isSkipped)("the agent under a real systemd", () => {
  /** Whatever of it the start came to goes again. */
  const site = new AsyncDisposableStack();
  let node: TestNode;
  let target: SystemdContainer;
  let served = "";

  beforeAll(async () => {
    served = await mkdtemp(join(tmpdir(), "holdfast-served-"));
    site.defer(() => rm(served, { recursive: true, force: true }));
    await copyFile(await buildAgent({ version: "0.0.0-test", commit: undefined }), join(served, file));
    node = await startTestNode({ agentExecutables: served });
    site.adopt(node, (one) => one.stop());
    target = site.use(await SystemdContainer.create());
    await target.boot();
  }, 300_000);
  afterAll(() => site.disposeAsync());

  /** Each goes on from where the one before it came to. */
  let failed: string | undefined;
  beforeEach(({ onTestFailed, skip, task }) => {
    skip(failed !== undefined, `"${failed}" failed, and this goes on from there`);
    onTestFailed(() => void (failed = task.name));
  });

  async function install(...words: string[]): Promise<string> {
    const { token } = await node.client.tokens.create({});
    return target.sh(`curl -fsSL ${node.url}/install.sh | sh -s -- --token ${token} ${words.join(" ")} 2>&1`);
  }

  async function serve(content: string | Uint8Array, version: string): Promise<string> {
    await writeFile(join(served, file), content);
    return `${version}-${sha256Hex(content).slice(0, 12)}`;
  }

  async function update(...words: string[]) {
    const shell = new FakeShell();
    const all = ["agents", "update", "--on", "web-01", "--json", ...words];
    const exitCode = await main([...all, "--url", node.url, "--api-key", node.apiKey], shell);
    if (shell.out.text === "") throw new Error(`exit code ${exitCode}: ${shell.err.text}`);
    return { exitCode, ...JSON.parse(shell.out.text) };
  }

  async function logOf(run: RunHandle): Promise<string> {
    let log = "";
    for await (const { text } of run.log()) log += `${text}\n`;
    return log;
  }

  const read = (path: string): string => readFileSync(join(target.path, path), "utf8");
  const has = (path: string): boolean => existsSync(join(target.path, path));
  const mainPid = async (of = unit): Promise<number> => Number((await target.show(of, "MainPID"))["MainPID"]);

  /** Another process than `before` is the service's, which systemd counts as started and the node as connected. */
  async function startedAnew(before: number): Promise<Record<string, string>> {
    const seen = await eventually("systemd has started the agent anew", async () => {
      const state = await target.show(unit, "MainPID", "ActiveState", "NRestarts", "Result");
      const { MainPID: pid, ActiveState: active } = state;
      return { done: active === "active" && pid !== "0" && pid !== String(before), state };
    });
    await connected(node, "web-01");
    return seen;
  }

  /** Looks twice: it is not only there, it goes on. */
  async function goesOn(): Promise<void> {
    const before = read("var/lib/count");
    await eventually("the script goes on", () => {
      const state = read("var/lib/count");
      return { done: state !== "" && state !== before, state };
    });
    expect(read("var/lib/truth").split("\n")).toHaveLength(2);
  }

  let long: RunHandle;

  test("install.sh makes a service that systemd knows as started, enabled and fed, and that is connected", async () => {
    const said = await install("--name", "web-01");
    expect(said).toContain("enable holdfast-agent: it starts with the host");
    await connected(node, "web-01");
    expect(await target.sh(`systemctl is-active ${unit}; systemctl is-enabled ${unit}`)).toBe("active\nenabled");
    const wanted = ["Type", "NotifyAccess", "WatchdogUSec", "KillMode", "Delegate", "UnitFileState", "TimeoutStopUSec"];
    expect(await target.show(unit, ...wanted, "NRestarts")).toEqual({
      Type: "notify",
      NotifyAccess: "main",
      WatchdogUSec: "2min",
      KillMode: "process",
      Delegate: "yes",
      UnitFileState: "enabled",
      TimeoutStopUSec: "30s",
      NRestarts: "0",
    });
    const status = await target.run(["holdfast", "agent", "status", "--json"]);
    expect(status.exitCode).toBe(0);
    const pid = await mainPid();
    expect(JSON.parse(status.out)).toMatchObject({
      running: true,
      pid,
      unit: "own",
      systemd: { active: "active", enabled: "enabled", pid, says: expect.stringContaining("connected to 1 of 1") },
    });
    expect(await target.sh("holdfast agent install")).toBe("holdfast-agent was installed already: nothing changed");
    expect(await mainPid()).toBe(pid);
    const [line = ""] = (await target.sh(`journalctl -u ${unit} -o cat _PID=${pid}`)).split("\n");
    expect(JSON.parse(line)).toMatchObject({ part: "agent", msg: "session open", node: "node-a" });
  });

  test("a script finds root's environment and a control group of its own, and not what is the service's", async () => {
    const script =
      "echo $HOME $USER $(id -u); env | grep -cE 'NOTIFY|WATCHDOG|INVOCATION|JOURNAL'; grep ^0 /proc/self/cgroup";
    const log = await logOf(await node.client.run({ on: "web-01", interpreter: "sh", script }));
    expect(log).toMatch(/^\/root root 0\n0\n0::\/system\.slice\/holdfast-agent\.service\/holdfast-[^/]+\/[^/]+\n$/);
  });

  test("a script goes on through a restart of the unit and the agent's sudden death", async () => {
    long = await node.client.run({ on: "web-01", interpreter: "sh", script: longScript });
    await eventually("the script runs", () => ({ done: has("var/lib/count"), state: undefined }));
    const first = await mainPid();
    await target.sh(`systemctl restart ${unit}`);
    await startedAnew(first);
    await goesOn();
    const second = await mainPid();
    await target.sh(`systemctl kill --signal=KILL --kill-whom=main ${unit}`);
    expect(await startedAnew(second)).toMatchObject({ NRestarts: "1" });
    await goesOn();
  });

  test("an agent that hangs is ended and started anew by the watchdog; one that does not is left alone", async () => {
    await mkdir(join(target.path, "etc/systemd/system", `${unit}.d`));
    await writeFile(join(target.path, "etc/systemd/system", `${unit}.d/short.conf`), "[Service]\nWatchdogSec=12\n");
    const before = await mainPid();
    await target.sh(`systemctl daemon-reload; systemctl restart ${unit}`);
    await startedAnew(before);
    const fed = await mainPid();
    const moment = async (): Promise<number> =>
      Number((await target.show(unit, "WatchdogTimestampMonotonic"))["WatchdogTimestampMonotonic"]);
    const start = await moment();
    await eventually(
      "it is fed for longer than its limit",
      async () => {
        const state = (await moment()) - start;
        return { done: state > 15_000_000, state };
      },
      { limitMs: 60_000 },
    );
    expect(await mainPid()).toBe(fed);
    await target.sh(`kill -STOP ${fed}`);
    await startedAnew(fed);
    expect(await target.sh(`journalctl -u ${unit} -o cat`)).toContain("Watchdog timeout (limit 12s)!");
    await goesOn();
    await rm(join(target.path, "etc/systemd/system", `${unit}.d`), { recursive: true });
    const hung = await mainPid();
    await target.sh(`systemctl daemon-reload; systemctl restart ${unit}`);
    await startedAnew(hung);
  });

  test("a good version is switched to under systemd, and a bad one goes back by itself", async () => {
    const good = await serve(
      await readFile(await buildAgent({ version: "0.0.1-test", commit: undefined })),
      "0.0.1-test",
    );
    const before = await mainPid();
    expect(await update()).toMatchObject({ exitCode: 0, agents: [{ to: good, state: "updated" }] });
    const pid = await mainPid();
    expect(pid).not.toBe(before);
    expect(await target.sh(`readlink /proc/${pid}/exe`)).toBe(
      `/usr/local/lib/holdfast/versions/${good}/holdfast-agent`,
    );
    await goesOn();
    await serve('#!/bin/sh\n[ "$1" = --version ] && echo "holdfast 0.0.2-broken" && exit 0\nexit 1\n', "0.0.2-broken");
    expect(await update("--greet-within", "10s")).toMatchObject({
      exitCode: 1,
      agents: [{ from: good, state: "failed", reason: expect.stringContaining("update.rolled-back") }],
    });
    expect(await target.sh(`readlink /proc/${await mainPid()}/exe`)).toContain(good);
    await goesOn();
  });

  test("a cancel ends children that left session and parent, in the delegated control group", async () => {
    const away = `(setsid env -i sh -c 'trap "" TERM HUP; sleep 7777 & sleep 7777 & wait' >/dev/null 2>&1 &)`;
    const run = await node.client.run({
      on: "web-01",
      interpreter: "sh",
      script: `${away}; ${away}; echo up; sleep 7777`,
    });
    const count = () => target.sh("pgrep -c -f '[s]leep 7777' || :");
    await eventually("its children run", async () => {
      const state = await count();
      return { done: Number(state) >= 5, state };
    });
    await run.cancel();
    expect(await run.result()).toMatchObject({ state: "cancelled" });
    expect(await count()).toBe("0");
    await goesOn();
  });

  test("the script has run once, and its log is whole", async () => {
    await writeFile(join(target.path, "var/lib/go"), "");
    expect(await long.result()).toMatchObject({ state: "succeeded", exitCode: 0 });
    const [start = "", end] = read("var/lib/truth").trim().split("\n");
    expect(end).toBe(start.replace("start", "end"));
    expect(await logOf(long)).toBe(countedLines(Number(read("var/lib/count"))));
    // Besides the agent there is for a moment what tells systemd how it fares.
    await eventually("nothing but the agent is left in the unit", () => {
      const state = target.pids(group);
      return { done: state.length === 1, state };
    });
  });

  test("a second agent runs beside it as a user of its own", async () => {
    // The one that does not run is still served: what the first agent runs stays, for both.
    const said = await install("--name", "web-02", "--instance", "two", "--user", "deployer");
    expect(said).toMatch(
      /other agents of this host run versions\/0\.0\.1-test-\w+: it stays, and this one runs it too/,
    );
    expect(said).toContain("make the system user deployer");
    await connected(node, "web-02");
    expect(await target.show("holdfast-agent-two", "NotifyAccess", "User", "ActiveState")).toEqual({
      NotifyAccess: "all",
      User: "deployer",
      ActiveState: "active",
    });
    const script = "id -un; echo $HOME; grep ^0 /proc/self/cgroup; touch $HOME/x && echo writes";
    const log = await logOf(await node.client.run({ on: "web-02", interpreter: "sh", script }));
    expect(log).toMatch(
      /^deployer\n\/var\/lib\/holdfast\/agent-two\n0::\/system\.slice\/holdfast-agent-two\.service\/holdfast-.*\nwrites\n$/,
    );
    const before = await mainPid("holdfast-agent-two");
    await target.sh("systemctl restart holdfast-agent-two");
    await connected(node, "web-02");
    expect(await mainPid("holdfast-agent-two")).not.toBe(before);
    expect(await target.sh("systemctl is-active holdfast-agent")).toBe("active");
  });

  test("a shutdown ends within the unit's time; after the next start both agents connect without a hand", async () => {
    const run = await node.client.run({
      on: "web-01",
      interpreter: "sh",
      script: "echo up; touch /var/lib/up; sleep 7777",
    });
    await eventually("the script runs", () => ({ done: has("var/lib/up"), state: undefined }));
    expect(await target.powerOff()).toBeLessThan(30_000 * patience);
    await target.boot();
    await connected(node, "web-01");
    await connected(node, "web-02");
    // The manager's last act is a TERM to all that still runs, and the shim writes down how that ended the script. The boot
    // id is the machine's and has not changed: `interrupted: host-reboot` is for what a real reboot ends without a word.
    expect(await run.result()).toMatchObject({ state: "failed", exitCode: null, signal: "SIGTERM" });
  });

  test("uninstall leaves what it says, and nothing else", async () => {
    await target.sh("holdfast agent uninstall");
    expect(await target.show(unit, "LoadState", "ActiveState")).toEqual({
      LoadState: "not-found",
      ActiveState: "inactive",
    });
    expect(await target.sh("systemctl is-active holdfast-agent-two")).toBe("active");
    await target.sh("holdfast agent uninstall --instance two --purge");
    // systemctl itself takes the folder of links away with the last one.
    expect(has("etc/systemd/system/multi-user.target.wants")).toBe(false);
    expect(await readdir(join(target.path, "var/lib/holdfast"))).toEqual(["agent"]);
    expect(await target.sh("systemctl --failed --no-legend")).toBe("");
    // Who told systemd how the agent fares may end a moment after it.
    await eventually("no process and no control group of an agent is left", async () => {
      const processes = await target.sh("pgrep -fa '[h]oldfast-agent' || :");
      const hasGroup = target.hasGroup(group);
      return { done: processes === "" && !hasGroup, state: { processes, hasGroup } };
    });
  });
});
