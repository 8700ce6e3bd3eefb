// A secret goes from the command line to a script, which shows it in every way it can; then everything that holds anything
// is searched for it: the API's answers, every table, the database's own files and log, every process, every file, every log.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { listProcesses, readProcess } from "../../agent/process-table.ts";
import { EmbeddedPostgres } from "../../server/store/embedded.ts";
import { systemClock } from "../../shared/clock.ts";
import { silentLogger } from "../../shared/logger.ts";
import { SystemRandom } from "../../shared/random.ts";
import { TestCluster, type TestAgent } from "../harness/cluster.ts";
import { eventually } from "../harness/eventually.ts";
import { queryRows } from "../harness/query.ts";

const marker = "mRk-7f3a+9Zq/wX=e1";
const fileMarker = "fMk:c0ffee?4242~tail";
/** In clear text everywhere: what the searches must find. */
const control = "c0ntr0l-4711";

const coreOf = (before: string, text: string): string =>
  Buffer.from(before + text)
    .toString("base64")
    .slice(before.length === 0 ? 0 : 4, -4);
const traces = [marker, fileMarker].flatMap((text) => [
  text,
  coreOf("", text),
  coreOf("<", text),
  coreOf("<<", text),
  encodeURIComponent(text),
  Buffer.from(text).toString("hex"),
]);
const tracesIn = (text: string | Buffer): string[] => traces.filter((trace) => text.includes(trace));

/** Without the segments of output, which hold what the script itself has printed until it is delivered. */
function filesWith(folder: string, texts: readonly string[]): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !/^(out|err)\.\d+$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => {
      try {
        const content = readFileSync(path);
        return texts.some((text) => content.includes(text));
      } catch {
        return false;
      }
    });
}

function processesWith(text: string, where: "cmdline" | "environ"): number[] {
  return listProcesses().flatMap(({ pid }) => {
    try {
      return readFileSync(`/proc/${pid}/${where}`).includes(text) ? [pid] : [];
    } catch {
      return [];
    }
  });
}

/** The script, one of its children, or gone meanwhile: such a child lives for a moment only. */
function isOf(pid: number, script: number): boolean {
  const row = readProcess(pid);
  return pid === script || row === undefined || row.parent === script;
}

