// The API of a real node on a real database, asked by its own description: whatever is sent is answered, never with 500,
// never with anything of the inside, always with the problem document or what the description says; others are served meanwhile.
import { connect } from "node:net";
import { inspect } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Agent } from "../../../agent/agent.ts";
import { problemSchema } from "../../../shared/api/problem.ts";
import { errorRows } from "../../../shared/errors.ts";
import type { Logger } from "../../../shared/logger.ts";
import { connected, enrol, startAgentOn } from "../../harness/enrolled-agent.ts";
import { silentLogger } from "../../../shared/logger.ts";
import { startTestNode, type TestNode } from "../../harness/node.ts";
import { Dice } from "../dice.ts";
import { fuzzCases, fuzzSeed, onlyCase, replayOf } from "../plan.ts";
import { operationsOf, type Operation } from "./description.ts";
import { fuzzRequest, type FuzzRequest, type Pool } from "./generate.ts";
import { endConnections, send, type FuzzAnswer } from "./send.ts";

/** Milliseconds; what takes as long hangs. */
const answerLimitMs = 30_000;
const atOnce = 6;
/** One rule is broken by many requests; some of them together show which it is. */
const failuresShown = 12;

/** In no list of what is tried: the one whom nothing that is sent concerns. */
const bystander = "bystander-7";
/** As long as a name may be. */
const longName = `long-${"n".repeat(123)}`;

let node: TestNode;
let agent: Agent;
let operations: readonly Operation[];
let pool: Pool;
/** What the node itself called an error: each would be an answer that says nothing, or a fault nobody was told of. */
const faults: string[] = [];
const listening: Logger = {
  ...silentLogger,
  error: (facts, text) => void faults.push(`${text} ${inspect(facts, { depth: 4 })}`),
  child: () => listening,
};

beforeAll(async () => {
  node = await startTestNode({}, listening);
  agent = await startAgentOn(await enrol(node, { name: bystander }));
  await enrol(node, { name: "idle-01" });
  await enrol(node, { name: "idle-02" });
  await connected(node, bystander);
  operations = await operationsOf(node.url);
  const task = (await node.client.run({ on: "idle-02", script: "true" })).tasks[0]?.id ?? "";
  const token = (await node.client.tokens.create({})).id;
  await enrol(node, { name: longName });
  const idle = (await node.client.agents.show("idle-02")).id;
  pool = {
    known: [longName, "idle-01", "idle-02", idle, task, token, "0190b7e5-0000-7000-8000-000000000001", "metrics"],
    apiKey: node.apiKey,
  };
});
afterAll(async () => {
  endConnections();
  await agent.stop();
  await node.stop();
});

