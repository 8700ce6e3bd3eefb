// Small pure parts: what the shim writes, which nodes are chosen, which list counts, what a start refuses, configuration.
import { describe, expect, test } from "vitest";
import { readAgentConfig } from "../../../agent/config.ts";
import { chosen } from "../../../agent/connections.ts";
import { newerList } from "../../../agent/node-addresses.ts";
import { Outbox } from "../../../agent/outbox.ts";
import { scriptEnvironment } from "../../../agent/script-environment.ts";
import { parseExitReport, parseShimMark } from "../../../agent/shim-report.ts";
import { uselessToRestart } from "../../../agent/service/systemd-unit.ts";
import { checkStart } from "../../../agent/start-checks.ts";
import { errorRows } from "../../../shared/errors.ts";
import { attemptIdSchema, nodeIdSchema } from "../../../shared/ids.ts";
import type { FromAgent } from "../../../shared/wire/from-agent.ts";
import type { NodeList } from "../../../shared/wire/nodes.ts";

describe("the shim's report", () => {
  test.each([
    ["1 0 5.25 [1] + Done .\n", { exitCode: 0, signal: null }],
    ["1 137 5.25 [1] + Done(137) .\n", { exitCode: 137, signal: null }],
    ["1 137 5.25 [1] + Killed .\n", { exitCode: null, signal: "SIGKILL" }],
    ["1 143 5.25 [1] + Killed .\n", { exitCode: null, signal: "SIGKILL" }],
    ["1 139 5.25 [1] + Segmentation fault (core dumped) .\n", { exitCode: null, signal: "SIGSEGV" }],
    ["1 162 5.25 [1] + Real-time signal 0 .\n", { exitCode: 162, signal: null }],
    ["1 3 5.25  .\n", { exitCode: 3, signal: null }],
    ["1 137 5.25  .\n", { exitCode: null, signal: "SIGKILL" }],
    ["1 0 5.25 [1] + Done .\n..........\n", { exitCode: 0, signal: null }],
  ])("%j is read as it was meant", (text, exit) => {
    expect(parseExitReport(text)).toEqual({ exit, uptimeMs: 5_250 });
  });

  test("cut anywhere is no report", () => {
    const exit = "1 137 5.25 [1] + Done(137) .\n";
    const mark = "1 4711 998877 12.34 .\n";
    for (let cut = 0; cut < exit.length; cut += 1) expect(parseExitReport(exit.slice(0, cut))).toBeUndefined();
    for (let cut = 0; cut < mark.length; cut += 1) expect(parseShimMark(mark.slice(0, cut))).toBeUndefined();
    expect(parseShimMark(mark)).toEqual({ pid: 4711, startTicks: "998877", uptimeMs: 12_340 });
  });
});

describe("the list of nodes", () => {
  const node = (no: number): NodeList["nodes"][number] => ({
    id: nodeIdSchema.parse(`00000000-0000-7000-8000-00000000000${no}`),
    name: `n${no}`,
    addresses: [`h:${no}`],
  });
  const list = (version: number, ...nodes: NodeList["nodes"]): NodeList => ({ version, want: 0, nodes });

  test("of a lower version or without nodes does not count", () => {
    const known = list(5, node(1));
    expect(newerList(known, list(4, node(2)))).toBe(known);
    expect(newerList(known, list(6))).toBe(known);
    expect(newerList(known, list(6, node(2))).nodes).toEqual([node(2)]);
  });

  test("gives an agent that wants fewer sessions the same nodes each time", () => {
    const many = { ...list(1, node(1), node(2), node(3), node(4)), want: 2 };
    const first = chosen(many, "agent-a");
    expect(first).toHaveLength(2);
    expect(chosen({ ...many, nodes: many.nodes.toReversed() }, "agent-a")).toEqual(first);
    expect(chosen({ ...many, want: 0 }, "agent-a")).toHaveLength(4);
  });
});

describe("a start", () => {
  const facts = { environment: {}, execArgv: [], nodeVersion: "v26.10.0", wallMs: Date.UTC(2027, 1) };
  test.each([
    ["certificate checks turned off", { environment: { NODE_TLS_REJECT_UNAUTHORIZED: "0" } }],
    ["an inspector", { environment: { NODE_OPTIONS: "--inspect=0" } }],
    ["weak TLS", { execArgv: ["--tls-min-v1.0"] }],
    ["the system's certificates", { environment: { NODE_OPTIONS: "--use-openssl-ca" } }],
    ["a log of TLS keys", { execArgv: ["--tls-keylog=/x"] }],
    ["an old Node", { nodeVersion: "v22.1.0" }],
  ])("with %s is refused", (_name, change) => {
    expect(() => checkStart({ ...facts, ...change })).toThrowError(expect.objectContaining({ code: "config.invalid" }));
  });

  test("with a clock before the build is refused for now: NTP sets it, and a service is started again", () => {
    expect(() => checkStart({ ...facts, wallMs: 0 })).toThrowError(
      expect.objectContaining({ code: "host.clock", retryable: true }),
    );
    expect(uselessToRestart).not.toContain(errorRows["host.clock"].exitCode);
  });

  test("with a key log warns", () => {
    expect(checkStart({ ...facts, environment: { SSLKEYLOGFILE: "/x" } })).toHaveLength(1);
    expect(checkStart(facts)).toEqual([]);
  });
});

test("flags win over the environment, and a value out of range names its option", () => {
  expect(readAgentConfig({ slots: 3 }, { HOLDFAST_SLOTS: "5", HOLDFAST_DATA_DIR: "/d" }, 0)).toEqual({
    dataPath: "/d",
    slots: 3,
    logLevel: "info",
  });
  expect(readAgentConfig({}, {}, 0).dataPath).toBe("/var/lib/holdfast/agent");
  expect(() => readAgentConfig({ slots: 65 }, {}, 0)).toThrowError(/--slots/);
});

test("scripts inherit nothing that is the agent's own", () => {
  expect(scriptEnvironment({ PATH: "/bin", HOLDFAST_TOKEN: "t", NOTIFY_SOCKET: "s", HOME: "/h" })).toEqual({
    PATH: "/bin",
    HOME: "/h",
  });
});

test("an outbox keeps each attempt's order and fills frames of 64", () => {
  const sent: FromAgent[] = [];
  const due: (() => void)[] = [];
  const outbox = new Outbox({
    link: { send: (message: FromAgent) => sent.push(message), queued: 0 },
    defer: (act) => due.push(act),
  });
  const attempt = attemptIdSchema.parse("00000000-0000-7000-8000-000000000001");
  for (let no = 0; no < 65; no += 1) outbox.put({ type: "accept", item: { attempt, offerNo: no, homeNo: 1 } });
  outbox.put({ type: "started", item: { attempt, homeNo: 1, startedAtMs: 1 } });
  expect(due).toHaveLength(1);
  outbox.send({ type: "log", attempt, stream: "out", offset: 0, homeNo: 1, content: { omitted: 1 } });
  expect(sent.map(({ type }) => type)).toEqual(["accept", "accept", "started", "log"]);
});
