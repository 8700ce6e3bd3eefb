// Doctor at real agents and nodes: each failing check is provoked on the disk, in a certificate or on the network, and a
// running agent does not notice that it was looked at.
import { execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, readdir, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { CheckRow, Examination } from "../../agent/doctor/doctor.ts";
import { examineAgent } from "../../agent/doctor/doctor.ts";
import { loadIdentity, storeIdentity } from "../../agent/identity.ts";
import { exitCodeOfExamination } from "../../cli/doctor-report.ts";
import { main } from "../../cli/main.ts";
import { agentListenerTls } from "../../server/gateway/tls-options.ts";
import { systemClock } from "../../shared/clock.ts";
import { AgentBench } from "../fakes/node-cluster.ts";
import { FakeShell } from "../fakes/shell.ts";
import { createTestAuthorities } from "../harness/certs.ts";
import { eventually } from "../harness/eventually.ts";
import { connected, TestSite } from "../harness/enrolled-agent.ts";

const isRoot = process.getuid?.() === 0;
const hourMs = 3_600_000;
let bench: AgentBench;
const ends: (() => Promise<void> | void)[] = [];

beforeEach(() => {
  bench = new AgentBench();
});

afterEach(async () => {
  await bench.stop();
  for (const end of ends.splice(0).toReversed()) await end();
});

const examine = (more: Parameters<typeof examineAgent>[1] = {}): Promise<Examination> =>
  examineAgent(
    { dataPath: bench.folder, dialMs: 3_000 },
    { environment: { PATH: "/usr/bin:/bin" }, execArgv: [], ...more },
  );

function rows(found: Examination, check: CheckRow["check"]): readonly CheckRow[] {
  return found.checks.filter((row) => row.check === check);
}

function only(found: Examination, check: CheckRow["check"]): CheckRow {
  const [row, ...others] = rows(found, check);
  if (row === undefined || others.length > 0) throw new Error(`${check}: ${JSON.stringify(found.checks, null, 1)}`);
  return row;
}

/** Names of what failed; whatever warns or fails has to have a mend. */
function failures(found: Examination): string[] {
  for (const { status, mend } of found.checks) expect(mend === "").toBe(status === "pass" || status === "info");
  return found.checks.filter(({ status }) => status === "fail").map(({ check, subject }) => subject ?? check);
}

/** Bytes, and the moment they were last changed, of everything doctor looks at. */
async function fingerprint(): Promise<Record<string, string>> {
  const names = await readdir(bench.folder);
  const files = names.filter((name) =>
    /^(?:lock|journal|identity\.json|key\.pem|certificate\.pem|nodes\.json)$/.test(name),
  );
  const entries = files.map(async (name) => {
    const { mtimeMs, size, mode } = await stat(bench.path(name));
    return [name, `${mtimeMs} ${size} ${mode} ${(await readFile(bench.path(name))).toString("base64")}`] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** Another key and certificate under the same identity. */
async function useLeaf(options: {
  readonly of?: ReturnType<typeof createTestAuthorities>;
  readonly bornMs?: number;
  readonly lifetimeMs?: number;
}) {
  const identity = await loadIdentity(bench.folder);
  if (identity === undefined) throw new Error("no identity");
  const { of: authorities = bench.authorities, bornMs = 0, lifetimeMs = hourMs } = options;
  const clock = { wallMs: () => systemClock.wallMs() + bornMs };
  const leaf = authorities.agentLeaf({ agentId: identity.agentId, lifetimeMs, clock });
  await storeIdentity(bench.folder, { ...identity, key: leaf.privateKeyPem, certificate: leaf.certificatePem });
}

describe("beside a running agent", () => {
  test("everything passes, and neither its session, its script nor its files notice", async () => {
    await bench.start(2);
    const agent = await bench.agent();
    const attempt = await bench.node.run(`echo up; while [ ! -e ${bench.path("go")} ]; do sleep 0.02; done; echo end`);
    await bench.store.until("output", () => bench.store.row(attempt).out.bytes.includes("up"));
    const isOpen = (id: string): boolean =>
      agent.status().nodes.some((view) => view.id === id && view.state === "open");
    await bench.store.until("both sessions", () => bench.nodes.every(({ id }) => isOpen(id)));
    const sessions = bench.nodes.map((node) => node.session);
    const before = await fingerprint();

    const found = await examine();
    expect(failures(found)).toEqual([]);
    expect(found).toMatchObject({ format: 1, agent: "running", verdict: "pass", dataPath: bench.folder });
    expect(exitCodeOfExamination(found)).toBe(0);
    expect(only(found, "agent").detail).toMatchObject({
      pid: process.pid,
      state: "running",
      attempts: { running: 1, waiting: 0 },
      sessions: bench.nodes.map((node) => ({ node: node.listed().name, id: node.id, state: "open", lastEnd: null })),
    });
    expect(only(found, "journal").detail).toMatchObject({
      openAttempts: 1,
      tornBytes: 0,
      damagedAt: null,
      bootCounter: 1,
    });
    const nodes = rows(found, "node");
    expect(nodes.map(({ status, subject }) => [status, subject])).toEqual(
      bench.nodes.map((node) => ["pass", `${node.listed().name} ${node.address}`]),
    );
    expect(nodes[0]?.detail).toMatchObject({
      finding: "reached",
      dns: ["127.0.0.1"],
      runningAgent: { state: "open" },
      certificate: {
        issuer: expect.stringContaining("nodes CA"),
        names: expect.stringContaining(`DNS:${bench.node.id}.node.${bench.authorities.cluster}.internal`),
      },
    });
    expect(rows(found, "clock").map(({ status }) => status)).toEqual(["pass", "pass"]);

    expect(await fingerprint()).toEqual(before);
    expect(bench.nodes.map((node) => node.session)).toEqual(sessions);
    for (const node of bench.nodes) expect(node.hellos.map(({ probe }) => probe === true)).toEqual([false, true]);
    await writeFile(bench.path("go"), "");
    const result = await bench.store.until("the result", () => bench.store.row(attempt).result);
    expect(result).toMatchObject({ outcome: "succeeded", out: { length: 7 } });
    expect(bench.store.row(attempt)).toMatchObject({ accepted: 1, started: 1 });
  });

  test("a node that answers a probe while the agent waits to dial it again is told", async () => {
    const busy = { times: 0, retryAfterSeconds: 60 };
    await bench.start(2, { busy });
    const agent = await bench.agent();
    await bench.store.until("both sessions", () => bench.nodes.every((node) => node.session !== undefined));
    busy.times = 1;
    bench.nodes[1]?.cut();
    await bench.store.until("a refused dial", () =>
      agent.status().nodes.some(({ lastEnd }) => lastEnd?.includes("503")),
    );
    const found = await examine();
    expect(failures(found)).toEqual([]);
    expect(rows(found, "node")[1]).toMatchObject({
      status: "warn",
      seen: expect.stringMatching(/greeted by node-1 .*but the running agent has no session there: HTTP 503/),
      detail: { finding: "reached", runningAgent: { state: "waiting" } },
    });
    expect(only(found, "agent").status).toBe("pass");
    expect(exitCodeOfExamination(found)).toBe(0);
  });

  test("an agent without any session is a warning of its own", async () => {
    await bench.start(1, { busy: { times: 1, retryAfterSeconds: 60 } });
    const agent = await bench.agent();
    await bench.store.until("a refused dial", () => agent.status().nodes.some(({ lastEnd }) => lastEnd !== undefined));
    expect(only(await examine(), "agent")).toMatchObject({
      status: "warn",
      seen: expect.stringContaining("0 sessions"),
      detail: { sessions: [{ id: null, state: "waiting", lastEnd: expect.stringContaining("503") }] },
    });
  });

  test("an agent in quarantine says so, and the journal's row what that means", async () => {
    await bench.start();
    await runOnce();
    await flipJournalBit();
    await bench.agent();
    await bench.store.until("a session", () => bench.node.session);
    const found = await examine();
    expect(failures(found)).toEqual(["agent", "journal"]);
    expect(only(found, "agent").seen).toMatch(/quarantined: .*journal is damaged at byte \d+ of \d+/);
    expect(only(found, "journal").mend).toContain("takes no work and starts no script a second time");
    expect(exitCodeOfExamination(found)).toBe(78);
  });
});

/** One finished attempt in the journal of an agent that has stopped. */
async function runOnce(): Promise<void> {
  const agent = await bench.agent();
  const attempt = await bench.node.run("echo done");
  await bench.store.until("the result", () => bench.store.row(attempt).result);
  await bench.store.until("its acknowledgement", () => agent.status().attempts.kept === 1);
  await agent.stop();
}

async function flipJournalBit(): Promise<void> {
  const journal = await readFile(bench.path("journal"));
  const at = Math.floor(journal.length / 2);
  journal[at] = (journal[at] ?? 0) ^ 0x04;
  await writeFile(bench.path("journal"), journal);
}

describe("the journal of an agent that does not run", () => {
  test("a flipped bit fails with what quarantine means, and the file stays as it is", async () => {
    await bench.start();
    await runOnce();
    expect(only(await examine(), "journal")).toMatchObject({
      status: "pass",
      detail: { openAttempts: 0, acknowledged: 1 },
    });
    await flipJournalBit();
    const before = await fingerprint();
    const found = await examine();
    expect(found.agent).toBe("not-running");
    expect(failures(found)).toEqual(["journal"]);
    expect(only(found, "journal").seen).toMatch(/journal is damaged at byte \d+ of \d+; readable: /);
    expect(exitCodeOfExamination(found)).toBe(78);
    expect(await fingerprint()).toEqual(before);
  });

  test("a torn tail is told and is no failure", async () => {
    await bench.start();
    await runOnce();
    const { size } = await stat(bench.path("journal"));
    await truncate(bench.path("journal"), size - 5);
    const found = await examine();
    expect(only(found, "journal")).toMatchObject({
      status: "info",
      seen: expect.stringMatching(/a torn tail of \d+ bytes/),
    });
    expect(exitCodeOfExamination(found)).toBe(0);
    expect((await stat(bench.path("journal"))).size).toBe(size - 5);
  });

  test("a lock left by an earlier boot of the host is no running agent", async () => {
    await bench.start();
    await writeFile(bench.path("lock"), `${process.pid} 1 an-earlier-boot\n`, { mode: 0o600 });
    const found = await examine();
    expect(found.agent).toBe("other-boot");
    expect(only(found, "agent")).toMatchObject({
      status: "info",
      seen: expect.stringContaining("before this host booted"),
    });
    expect(only(await examine({ hostBootId: "an-earlier-boot" }), "agent").seen).toContain("without letting go of it");
  });
});

test("what doctor sees of control groups and interpreters without an agent is what an agent then says", async () => {
  await bench.start();
  const { PATH = "" } = process.env;
  const alone = await examine({ environment: { PATH } });
  await bench.agent();
  const beside = await examine({ environment: {} });
  const { by, ...groups } = only(alone, "control-groups").detail;
  expect(by).toBe("doctor");
  expect(only(beside, "control-groups").detail).toEqual({ ...groups, by: "agent" });
  expect(only(beside, "interpreters").detail).toEqual(only(alone, "interpreters").detail);
});

test("an identity whose CA is no certificate ends in rows, not in an error", async () => {
  await bench.start();
  const identity = JSON.parse(await readFile(bench.path("identity.json"), "utf8")) as Record<string, unknown>;
  await writeFile(bench.path("identity.json"), JSON.stringify({ ...identity, nodesCa: ["garbage"] }), { mode: 0o600 });
  const found = await examine();
  expect(failures(found)).toEqual(["identity"]);
  expect(only(found, "identity").seen).toContain("identity.json: nodesCa.0: expected a certificate in PEM");
  expect(only(found, "node").seen).toContain("not looked at");
});

describe("files and identity", () => {
  test("a data directory that is not there", async () => {
    const shell = new FakeShell();
    expect(await main(["agent", "doctor", "--json", "--data-dir", "/nonexistent/agent"], shell)).toBe(2);
    const found = JSON.parse(shell.out.text) as Examination;
    expect(failures(found)).toEqual(["data-directory"]);
    expect(found.agent).toBe("unknown");
  });

  test("a folder that was never registered", async () => {
    const dataPath = await mkdtemp(join(tmpdir(), "holdfast-doctor-"));
    ends.push(() => rm(dataPath, { recursive: true, force: true }));
    const found = await examineAgent({ dataPath }, { environment: {}, execArgv: [] });
    expect(failures(found)).toEqual(["identity"]);
    expect(only(found, "identity").mend).toContain("holdfast agent register");
    expect(exitCodeOfExamination(found)).toBe(78);
  });

  test.each([
    ["key.pem", 0o644, "key.pem", "chmod 600"],
    [".", 0o750, "data directory", "chmod 700"],
  ])("%s with mode %o", async (name, mode, subject, mend) => {
    await bench.start();
    await chmod(bench.path(name), mode);
    const found = await examine();
    expect(failures(found)).toEqual([subject]);
    expect(rows(found, "rights").find((row) => row.subject === subject)?.mend).toContain(mend);
    expect(only(found, "node").status).toBe("pass");
    expect(exitCodeOfExamination(found)).toBe(2);
  });

  test("a reach.json that cannot be read fails the configuration, and the seeds are looked at all the same", async () => {
    await bench.start();
    await writeFile(bench.path("reach.json"), "{", { mode: 0o600 });
    const found = await examine();
    expect(failures(found)).toEqual(["configuration"]);
    expect(only(found, "node").status).toBe("pass");
  });

  test.skipIf(!isRoot)("another user than the agent's is told that it may not read, and as whom to ask", async () => {
    await bench.start();
    const nobody = 65_534;
    const doctor = new URL("../../agent/doctor/doctor.ts", import.meta.url).href;
    const code = `import { examineAgent } from ${JSON.stringify(doctor)}; process.setgroups([]); process.setgid(${nobody}); process.setuid(${nobody}); console.log(JSON.stringify(await examineAgent({ dataPath: ${JSON.stringify(bench.folder)} })));`;
    const look = (): Examination => {
      const run = spawnSync(process.execPath, ["--input-type=module-typescript", "--eval", code], { encoding: "utf8" });
      if (run.status !== 0) throw new Error(run.stderr);
      return JSON.parse(run.stdout) as Examination;
    };
    const closed = look();
    expect(failures(closed)).toEqual(["data-directory"]);
    expect(only(closed, "data-directory").seen).toContain("user 65534 may not read it");
    await chmod(bench.folder, 0o755);
    const open = look();
    expect(failures(open)).toContain("identity");
    expect(only(open, "identity")).toMatchObject({
      seen: expect.stringContaining("user 65534 may not read it"),
      mend: "Run doctor as the user of the agent, or as root.",
    });
    expect(rows(open, "rights").find(({ subject }) => subject === "key.pem")?.seen).toContain(
      "user 65534 may not read",
    );
  });
});

describe("the certificate", () => {
  test("one that has expired fails, and so does the node, for this reason", async () => {
    await bench.start();
    await useLeaf({ bornMs: -50 * hourMs });
    const found = await examine();
    expect(failures(found)).toEqual(["certificate", `seed ${bench.node.address}`]);
    expect(only(found, "certificate").seen).toMatch(/^expired 2 d 1 h ago/);
    expect(only(found, "node").detail["finding"]).toBe("agent-expired");
    expect(exitCodeOfExamination(found)).toBe(78);
  });

  test("one with less than a third of its life left is a warning", async () => {
    await bench.start();
    await useLeaf({ bornMs: -5 * hourMs, lifetimeMs: 6 * hourMs });
    const found = await examine();
    expect(failures(found)).toEqual([]);
    expect(only(found, "certificate")).toMatchObject({ status: "warn", detail: { daysLeft: 0 } });
  });

  test("one of another cluster's CA", async () => {
    await bench.start();
    await useLeaf({ of: createTestAuthorities({ cluster: bench.authorities.cluster }) });
    const found = await examine();
    expect(failures(found)).toEqual(["certificate", `seed ${bench.node.address}`]);
    expect(only(found, "certificate").seen).toContain("does not chain to the agents CA");
    expect(exitCodeOfExamination(found)).toBe(78);
  });
});

describe("the nodes", () => {
  test("a closed port", async () => {
    await bench.start(2);
    const agent = await bench.agent();
    await bench.store.until("both sessions", () => bench.nodes.every((node) => node.session !== undefined));
    await agent.stop();
    await bench.nodes[1]?.stop();
    const found = await examine();
    expect(failures(found)).toEqual([`node-1 ${bench.nodes[1]?.address ?? ""}`]);
    expect(rows(found, "node")[1]).toMatchObject({
      seen: "connection refused (ECONNREFUSED): nothing listens there",
      detail: { finding: "refused", stage: "dialled", certificate: null },
    });
    expect(exitCodeOfExamination(found)).toBe(69);
    await bench.node.stop();
    expect(failures(await examine())).toHaveLength(2);
  });

  test("a seed that leads nowhere is a warning while a node is reached", async () => {
    await bench.start(2);
    const agent = await bench.agent();
    await bench.store.until("a session", () => bench.node.session);
    await agent.stop();
    await writeFile(bench.path("reach.json"), JSON.stringify({ seeds: ["127.0.0.1:1"] }), { mode: 0o600 });
    const found = await examine();
    expect(failures(found)).toEqual([]);
    expect(rows(found, "node").map(({ status, subject }) => [status, subject?.split(" ", 1)[0]])).toEqual([
      ["pass", "node-0"],
      ["pass", "node-1"],
      ["warn", "seed"],
    ]);
  });

  test("a stranger's certificate is named with issuer and names", async () => {
    await bench.start();
    await bench.node.stop();
    const leaf = createTestAuthorities().nodeLeaf({ lifetimeMs: hourMs });
    const ca = [bench.authorities.agents.certificatePem];
    const server = createTlsServer({ ...agentListenerTls({ key: leaf.privateKeyPem, cert: leaf.certificatePem, ca }) });
    server.on("tlsClientError", () => undefined);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    ends.push(async () => {
      server.close();
      await once(server, "close");
    });
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    await writeFile(bench.path("reach.json"), JSON.stringify({ seeds: [], only: { nodes: [], seeds: [address] } }), {
      mode: 0o600,
    });
    const found = await examine();
    expect(failures(found)).toEqual([`seed ${address}`]);
    expect(only(found, "node")).toMatchObject({
      detail: { finding: "other-cluster", certificate: { names: expect.stringContaining(leaf.nodeId) } },
    });
    expect(exitCodeOfExamination(found)).toBe(69);
  });

  test.each([
    [5_000, "warn", 0],
    [-90_000, "fail", 1],
  ])("a clock that is %i ms off is a %s", async (clockAheadMs, status, exitCode) => {
    await bench.start(1, { clockAheadMs });
    const found = await examine();
    expect(only(found, "clock")).toMatchObject({ status, subject: "node-0" });
    expect(only(found, "clock").seen).toMatch(
      clockAheadMs > 0 ? /^[45] s behind the node's/ : /^1 min \d+ s ahead of the node's/,
    );
    expect(exitCodeOfExamination(found)).toBe(exitCode);
  });

  test("a proxy in the environment is gone through, and named without its password", async () => {
    await bench.start();
    const found = await examine({ environment: { HTTPS_PROXY: "http://user:secret@127.0.0.1:9" } });
    const detail = { proxy: "http://127.0.0.1:9", source: "HTTPS_PROXY" };
    expect(only(found, "proxy")).toMatchObject({ status: "info", detail });
    expect(failures(found)).toHaveLength(1);
    expect(JSON.stringify(found)).toContain("proxy http://127.0.0.1:9: connect ECONNREFUSED");
    expect(JSON.stringify(found)).not.toContain("secret");
    const exempt = await examine({
      environment: { HTTPS_PROXY: "http://127.0.0.1:9", NO_PROXY: "127.0.0.0/8,localhost" },
    });
    expect(failures(exempt)).toEqual([]);
    expect(only(await examine({ environment: { HTTPS_PROXY: "nonsense" } }), "proxy")).toMatchObject({
      status: "fail",
    });
  });

  test("a real node: its clock agrees, and what it recorded of a refusal is what doctor shows", async () => {
    await using site = await TestSite.start();
    const dataPath = await site.enrol("web-01");
    const agent = await site.startAgent(dataPath);
    await connected(site.node, "web-01");
    const beside = await examineAgent({ dataPath }, { environment: {}, execArgv: [] });
    expect(failures(beside)).toEqual([]);
    expect(only(beside, "node").detail).toMatchObject({ finding: "reached", runningAgent: { state: "open" } });
    expect(only(beside, "clock")).toMatchObject({ status: "pass" });
    await connected(site.node, "web-01");
    await agent.stop();
    await site.node.client.agents.revoke("web-01");
    const found = await examineAgent({ dataPath }, { environment: {}, execArgv: [] });
    expect(failures(found)).toHaveLength(1);
    expect(only(found, "node").detail["finding"]).toBe("agent-refused");
    expect(exitCodeOfExamination(found)).toBe(77);
    const recorded = await eventually("the refusal is recorded", async () => {
      const [node] = (await site.node.client.agents.show("web-01")).nodes;
      return { done: node?.refusal?.reason === "agent revoked", state: node };
    });
    expect(only(found, "node").seen).toContain(`403 ${recorded?.refusal?.reason ?? "nothing"}`);
  });
});

test.skipIf(!isRoot)("a full disk: offers are refused, and the reserve is not there", async () => {
  const disk = await mkdtemp(join(tmpdir(), "holdfast-disk-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m,mode=700", "none", disk]);
  ends.push(async () => {
    execFileSync("umount", [disk]);
    await rm(disk, { recursive: true, force: true });
  });
  await bench.start(1, { parent: disk });
  const found = await examine();
  expect(failures(found)).toEqual(["disk"]);
  expect(only(found, "disk").seen).toMatch(/^1 MiB free, offers are refused below 32 MiB: the agent takes no work/);
  expect(only(found, "reserve").status).toBe("warn");
  expect(exitCodeOfExamination(found)).toBe(1);
});

test("people get a table with the mend beside each failure, and a summary on standard error", async () => {
  await bench.start();
  await chmod(bench.path("key.pem"), 0o644);
  const shell = new FakeShell();
  expect(await main(["agent", "doctor", "--data-dir", bench.folder], shell)).toBe(2);
  expect(shell.out.text).toMatch(/^STATUS +CHECK +SEEN AND MEND\n/);
  expect(shell.out.text).toMatch(/^fail +rights key\.pem +.*has mode 644.*→ chmod 600 /m);
  expect(shell.err.text).toMatch(/agent not running: 1 check failed, \d+ warnings?, \d+ passed\n$/);
});
