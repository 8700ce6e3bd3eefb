// Secrets on a real agent: the script gets them as they are, nothing else on the machine holds them, and nothing of them
// leaves it, whatever becomes of the agent's process meanwhile.
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { listProcesses, readProcess } from "../../agent/process-table.ts";
import type { AttemptId } from "../../shared/ids.ts";
import { secretSchema, type Secret } from "../../shared/secret.ts";
import { AgentBench } from "../fakes/node-cluster.ts";
import { storedSha256, type AttemptRow } from "../fakes/node-server.ts";
import { eventually } from "../harness/eventually.ts";

const marker = "m4rk3r-Zq7+/x";
const hasMemoryFolder = existsSync("/dev/shm");
let bench: AgentBench;
type Finished = AttemptRow & { result: NonNullable<AttemptRow["result"]> };

beforeEach(async () => {
  bench = new AgentBench();
  await bench.start();
});

afterEach(() => bench.stop());

const variable = (name: string, value: string): Secret => secretSchema.parse({ name, value });
const file = (name: string, value: string): Secret => secretSchema.parse({ name, value, as: "file" });

async function ended(attempt: AttemptId): Promise<Finished> {
  const row = await bench.store.until(
    `the result of ${attempt}`,
    () => bench.store.rows.get(attempt)?.result && bench.store.rows.get(attempt),
    30_000,
  );
  if (row?.result === undefined) throw new Error("no result");
  return { ...row, result: row.result };
}

async function finished(attempt: AttemptId): Promise<Finished> {
  const row = await ended(attempt);
  expect([row.out.next, row.err.next]).toEqual([row.result.out.length, row.result.err.length]);
  expect(storedSha256(row.out)).toBe(row.result.out.sha256);
  expect(storedSha256(row.err)).toBe(row.result.err.sha256);
  return row;
}

const says = (attempt: AttemptId, text: string): Promise<true> =>
  bench.store.until(`output ${text}`, () => bench.store.row(attempt).out.bytes.includes(text) || undefined, 20_000);

/** Files below a folder that hold the text, apart from what the script itself has printed. */
function filesWith(folder: string, text: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !/^(out|err)\.\d+$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => readFileSync(path).includes(text));
}

interface Sighting {
  readonly pid: number;
  readonly where: "cmdline" | "environ";
}

function sightings(text: string): Sighting[] {
  const read = (path: string): string => {
    try {
      return readFileSync(path, "latin1");
    } catch {
      return "";
    }
  };
  return listProcesses().flatMap(({ pid }) =>
    (["cmdline", "environ"] as const)
      .filter((where) => read(`/proc/${pid}/${where}`).includes(text))
      .map((where) => ({ pid, where })),
  );
}

/** The script, one of its children, or gone meanwhile: such a child lives for a moment only. */
function isOf(pid: number, script: number): boolean {
  const row = readProcess(pid);
  return pid === script || row === undefined || row.parent === script;
}

/** Writes what it was given where the test finds it, then waits until it may go on. */
const holding = (more: string): string =>
  `printf %s "$S" > ${bench.path("seen")}; echo $$ > ${bench.path("pid")}; echo ready; while [ ! -e ${bench.path("go")} ]; do sleep 0.05; done; ${more}`;

