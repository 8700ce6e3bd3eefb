// What operators of the HTTP API rely on: readiness, metrics, the trail of who did what from where, the OpenAPI document.
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { z } from "zod";
import { startApi } from "../fakes/api-backend.ts";
import { connected, enrol, startAgentOn } from "../harness/enrolled-agent.ts";
import { eventually } from "../harness/eventually.ts";
import { FaultProxy } from "../harness/fault-proxy.ts";
import { apiCaller, type ApiCaller } from "../harness/http.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";
import { createDatabase, type TestDatabase } from "../harness/postgres.ts";
import { queryRows } from "../harness/query.ts";

let node: TestNode;
let database: TestDatabase;
let gate: FaultProxy;
let call: ApiCaller;

beforeAll(async () => {
  const url = new URL(inject("databaseUrl"));
  database = await createDatabase(url.href);
  gate = await FaultProxy.start({ target: { host: url.hostname, port: Number(url.port) } });
  const gated = new URL(database.url);
  gated.port = String(gate.port);
  node = await startTestNode({ databaseUrl: gated.href, trustedProxies: ["127.0.0.1", "10.0.0.0/8"] });
  call = apiCaller(node.url, node.apiKey);
});
afterAll(async () => {
  await node.stop();
  await gate[Symbol.asyncDispose]();
  await database.drop();
});

const noop = { kind: "no-op" } as const;
const rows = (text: string, values: readonly unknown[] = []) => queryRows(database.url, text, values);

describe("behind load balancers", () => {
  const forwarded = (chain: string) => ({ "x-forwarded-for": chain });

  it("keeps the rightmost address that no trusted proxy wrote with the submission", async () => {
    await enrol(node, { name: "idle-01" });
    const submit = async (chain: string): Promise<string | undefined> => {
      const { body } = await call("POST", "/api/v1/submissions", { on: "idle-01", spec: noop }, forwarded(chain));
      return (await call("GET", `/api/v1/submissions/${body.id}`)).body.address;
    };
    expect(await submit("203.0.113.9, 10.1.2.3")).toBe("203.0.113.9");
    expect(await submit("1.1.1.1, 203.0.113.9, 10.1.2.3")).toBe("203.0.113.9");
    expect(await submit("10.9.9.9, 10.1.2.3")).toBe("10.9.9.9");
    const stored = await rows("select client_address from submission order by id");
    expect(stored.map((row) => row["client_address"])).toEqual(["203.0.113.9", "203.0.113.9", "10.9.9.9"]);
  });

  it("believes no header of a client that is no trusted proxy", async () => {
    const plain = await startTestNode();
    try {
      await enrol(plain, { name: "idle-01" });
      const ask = apiCaller(plain.url, plain.apiKey);
      const { body } = await ask(
        "POST",
        "/api/v1/submissions",
        { on: "idle-01", spec: noop },
        forwarded("203.0.113.9"),
      );
      expect((await ask("GET", `/api/v1/submissions/${body.id}`)).body.address).toBe("127.0.0.1");
    } finally {
      await plain.stop();
    }
  });

  it("refuses a trusted range that holds every address", async () => {
    await expect(startTestNode({ trustedProxies: ["0.0.0.0/0"] })).rejects.toMatchObject({ code: "config.invalid" });
  });
});

