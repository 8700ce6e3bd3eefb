// `agent install`, `uninstall` and `status` on real files under a root of their own, with the real systemctl and useradd where
// they work without a running systemd. What needs one (start, stop, reload) is asked of a stand-in that keeps its state.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { hostBootId } from "../../agent/host.ts";
import { readProcess } from "../../agent/process-table.ts";
import { installService, serviceStatus, uninstallService } from "../../agent/service/entry.ts";
import { SystemHost, type Outcome, type ServiceHost } from "../../agent/service/service-host.ts";
import { main } from "../../cli/main.ts";
import { FakeShell } from "../fakes/shell.ts";
import { createTestAuthorities } from "../harness/certs.ts";

const environment = { HOLDFAST_COMMAND: "/usr/local/bin/holdfast" };
const unitFile = "etc/systemd/system/holdfast-agent.service";
const linkFile = "etc/systemd/system/multi-user.target.wants/holdfast-agent.service";
const dataFolder = "var/lib/holdfast/agent";

const missing = ["systemctl", "useradd"].filter((name) => spawnSync(name, ["--help"]).error !== undefined);
if (missing.length > 0) process.stderr.write(`\n${missing.join()} missing: sh scripts/install-test-tools.sh\n`);
const isSkipped = missing.length > 0 && process.env["CI"] !== "true";

const authorities = createTestAuthorities();
let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "holdfast-root-"));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const at = (path: string): string => join(root, path);

async function agent(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const shell = new FakeShell({ environment });
  const code = await main(["agent", ...words, "--root", root], shell);
  return { code, out: shell.out.text, err: shell.err.text };
}

async function enrol(): Promise<void> {
  await mkdir(at(dataFolder), { recursive: true, mode: 0o700 });
  const identity = {
    cluster: "00000000-0000-4000-8000-000000000001",
    agentId: "00000000-0000-4000-8000-000000000002",
    name: "web-01",
    agentsCa: [authorities.agents.certificatePem],
    nodesCa: [authorities.nodes.certificatePem],
    seeds: [],
  };
  await writeFile(at(`${dataFolder}/identity.json`), JSON.stringify(identity));
}