describe("a script with secrets", () => {
  test.each(["sh", "bash", "python3"])("gets each value exactly as it is, in %s", async (interpreter) => {
    await bench.agent();
    const awkward = [
      variable("PLAIN", marker),
      variable("QUOTES", `'"'\\''$(id)\`id\`\\n`),
      variable("LINES", "one\n\ntwo\r\n three\n\n"),
      variable("LETTERS", "äöü\u{1F511}\u0081\u0088ÿ"),
      variable("EMPTY", ""),
      variable("LARGE", "x".repeat(32_000)),
      // Names that the shim itself uses.
      ...["attempt", "reset", "cwd", "script_path"].map((name) => variable(name, `${marker} ${name}`)),
    ];
    const names = awkward.map(({ name }) => name);
    const script =
      interpreter === "python3"
        ? `import os\nfor n in ${JSON.stringify(names)}: open("${bench.path("got-")}" + n, "wb").write(os.environb[n.encode()])`
        : `/usr/bin/env -0 > ${bench.path("got")}`;
    const attempt = await bench.node.run(script, { interpreter }, { secrets: awkward });
    expect((await finished(attempt)).result).toMatchObject({ outcome: "succeeded" });
    const environment = new Map(
      (await readFile(bench.path("got"), "utf8").catch(() => ""))
        .split("\0")
        .map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]),
    );
    for (const { name, value } of awkward) {
      const got = interpreter === "python3" ? await readFile(bench.path(`got-${name}`), "utf8") : environment.get(name);
      expect({ name, got }).toEqual({ name, got: value });
    }
  });

  test("gets one as a file that only its user can read, gone when the script has ended", async () => {
    await bench.agent();
    const text = `-----BEGIN KEY-----\n${marker}\n`;
    const script = `echo "$KEY" > ${bench.path("where")}; cp "$KEY" ${bench.path("copy")}; stat -c %a "$KEY" "$(dirname "$KEY")"`;
    const attempt = await bench.node.run(script, {}, { secrets: [file("KEY", text)] });
    expect((await finished(attempt)).out.bytes.toString()).toBe("600\n700\n");
    expect(await readFile(bench.path("copy"), "utf8")).toBe(text);
    const path = (await readFile(bench.path("where"), "utf8")).trim();
    expect(path.startsWith("/dev/shm/")).toBe(hasMemoryFolder);
    expect(existsSync(path)).toBe(false);
  });

  test("has them in no argument, no other environment, no file and no core dump", async () => {
    await bench.agent();
    const script = `${holding("ulimit -H -c")}`;
    const attempt = await bench.node.run(script, { interpreter: "sh" }, { secrets: [variable("S", marker)] });
    await says(attempt, "ready");
    expect(await readFile(bench.path("seen"), "utf8")).toBe(marker);
    await rm(bench.path("seen"));
    const pid = Number(await readFile(bench.path("pid"), "utf8"));
    const seen = sightings(marker);
    expect(seen).toContainEqual({ pid, where: "environ" });
    expect(seen.filter(({ pid: other, where }) => where === "cmdline" || !isOf(other, pid))).toEqual([]);
    expect(filesWith(bench.folder, marker)).toEqual([]);
    expect(statSync(bench.path("attempts", attempt, "secrets")).mode & 0o777).toBe(0o600);
    expect(statSync(bench.path("secret-key")).mode & 0o777).toBe(0o600);
    // Descriptors of the shim and its relays: none leads to the secrets any more.
    const shim = Number((await readFile(bench.path("attempts", attempt, "run", "shim"), "utf8")).split(" ")[1]);
    const kin = listProcesses().filter((row) => row.session === shim && !isOf(row.pid, pid));
    expect(kin.length).toBeGreaterThanOrEqual(3);
    for (const row of kin) expect(readdirSync(`/proc/${row.pid}/fd`)).not.toContain("5");
    await writeFile(bench.path("go"), "");
    expect((await finished(attempt)).out.bytes.toString()).toBe("ready\n0\n");
    expect(filesWith(bench.folder, marker)).toEqual([]);
  });

  test("may raise its limit of core dumps when it has none", async () => {
    await bench.agent();
    const attempt = await bench.node.run("ulimit -H -c", { interpreter: "sh" });
    expect((await finished(attempt)).out.bytes.toString()).not.toBe("0\n");
  });
});

describe("output", () => {
  test("is masked in every form, also when it comes in pieces, and keeps its length", async () => {
    await bench.agent();
    const script = `printf 'plain %s\\n' "$S"
printf '%s' "$S" | base64; printf '<<%s' "$S" | base64
python3 -c 'import os,urllib.parse; print(urllib.parse.quote(os.environ["S"],safe=""))'
printf 'm4rk3'; sleep 0.3; printf 'r-Zq'; sleep 0.3; printf '7+/x|'; printf 'm4rk3'; sleep 0.3; echo ' no'; echo "$S" >&2`;
    const attempt = await bench.node.run(script, {}, { secrets: [variable("S", marker)] });
    const { out, err } = await finished(attempt);
    const text = out.bytes.toString();
    const length = marker.length;
    const base64 = Buffer.from(marker).toString("base64");
    expect(text).toMatch(new RegExp(`^plain \\*{${length}}\n`));
    expect(text).not.toContain(base64.slice(0, 8));
    expect(text).toContain(`${"*".repeat(length)}|m4rk3 no\n`);
    for (const part of ["Zq7", base64.slice(4, 12), encodeURIComponent(marker)]) expect(text).not.toContain(part);
    expect(err.bytes.toString()).toBe(`${"*".repeat(length)}\n`);
  });

  test("is held back only from where a secret may begin, and comes when the script has ended", async () => {
    await bench.agent();
    const script = `printf 'before m4rk3'; while [ ! -e ${bench.path("go")} ]; do sleep 0.05; done`;
    const attempt = await bench.node.run(script, {}, { secrets: [variable("S", marker)] });
    await says(attempt, "before ");
    expect(bench.store.row(attempt).out.bytes.toString()).toBe("before ");
    await writeFile(bench.path("go"), "");
    expect((await finished(attempt)).out.bytes.toString()).toBe("before m4rk3");
  });
});