/** Words of PostgreSQL, of stack traces and of this repository's folders: none of a caller's business. */
const inside =
  /\bat (?:async )?[\w.<>]+ \(|node_modules|file:\/\/|\/server\/|select .+ from |syntax error at|violates|relation "|SQLSTATE|invalid byte sequence|pg_|ECONN/i;

function judge(operation: Operation, wanted: FuzzRequest, answer: FuzzAnswer): string {
  const { status, type, text } = answer;
  if (status >= 400) {
    if (inside.test(text) && !isEcho(text, wanted))
      throw new Error(`the answer tells of the inside: ${text.slice(0, 500)}`);
    if (wanted.method === "HEAD") return String(status);
    // What is no HTTP at all, or too large a head, is refused before there is a request to speak of.
    if (text === "" && [400, 408, 413, 414, 417, 431].includes(status)) return `${status} bare`;
    if (operation.path === "/readyz" && status === 503) return "503";
    if (operation.path.startsWith("/downloads") && status === 416) return "416";
    const parsed = problemSchema.safeParse(jsonIn(text));
    if (!parsed.success) throw new Error(`${status} without a problem document: ${text.slice(0, 300)}`);
    const problem = parsed.data;
    const row = Object.entries(errorRows).find(([code]) => code === problem.code)?.[1];
    if (row === undefined) throw new Error(`the code ${problem.code} is in no document`);
    if (row.status !== status) throw new Error(`${problem.code} with ${status} instead of ${row.status}`);
    if (status >= 500 && !(status === 503 && row.retryable)) throw new Error(`${status}: ${text.slice(0, 300)}`);
    if (answer.requestId !== undefined && problem.requestId !== answer.requestId) throw new Error("two request ids");
    return String(status);
  }
  if (wanted.method !== operation.method) return String(status);
  const described = operation.answers.get(String(status));
  if (described === undefined) throw new Error(`${status} is not in the description`);
  const check = described.get(type);
  if (check === undefined) throw new Error(`${type} is not in the description: ${[...described.keys()].join(", ")}`);
  if (type !== "application/json") return String(status);
  const parsed = check.safeParse(JSON.parse(text));
  if (!parsed.success) throw new Error(`not as described: ${parsed.error.message} in ${text.slice(0, 300)}`);
  return String(status);
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What the caller wrote itself may stand in an answer. */
function isEcho(text: string, { target, body }: FuzzRequest): boolean {
  const match = inside.exec(text)?.[0] ?? "";
  return (
    decodeURIComponent(target.replaceAll(/%(?![0-9a-f]{2})|%ff/gi, "")).includes(match) ||
    (body?.includes(match) ?? false)
  );
}

async function runCase(no: number): Promise<string> {
  const dice = new Dice(fuzzSeed, no);
  const operation = dice.pick(operations);
  const wanted = fuzzRequest(dice, operation, pool);
  try {
    const answer = await send(node.url, wanted, answerLimitMs);
    return typeof answer === "string" ? answer : judge(operation, wanted, answer);
  } catch (cause) {
    const { method, target, headers, body } = wanted;
    const { authorization: _key, ...shown } = headers;
    const request = `${method} ${target.slice(0, 600)} ${JSON.stringify(shown)} ${body?.toString("utf8").slice(0, 600) ?? ""}`;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`${why}\n${operation.method} ${operation.path}\n${request}\n${replayOf("request", no)}`, { cause });
  }
}

describe("the API under requests made of its own description", () => {
  it.runIf(onlyCase === undefined)(
    `answers ${fuzzCases.requests} of them as described, and serves others meanwhile`,
    async () => {
      const seen = new Map<string, number>();
      const failures: string[] = [];
      let next = 0;
      const worker = async (): Promise<void> => {
        while (next < fuzzCases.requests) {
          const no = next;
          next += 1;
          const what = await runCase(no).catch((cause: unknown) => {
            if (failures.length >= failuresShown) throw cause;
            failures.push(cause instanceof Error ? cause.message : String(cause));
            return "broken";
          });
          seen.set(what, (seen.get(what) ?? 0) + 1);
          if (no % 100 === 0) {
            // Another client: nothing that was sent before may have hurt it.
            const health = await fetch(`${node.url}/healthz`, { signal: AbortSignal.timeout(answerLimitMs) });
            if (health.status !== 200) failures.push(`/healthz answered ${health.status} after case ${no}`);
          }
        }
      };
      await Promise.all(Array.from({ length: atOnce }, worker));
      expect(failures).toEqual([]);
      expect(faults).toEqual([]);
      const count = (status: string): number => seen.get(status) ?? 0;
      const summary = JSON.stringify(Object.fromEntries(seen));
      // A mixture: requests that are taken, and requests that are refused.
      if (count("200") + count("201") < fuzzCases.requests / 10 || count("400") < fuzzCases.requests / 20)
        throw new Error(`no mixture: ${summary}`);
      await fetch(`${node.url}/api/v1/cluster/resume`, {
        method: "POST",
        headers: { authorization: `Bearer ${node.apiKey}` },
      });
      const handle = await node.client.run({ on: bystander, script: "true" });
      expect(await handle.results()).toMatchObject([{ state: "succeeded" }]);
    },
  );

  it.each<readonly [string, string, string, object | undefined, number]>([
    ["a NUL in a path", "POST", "/api/v1/nodes/%00/drain", {}, 400],
    ["a NUL in a query", "GET", "/api/v1/tasks?agent=a%00b", undefined, 400],
    ["an escape that is none", "GET", "/api/v1/nodes/%ff", undefined, 400],
    [
      "half a surrogate pair in a script",
      "POST",
      "/api/v1/submissions",
      { on: "idle-01", spec: { kind: "script", script: "\ud800" } },
      400,
    ],
    ["a name as long as names may be", "GET", `/api/v1/agents/${longName}`, undefined, 200],
  ])("%s is answered as it should be", async (_what, method, target, body, status) => {
    const headers = { authorization: `Bearer ${node.apiKey}`, "content-type": "application/json" };
    const wanted = {
      method,
      target,
      headers,
      body: body === undefined ? undefined : Buffer.from(JSON.stringify(body)),
    };
    const answer = await send(node.url, wanted, answerLimitMs);
    expect(answer).toMatchObject({ status });
    expect(faults).toEqual([]);
  });

  it("bytes that are no HTTP get the problem document too, and a head that is too large its own code", async () => {
    const { hostname, port } = new URL(node.url);
    const ask = (bytes: string): Promise<string> =>
      new Promise((resolve, reject) => {
        let text = "";
        const socket = connect({ host: hostname, port: Number(port) }, () => socket.write(bytes));
        socket.on("data", (part: Buffer) => (text += part.toString()));
        socket.on("error", reject);
        socket.on("close", () => resolve(text));
      });
    expect(await ask("\x16\x03\x01 no HTTP\r\n\r\n")).toMatch(/^HTTP\/1\.1 400 [^]*"code":"request\.invalid"/);
    const head = `GET / HTTP/1.1\r\nHost: x\r\nX: ${"a".repeat(20_000)}\r\n\r\n`;
    expect(await ask(head)).toMatch(/^HTTP\/1\.1 413 [^]*"code":"request\.too-large"/);
  });

  it.runIf(onlyCase !== undefined)("one case again", async () => {
    await runCase(onlyCase ?? 0);
    expect(faults).toEqual([]);
  });
});