describe.skipIf(isSkipped)("in the root of an image", () => {
  test("installs unit, folder and link; again, it changes nothing", async () => {
    const first = await agent("install");
    expect(first).toMatchObject({ code: 0, out: "holdfast-agent is installed\n" });
    expect(first.err).toContain("not enrolled");
    expect((await stat(at(dataFolder))).mode & 0o777).toBe(0o700);
    expect((await stat(at(unitFile))).mode & 0o777).toBe(0o644);
    expect(await readlink(at(linkFile))).toBe("/etc/systemd/system/holdfast-agent.service");
    const before = await stat(at(unitFile));
    const again = await agent("install", "--json");
    expect([again.code, JSON.parse(again.out).done]).toEqual([0, []]);
    expect((await stat(at(unitFile))).ino).toBe(before.ino);
  });

  test("touches nothing when it only shows", async () => {
    const shown = await agent("install", "--print");
    expect(shown.code).toBe(0);
    expect(shown.err).toContain(`would write /${unitFile}`);
    expect(existsSync(at("etc"))).toBe(false);
    expect(existsSync(at("var"))).toBe(false);
  });

  test("leaves a unit that was changed by hand, and a drop-in whatever is asked", async () => {
    await agent("install");
    const text = `${await readFile(at(unitFile), "utf8")}# mine\n`;
    await writeFile(at(unitFile), text);
    await mkdir(at(`${unitFile}.d`));
    await writeFile(at(`${unitFile}.d/mine.conf`), "[Service]\nNice=5\n");
    for (const act of [["install"], ["install", "--print"], ["uninstall"]]) {
      const { code, err } = await agent(...act);
      expect([code, err]).toEqual([1, expect.stringContaining("(service.edited)")]);
      expect(await readFile(at(unitFile), "utf8")).toBe(text);
    }
    expect((await agent("install", "--force")).code).toBe(0);
    expect(await readFile(at(unitFile), "utf8")).not.toContain("# mine");
    expect(existsSync(at(`${unitFile}.d/mine.conf`))).toBe(true);
  });

  test("keeps several agents apart, and uninstalls one of them", async () => {
    await agent("install");
    await agent("install", "--instance", "blue");
    expect(await readFile(at(unitFile.replace("agent.", "agent-blue.")), "utf8")).toContain(`/${dataFolder}-blue\n`);
    expect((await agent("uninstall", "--instance", "blue")).code).toBe(0);
    expect(existsSync(at(unitFile.replace("agent.", "agent-blue.")))).toBe(false);
    expect(existsSync(at(`${dataFolder}-blue`))).toBe(true);
    expect(existsSync(at(unitFile))).toBe(true);
    expect(await readlink(at(linkFile))).toContain("holdfast-agent.service");
    expect(await agent("uninstall", "--instance", "blue")).toMatchObject({
      code: 0,
      out: "holdfast-agent-blue was not installed\n",
    });
  });

  test("purges an agent's folder where the unit says it is, and no other", async () => {
    await agent("install", "--data-dir", "/srv/agent");
    await writeFile(at("srv/agent/precious"), "");
    const refused = await agent("uninstall", "--purge");
    expect([refused.code, refused.err]).toEqual([2, expect.stringContaining("does not look like")]);
    expect([existsSync(at("srv/agent/precious")), existsSync(at(unitFile))]).toEqual([true, true]);
    await writeFile(at("srv/agent/journal"), "");
    await mkdir(at("srv/agent.users/commands-1"), { recursive: true });
    expect((await agent("uninstall", "--purge")).code).toBe(0);
    for (const path of ["srv/agent", "srv/agent.users", unitFile]) expect(existsSync(at(path))).toBe(false);
  });

  test("purges nothing that an agent or a script still uses", async () => {
    await agent("install");
    const startTicks = readProcess(process.pid)?.startTicks ?? "";
    await writeFile(at(`${dataFolder}/lock`), `${process.pid} ${startTicks} ${hostBootId()}\n`);
    const held = await agent("uninstall", "--purge");
    expect([held.code, held.err]).toEqual([2, expect.stringContaining(`process ${process.pid} runs an agent`)]);
    await writeFile(at(`${dataFolder}/lock`), "");
    const attempt = at(`${dataFolder}/attempts/00000000-0000-4000-8000-000000000009/run`);
    await mkdir(attempt, { recursive: true });
    await writeFile(join(attempt, "shim"), `1 ${process.pid} ${startTicks} 10.00 .\n`);
    const busy = await agent("uninstall", "--purge");
    expect([busy.code, busy.err]).toEqual([2, expect.stringContaining("1 script still runs")]);
    expect(existsSync(at(unitFile))).toBe(true);
  });

  test.skipIf(process.getuid?.() !== 0)("makes the user and gives it what root had registered", async () => {
    await mkdir(at("etc"));
    await writeFile(at("etc/passwd"), "root:x:0:0::/root:/bin/sh\n");
    await writeFile(at("etc/group"), "root:x:0:\n");
    await enrol();
    expect((await agent("install", "--user", "deploy")).code).toBe(0);
    const [, , userId] = /^deploy:(.*)$/m.exec(await readFile(at("etc/passwd"), "utf8"))?.[0].split(":") ?? [];
    for (const path of [dataFolder, `${dataFolder}/identity.json`]) {
      expect((await stat(at(path))).uid).toBe(Number(userId));
    }
    expect(Number(userId)).toBeGreaterThan(0);
    expect(await agent("install", "--user", "deploy")).toMatchObject({
      code: 0,
      out: expect.stringContaining("nothing changed"),
    });
    const back = await agent("install");
    expect([back.code, back.err]).toEqual([2, expect.stringContaining("chown")]);
  });
});

/** A systemd that runs, as far as systemctl tells: units it knows are files; what is active is what was started. */
class LiveHost implements ServiceHost {
  readonly platform = "linux";
  readonly manager = "live";
  readonly isRoot = true;
  readonly asked: string[] = [];
  readonly #active = new Set<string>();
  readonly #enabled = new Set<string>();
  readonly #files = new SystemHost({ root });
  failing: string | undefined;
  readText = (path: string) => this.#files.readText(path);
  writeText = (path: string, text: string) => this.#files.writeText(path, text);
  folder = (path: string) => this.#files.folder(path);
  makeFolder = this.#files.makeFolder.bind(this.#files);
  changeMode = (path: string, mode: number) => this.#files.changeMode(path, mode);
  remove = (path: string) => this.#files.remove(path);
  at = (path: string) => this.#files.at(path);
  account = async () => ({ userId: process.getuid?.() ?? 0, groupId: process.getgid?.() ?? 0 });
  changeableBy = async () => undefined;