describe("the audit trail", () => {
  it("holds one row per act of a principal, with who and from where", async () => {
    const before = Number((await rows("select coalesce(max(id), 0)::int as n from audit"))[0]?.["n"]);
    const from = { "x-forwarded-for": "203.0.113.77" };
    const token = await call("POST", "/api/v1/tokens", { labels: { role: "web" } }, from);
    await call("POST", `/api/v1/tokens/${token.body.id}/revoke`, undefined, from);
    await enrol(node, { name: "audited" });
    const submitted = await call("POST", "/api/v1/submissions", { on: "audited", spec: noop }, from);
    const task = submitted.body.tasks[0]?.id ?? "";
    await call("POST", `/api/v1/tasks/${task}/cancel`, undefined, from);
    await call("POST", `/api/v1/tasks/${task}/cancel`, undefined, from);
    await call("POST", "/api/v1/agents/audited/revoke", undefined, from);
    await call("POST", "/api/v1/agents/audited/revoke", undefined, from);
    const agent = await node.client.agents.show("audited");

    const keys = await rows("select id::text from api_key");
    const trail = await rows(
      "select actor, address, action, target from audit where id > $1 and address = '203.0.113.77' order by id",
      [before],
    );
    const actor = keys[0]?.["id"];
    const entry = (action: string, target: string | undefined) => ({ actor, address: "203.0.113.77", action, target });
    expect(trail).toEqual([
      entry("token-create", token.body.id),
      entry("token-revoke", token.body.id),
      entry("submit", submitted.body.id),
      entry("cancel", task),
      entry("agent-revoke", agent.id),
    ]);
    const enrolments = await rows("select action, target from audit where id > $1 and action like '%enrol%'", [before]);
    expect(enrolments).toEqual([{ action: expect.any(String), target: agent.id }]);
  });

  it("holds nothing of an act that was refused", async () => {
    const before = await rows("select count(*)::int as n from audit");
    await call("POST", "/api/v1/submissions", { on: "nobody", spec: noop });
    await call("POST", "/api/v1/agents/nobody/revoke");
    await call("POST", "/api/v1/tokens", { expiresMs: 1 });
    expect(await rows("select count(*)::int as n from audit")).toEqual(before);
  });
});

describe("metrics", () => {
  it("show requests, sessions and log memory, to a key that may read them", async () => {
    await call("GET", "/api/v1/tasks");
    const agent = await startAgentOn(await enrol(node, { name: "measured" }));
    try {
      await connected(node, "measured");
      const { status, headers, text } = await call("GET", "/metrics");
      expect(status).toBe(200);
      expect(headers.get("content-type")).toMatch(/^text\/plain/);
      expect(text).toMatch(/^holdfast_gateway_sessions 1$/m);
      expect(text).toMatch(/^holdfast_gateway_log_bytes 0$/m);
      expect(text).toMatch(/^holdfast_api_streams 0$/m);
      expect(text).toMatch(
        /^holdfast_api_request_seconds_count\{method="GET",route="\/api\/v1\/tasks",status="200"\} [1-9]/m,
      );
    } finally {
      await agent.stop();
    }
    expect((await apiCaller(node.url, "hfk_none")("GET", "/metrics")).status).toBe(401);
  });
});

describe("the OpenAPI document", () => {
  const documentSchema = z.object({
    openapi: z.string(),
    info: z.object({ title: z.string().min(1), version: z.string().min(1) }),
    paths: z.record(
      z.string(),
      z.partialRecord(
        z.enum(["get", "post", "put", "patch", "delete", "head"]),
        z.looseObject({
          summary: z.string().min(1),
          parameters: z
            .array(
              z.looseObject({
                name: z.string(),
                in: z.enum(["path", "query", "header"]),
                required: z.boolean().optional(),
                schema: z.object({}).loose(),
              }),
            )
            .default([]),
          responses: z.record(z.string().regex(/^([1-5]\d\d|default)$/), z.looseObject({ description: z.string() })),
        }),
      ),
    ),
  });

  it("is a valid 3.1 document that shows every route with its parameters, answers and errors", async () => {
    const { text } = await call("GET", "/api/openapi.json");
    const document = documentSchema.parse(JSON.parse(text));
    expect(document.openapi).toMatch(/^3\.1\./);
    for (const reference of text.matchAll(/"\$ref":"#\/([^"]+)"/g)) {
      const found = (reference[1] ?? "")
        .split("/")
        .reduce<unknown>(
          (at, step) => (typeof at === "object" && at !== null ? Reflect.get(at, step) : undefined),
          JSON.parse(text),
        );
      expect(found, `${reference[0]}`).toBeDefined();
    }
    await using api = await startApi();
    const shown = Object.entries(document.paths).flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const own = new Set(["/api/openapi.json", "/api/docs", "/api/docs.css"]);
    const routes = api.server.routes
      .filter((route) => !own.has(route.url) && route.method !== "HEAD")
      .map((route) => `${route.method} ${route.url.replaceAll(/:(\w+)/g, "{$1}")}`);
    expect(shown.filter((route) => !route.startsWith("HEAD ")).toSorted()).toEqual(routes.toSorted());
    for (const [path, operations] of Object.entries(document.paths)) {
      for (const [method, operation] of Object.entries(operations)) {
        const wanted = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
        const declared = operation.parameters
          .filter((parameter) => parameter.in === "path" && parameter.required === true)
          .map((parameter) => parameter.name);
        expect(declared, `${method} ${path}`).toEqual(wanted);
        expect(Object.keys(operation.responses), `${method} ${path}`).toContain("default");
        expect(
          Object.keys(operation.responses).some((status) => status.startsWith("2")),
          `${method} ${path}`,
        ).toBe(true);
      }
    }
  });

  it("names only routes that this node answers", async () => {
    const document = documentSchema.parse(JSON.parse((await call("GET", "/api/openapi.json")).text));
    for (const [path, operations] of Object.entries(document.paths)) {
      for (const method of Object.keys(operations)) {
        const url = path.replaceAll(/\{\w+\}/g, "0190b7e5-0000-7000-8000-000000000001");
        const answer = await call(method.toUpperCase(), url);
        expect(answer.text, `${method} ${path}`).not.toContain("route.unknown");
        expect(answer.status, `${method} ${path}`).toBeLessThan(500);
      }
    }
  });
});