describe("an agent that is killed", () => {
  test("while the script runs goes on masking, from the byte the node has", async () => {
    const first = bench.process();
    const script = holding('echo "after $S"');
    const attempt = await bench.node.run(script, {}, { secrets: [variable("S", marker), file("F", `${marker}\n`)] });
    await says(attempt, "ready");
    await bench.kill(first);
    await rm(bench.path("seen"));
    expect(filesWith(bench.folder, marker)).toEqual([]);
    bench.process();
    await writeFile(bench.path("go"), "");
    const { out } = await finished(attempt);
    expect(out.bytes.toString()).toBe(`ready\nafter ${"*".repeat(marker.length)}\n`);
    expect(existsSync(`/dev/shm/holdfast-${attempt}`)).toBe(false);
  });

  test("while the script waits for a slot starts it with its secrets", async () => {
    const agent = bench.process();
    const busy = `while [ ! -e ${bench.path("go")} ]; do sleep 0.05; done`;
    for (let slot = 0; slot < 10; slot += 1) await bench.node.run(busy, {}, { ignoreCredit: true });
    const script = `printf %s "$S" > ${bench.path("seen")}; echo "$S"`;
    const attempt = await bench.node.run(script, {}, { ignoreCredit: true, secrets: [variable("S", marker)] });
    await bench.store.until("accepted", () => bench.store.row(attempt).accepted === 1 || undefined);
    expect(filesWith(bench.folder, marker)).toEqual([]);
    await bench.kill(agent);
    const next = bench.process();
    await writeFile(bench.path("go"), "");
    expect((await finished(attempt)).out.bytes.toString()).toBe(`${"*".repeat(marker.length)}\n`);
    expect(await readFile(bench.path("seen"), "utf8")).toBe(marker);
    await rm(bench.path("seen"));
    next.kill("SIGTERM");
    await once(next, "exit");
    expect(filesWith(bench.folder, marker)).toEqual([]);
  });

  test("and lost its key starts nothing without secrets and lets nothing out unmasked", async () => {
    const agent = bench.process();
    const busy = `echo ready; while [ ! -e ${bench.path("go")} ]; do sleep 0.05; done; echo "$S"`;
    const secrets = [variable("S", marker)];
    const running = await bench.node.run(busy, {}, { ignoreCredit: true, secrets });
    for (let slot = 1; slot < 10; slot += 1) await bench.node.run(busy, {}, { ignoreCredit: true });
    await says(running, "ready");
    const waiting = await bench.node.run(`touch ${bench.path("started")}`, {}, { ignoreCredit: true, secrets });
    await bench.store.until("accepted", () => bench.store.row(waiting).accepted === 1 || undefined);
    await bench.kill(agent);
    await rm(bench.path("secret-key"));
    bench.process();
    await writeFile(bench.path("go"), "");
    // Its digest is of what this process can send: the masked whole.
    expect((await ended(running)).out.bytes.toString()).toBe(`ready\n${"*".repeat(marker.length + 1)}`);
    const { result } = await finished(waiting);
    expect(result).toMatchObject({ outcome: "failed", exitCode: null });
    expect(result.reason).toMatch(/^start-failed: .*secrets are lost/);
    expect(existsSync(bench.path("started"))).toBe(false);
  });
});

test("an offer that is refused leaves nothing of its secrets", async () => {
  const agent = await bench.agent();
  await bench.store.until("a session", () => bench.node.session);
  agent.drain();
  const attempt = await bench.node.run("true", {}, { ignoreCredit: true, secrets: [variable("S", marker)] });
  await bench.store.until("the refusal", () => bench.store.row(attempt).refusals.length === 1);
  expect(bench.store.row(attempt).refusals[0]).toMatchObject({ class: "later", reason: "stopping" });
  await eventually("its folder is gone", async () => {
    const state = existsSync(bench.path("attempts", attempt));
    return { done: !state, state };
  });
});