  run: ServiceHost["run"] = async (_program, words): Promise<Outcome> => {
    const [verb = ""] = words;
    const unit = words.at(-1) ?? "";
    if (!verb.startsWith("is-") && verb !== "show") this.asked.push(verb);
    if (verb === this.failing) return { exitCode: 1, out: "", err: "Job failed." };
    if (verb === "start") this.#active.add(unit);
    if (verb === "stop") this.#active.delete(unit);
    if (verb === "enable") this.#enabled.add(unit);
    if (verb === "disable") this.#enabled.delete(unit);
    const active = this.#active.has(unit) ? "active" : "inactive";
    const enabled = this.#enabled.has(unit) ? "enabled" : "disabled";
    const shown = `LoadState=loaded\nActiveState=${active}\nUnitFileState=${enabled}\nMainPID=7\nStatusText=a=b\nExecMainCode=1\nExecMainStatus=78\nNeedDaemonReload=no\n`;
    const out = verb === "is-active" ? active : verb === "is-enabled" ? enabled : verb === "show" ? shown : "";
    return { exitCode: 0, out: `${out}\n`, err: "" };
  };
}

describe("under a running systemd", () => {
  const request = { environment, edited: "keep" } as const;
  const tell = async (): Promise<void> => undefined;

  test("starts an enrolled agent, restarts it only for a changed unit, and stops it before its unit goes", async () => {
    const host = new LiveHost();
    expect(await installService(request, tell, host)).toMatchObject({ started: "not-enrolled" });
    expect(host.asked.splice(0)).toEqual(["daemon-reload", "enable"]);
    await enrol();
    expect(await installService(request, tell, host)).toMatchObject({ started: "started" });
    expect(host.asked.splice(0)).toEqual(["start"]);
    await installService(request, tell, host);
    expect(host.asked.splice(0)).toEqual([]);
    await installService({ ...request, environment: { HOLDFAST_COMMAND: "/opt/holdfast" } }, tell, host);
    expect(host.asked.splice(0)).toEqual(["daemon-reload", "restart"]);
    await uninstallService({ edited: "keep", data: "purge" }, tell, host);
    expect(host.asked).toEqual(["stop", "disable", "daemon-reload"]);
    expect([existsSync(at(unitFile)), existsSync(at(dataFolder))]).toEqual([false, false]);
  });

  test("says what systemctl said when a start fails, and goes on from there", async () => {
    const host = new LiveHost();
    await enrol();
    await chmod(at(dataFolder), 0o755);
    host.failing = "start";
    await expect(installService(request, tell, host)).rejects.toMatchObject({
      code: "service.failed",
      message: expect.stringContaining("Job failed."),
    });
    host.failing = undefined;
    host.asked.length = 0;
    await installService(request, tell, host);
    expect(host.asked).toEqual(["start"]);
  });

  test("tells its state", async () => {
    const host = new LiveHost();
    await enrol();
    await installService(request, tell, host);
    expect(await serviceStatus({}, host)).toMatchObject({
      unit: "own",
      running: false,
      systemd: { active: "active", enabled: "enabled", pid: 7, says: "a=b", lastExitCode: 78, stale: false },
      identity: { name: "web-01", certificateEnds: null },
      log: expect.stringContaining("journalctl -u holdfast-agent"),
    });
  });
});

describe("where it cannot be installed", () => {
  test.each([
    ["by another user than root", { isRoot: false }, "host.forbidden"],
    ["without systemd", { manager: "none" as const }, "service.unsupported"],
    ["on another system", { platform: "darwin" }, "service.unsupported"],
  ])("%s nothing is touched", async (_where, change, code) => {
    const host = Object.assign(new LiveHost(), change);
    const request = { environment, edited: "keep" as const };
    await expect(installService(request, async () => undefined, host)).rejects.toMatchObject({ code });
    await expect(
      uninstallService({ edited: "keep", data: "purge" }, async () => undefined, host),
    ).rejects.toMatchObject({ code });
    expect([host.asked, existsSync(at("etc"))]).toEqual([[], false]);
  });
});

test("the status of an agent that runs without any service names its process", async () => {
  await enrol();
  const startTicks = readProcess(process.pid)?.startTicks ?? "";
  await writeFile(at(`${dataFolder}/lock`), `${process.pid} ${startTicks} ${hostBootId()}\n`);
  const shown = await agent("status");
  expect([shown.code, shown.out]).toEqual([0, expect.stringContaining(`runs as process ${process.pid}`)]);
  expect(shown.out).toContain("web-01");
  await writeFile(at(`${dataFolder}/lock`), `${process.pid} ${startTicks}1 ${hostBootId()}\n`);
  const { code, out } = await agent("status", "--json");
  expect([code, JSON.parse(out)]).toEqual([1, expect.objectContaining({ running: false, pid: null, systemd: null })]);
});