describe("a database that is away", () => {
  it("makes the node unready, fails submissions with 503 and Retry-After, and everything goes on when it is back", async () => {
    await enrol(node, { name: "patient" });
    expect(await call("GET", "/readyz")).toMatchObject({
      status: 200,
      body: { ready: true, database: "reachable", draining: false },
    });
    gate.shut();
    try {
      await eventually("the node is not ready", async () => {
        const answer = await call("GET", "/readyz");
        return { done: answer.status === 503, state: answer.text };
      });
      expect((await call("GET", "/readyz")).body).toMatchObject({ ready: false, database: "unreachable" });
      expect((await call("GET", "/healthz")).status).toBe(200);
      const answer = await call("POST", "/api/v1/submissions", { on: "patient", spec: noop });
      expect(answer).toMatchObject({ status: 503, body: { code: "database.unavailable", mend: expect.any(String) } });
      expect(Number(answer.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
    } finally {
      gate.open();
    }
    await eventually("the node is ready again", async () => {
      const answer = await call("GET", "/readyz");
      return { done: answer.status === 200, state: answer.text };
    });
    expect((await call("POST", "/api/v1/submissions", { on: "patient", spec: noop })).status).toBe(201);
  });

  it("that cuts the connection under a submission leaves one set of tasks, whoever repeats it", async () => {
    await enrol(node, { name: "steadfast" });
    const keys = Array.from({ length: 40 }, (_, no) => `cut-${no}`);
    const submit = (key: string) =>
      call("POST", "/api/v1/submissions", { on: "steadfast", spec: noop }, { "idempotency-key": key });
    const first = Promise.all(keys.map(submit));
    gate.shut();
    gate.open();
    const answers = await first;
    for (const answer of answers) expect([201, 503]).toContain(answer.status);
    await eventually("the node is ready again", async () => ({
      done: (await call("GET", "/readyz")).status === 200,
      state: "unready",
    }));
    const again = await Promise.all(keys.map(submit));
    expect(again.map((answer) => answer.status)).toEqual(keys.map(() => 201));
    const promised = answers.map((answer, at) => (answer.status === 201 ? answer.body.id : again[at]?.body.id));
    expect(again.map((answer) => answer.body.id)).toEqual(promised);
    const [stored] = await rows(
      "select count(*)::int as tasks, count(distinct t.submission_id)::int as submissions from task t join agent a on a.id = t.agent_id where a.name = 'steadfast'",
    );
    expect(stored).toEqual({ tasks: keys.length, submissions: keys.length });
  });
});

describe("a node that drains", () => {
  it("is alive, not ready, and lets no agent in that comes now", async () => {
    const draining = await startTestNode();
    try {
      const dataPath = await enrol(draining, { name: "late" });
      await draining.node.drain();
      const ask = apiCaller(draining.url, draining.apiKey);
      expect(await ask("GET", "/readyz")).toMatchObject({
        status: 503,
        body: { ready: false, draining: true, database: "reachable" },
      });
      expect((await ask("GET", "/healthz")).status).toBe(200);
      const agent = await startAgentOn(dataPath);
      try {
        await eventually("the agent was told to come later", () => {
          const [seen] = agent.status().nodes;
          return { done: seen?.lastEnd?.includes("503 the node drains") ?? false, state: seen };
        });
      } finally {
        await agent.stop();
      }
    } finally {
      await draining.stop();
    }
  });
});