describe("a secret", () => {
  let folder: string;
  let postgres: EmbeddedPostgres;
  let cluster: TestCluster;
  let agent: TestAgent;
  const path = (name: string): string => join(folder, name);

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "holdfast-secrets-"));
    // A database that logs every statement with every value, against the advice.
    const parameters = {
      log_statement: "all",
      log_parameter_max_length: "-1",
      log_parameter_max_length_on_error: "-1",
      log_min_error_statement: "debug5",
    };
    postgres = new EmbeddedPostgres(
      { clock: systemClock, random: new SystemRandom(), logger: silentLogger },
      { dataDirectory: path("database"), parameters },
    );
    await postgres.start();
    const environment = { HOLDFAST_LOG_LEVEL: "debug" };
    cluster = await TestCluster.start({ databaseUrl: postgres.url, environment });
    agent = await cluster.startAgent({ name: "web-01", environment });
  });

  afterAll(async () => {
    // A test that failed may have left its script waiting.
    await writeFile(path("go"), "");
    await (cluster as TestCluster | undefined)?.stop();
    await postgres.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const api = async (
    pathName: string,
    init: {
      readonly method?: string;
      readonly body?: string;
      readonly headers?: Readonly<Record<string, string>>;
    } = {},
  ): Promise<{ status: number; text: string }> => {
    const headers = { authorization: `Bearer ${cluster.apiKey}`, "content-type": "application/json", ...init.headers };
    const response = await fetch(`${cluster.server.url}${pathName}`, { ...init, headers });
    return { status: response.status, text: await response.text() };
  };

  it("reaches its script and nothing else", async () => {
    await writeFile(path("value"), `${marker}\n`);
    await writeFile(path("file-value"), fileMarker);
    await writeFile(
      path("script"),
      `echo ${control}
printf %s "$S" | sha256sum > ${path("got")}; sha256sum < "$F" >> ${path("got")}; echo $$ > ${path("pid")}
for v in "$S" "$(cat "$F")"; do
  echo "plain $v"; echo "plain $v" >&2
  for before in "" "<" "<<"; do printf '%s%s' "$before" "$v" | base64; done
  V=$v python3 -c 'import os,urllib.parse as u; print(u.quote(os.environ["V"],safe=""), u.quote_plus(os.environ["V"]))'
done
printf 'mRk-7f'; sleep 0.3; printf '3a+9Zq/w'; sleep 0.3; echo 'X=e1'; : > ${path("shown")}
while [ ! -e ${path("go")} ]; do sleep 0.05; done
echo "at last $S"
`,
    );
    const secrets = ["--secret", `S=file://${path("value")}`, "--secret-file", `F=file://${path("file-value")}`];
    const running = cluster.cli("run", "--on", "web-01", "--script", path("script"), ...secrets);
    // By its file, not through the API: each look there would be a line in the node's log.
    await eventually("the script has shown everything", async () => {
      const state = existsSync(path("shown"));
      return { done: state, state };
    });
    const pid = Number(await readFile(path("pid"), "utf8"));
    const [task] = (await cluster.client.tasks.list({})).items;
    if (task === undefined) throw new Error("no task");

    // While it runs: processes and the agent's files.
    const holders = processesWith(marker, "environ");
    expect(holders).toContain(pid);
    expect(holders.filter((other) => !isOf(other, pid))).toEqual([]);
    expect(traces.flatMap((trace) => processesWith(trace, "cmdline"))).toEqual([]);
    expect(processesWith(fileMarker, "environ")).toEqual([]);
    expect(filesWith(agent.dataDirectory, traces)).toEqual([]);
    expect(filesWith(agent.dataDirectory, [control])).not.toEqual([]);

    await writeFile(path("go"), "");
    const { exitCode, output } = await running;
    expect({ exitCode, traces: tracesIn(output) }).toEqual({ exitCode: 0, traces: [] });
    expect(output).toContain(`plain ${"*".repeat(marker.length)}\n`);
    expect(output).toContain(`at last ${"*".repeat(marker.length)}\n`);
    const digests = [marker, fileMarker].map((text) => createHash("sha256").update(text).digest("hex"));
    expect((await readFile(path("got"), "utf8")).match(/[0-9a-f]{64}/g)).toEqual(digests);

    for (const url of [
      "/api/v1/tasks",
      `/api/v1/tasks/${task.id}`,
      `/api/v1/tasks/${task.id}/log`,
      `/api/v1/submissions/${task.submission}`,
      "/metrics",
    ]) {
      const { status, text } = await api(url);
      expect({ url, status, traces: tracesIn(text) }).toEqual({ url, status: 200, traces: [] });
    }
    expect((await api(`/api/v1/tasks/${task.id}`)).text).toContain(`"secrets":["S","F"]`);
    expect((await api(`/api/v1/tasks/${task.id}/log`)).text).toContain(control);

    // What a retry gets is the same again.
    await rm(path("got"));
    await cluster.client.tasks.retry(task.id);
    await cluster.finished(task.id);
    expect((await readFile(path("got"), "utf8")).match(/[0-9a-f]{64}/g)).toEqual(digests);
  });

  it("is repeated by no refusal", async () => {
    const spec = { kind: "script", script: "true" };
    const submit = (body: unknown, key?: string) =>
      api("/api/v1/submissions", {
        method: "POST",
        body: typeof body === "string" ? body : JSON.stringify(body),
        ...(key === undefined ? {} : { headers: { "idempotency-key": key } }),
      });
    const secret = (value: unknown, more: object = {}) => ({ name: "S", value, ...more });
    const bad: readonly unknown[] = [
      { on: "web-01", spec, secrets: [secret(marker.repeat(3_000))] },
      { on: "web-01", spec, secrets: [secret(`${marker}\0`)] },
      { on: "web-01", spec, secrets: [secret(`${marker}\ud800`)] },
      { on: "web-01", spec, secrets: [secret(marker), secret(marker)] },
      { on: "web-01", spec, secrets: Array.from({ length: 65 }, (_, index) => ({ name: `S${index}`, value: marker })) },
      { on: "web-01", spec, secrets: [secret(marker, { as: "wrong" })] },
      { on: "web-01", spec, secrets: [secret({ value: marker })] },
      { on: "web-01", spec, secrets: { S: marker } },
      { on: "web-01", spec, secrets: [secret(marker, { name: "HOLDFAST_TASK_ID" })] },
      { tasks: [{ on: "web-01", spec, secrets: [secret(marker, { name: "1" })] }] },
      `{"on":"web-01","secrets":[{"name":"S","value":"${marker}"`,
      `${marker}`,
    ];
    for (const body of bad) {
      const { status, text } = await submit(body);
      expect({ status, traces: tracesIn(text) }).toEqual({ status: 400, traces: [] });
    }
    const once = { on: "web-01", spec, secrets: [secret(marker)] };
    expect((await submit(once, "key-1")).status).toBe(201);
    expect((await submit(once, "key-1")).text).toContain(`"repeated":true`);
    const other = await submit({ ...once, secrets: [secret(`${marker}!`)] }, "key-1");
    expect({ status: other.status, traces: tracesIn(other.text) }).toEqual({ status: 409, traces: [] });
  });

  it("is in no table, database file, database log or log of ours", async () => {
    const tables = await queryRows(
      postgres.adminUrl.replace(/\/[^/]*$/, "/holdfast"),
      "select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'public' and c.relkind = 'r'",
    );
    expect(tables.length).toBeGreaterThan(15);
    let all = "";
    for (const { name } of tables) {
      const rows = await queryRows(postgres.url, `select to_jsonb(t)::text as row from ${String(name)} t`);
      all += rows.map(({ row }) => String(row)).join("\n");
    }
    expect(all).toContain(control);
    expect(all).toMatch(/"sealed": ?"\\\\x[0-9a-f]{100}/);
    expect(tracesIn(all)).toEqual([]);
    await queryRows(postgres.adminUrl, "checkpoint");
    const log = await readFile(path("database/postgres/postgres.log"), "utf8");
    expect(log).toContain("insert into task_secret");
    expect(log).toContain(control);
    expect(tracesIn(log)).toEqual([]);
    expect(filesWith(path("database"), [control])).not.toEqual([]);
    expect(filesWith(path("database"), traces)).toEqual([]);
    for (const program of [cluster.server.program, agent.program]) {
      expect(program.output.length).toBeLessThan(64 * 1024);
      expect(tracesIn(program.output)).toEqual([]);
    }
    expect(filesWith(cluster.folder, traces)).toEqual([]);
    expect(filesWith("/dev/shm", traces)).toEqual([]);
  });
});
