// The HTTP edge on a real socket in front of a fake backend: contracts, errors, headers, permissions.
import { fastify } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { describe, expect, test } from "vitest";
import { installAuthorization } from "../../../server/api/authorize.ts";
import { parseTrustedProxies } from "../../../server/api/client-address.ts";
import { AppError } from "../../../shared/errors.ts";
import { agentView, FakeBackend, FakeTask, ids, startApi, taskView, type RunningApi } from "../../fakes/api-backend.ts";

const spec = { kind: "script", script: "true" };

async function call(
  api: RunningApi,
  path: string,
  init: Omit<RequestInit, "headers"> & { headers?: Record<string, string> } = {},
) {
  const response = await fetch(`${api.url}${path}`, {
    ...init,
    headers: { authorization: `Bearer ${api.apiKey}`, ...init.headers },
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, json: (): unknown => JSON.parse(text) };
}

function submit(api: RunningApi, body: unknown, headers: Record<string, string> = {}) {
  return call(api, "/api/v1/submissions", {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "content-type": "application/json", ...headers },
  });
}

test("a submission is answered 201 and reaches the backend parsed, with key, digest and principal", async () => {
  await using api = await startApi();
  api.backend.add();
  const answer = await submit(api, { on: "role=web", spec }, { "idempotency-key": "k1" });
  expect(answer.status).toBe(201);
  expect(answer.json()).toMatchObject({ repeated: false, tasks: [{ agent: "web-01" }] });
  const [got] = api.backend.submits;
  expect(got?.submit).toMatchObject({
    key: "k1",
    lane: "work",
    work: { selector: { kind: "labels" }, spec: { interpreter: "bash" } },
  });
  expect(got?.principal).toMatchObject({ name: "test", address: "127.0.0.1" });
});

test("the digest is the same for another key order and differs for another script", async () => {
  await using api = await startApi();
  await submit(api, { on: "a", spec: { kind: "script", script: "x", env: { A: "1", B: "2" } } });
  await submit(api, { spec: { env: { B: "2", A: "1" }, script: "x", kind: "script" }, on: "a" });
  await submit(api, { on: "a", spec: { kind: "script", script: "y", env: { A: "1", B: "2" } } });
  const digests = api.backend.submits.map(({ submit: one }) => one.digest);
  expect(digests[0]).toBe(digests[1]);
  expect(digests[2]).not.toBe(digests[0]);
});

describe("the trace of a request", () => {
  const trace = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;
  const envOf = async (env: Record<string, string>, headers: Record<string, string>, form: "run" | "batch" = "run") => {
    await using api = await startApi();
    const one = { on: "a", spec: { kind: "script", script: "x", env } };
    const answer = await submit(api, form === "run" ? one : { tasks: [one] }, headers);
    expect(answer.status).toBe(201);
    const got = api.backend.submits[0]?.submit;
    if (got === undefined) throw new Error("nothing was submitted");
    const found = "items" in got.work ? got.work.items[0]?.spec : got.work.spec;
    return { env: found?.kind === "script" ? found.env : undefined, digest: got.digest };
  };

  test.each(["run", "batch"] as const)("reaches the environment of its scripts (%s)", async (form) => {
    expect((await envOf({ A: "1" }, { traceparent: trace }, form)).env).toEqual({ A: "1", TRACEPARENT: trace });
  });

  test("does not make the request another one", async () => {
    expect((await envOf({}, { traceparent: trace })).digest).toBe((await envOf({}, {})).digest);
  });

  test.each([
    ["of another form is ignored", {}, "not-a-trace", undefined],
    ["leaves the task's own alone", { TRACEPARENT: "own" }, trace, "own"],
    [
      "is left out where it would go beyond a bound",
      Object.fromEntries(Array.from({ length: 256 }, (_, no) => [`N${no}`, ""])),
      trace,
      undefined,
    ],
  ])("%s", async (_how, env, traceparent, expected) => {
    expect((await envOf(env, { traceparent })).env?.["TRACEPARENT"]).toBe(expected);
  });
});

test("a batch of 1,000 independent tasks is one submission; 1,001 are refused", async () => {
  await using api = await startApi();
  const tasks = Array.from({ length: 1_000 }, (_, index) => ({ on: `agent-${index}`, spec: { kind: "no-op" } }));
  expect((await submit(api, { tasks })).status).toBe(201);
  expect(api.backend.submits[0]?.submit.work).toMatchObject({ items: { length: 1_000 } });
  const over = await submit(api, { tasks: [...tasks, ...tasks.slice(0, 1)] });
  expect(over.json()).toMatchObject({ code: "request.invalid", message: expect.stringContaining("body.tasks") });
});

test.each([
  [{ on: "web-01", spec, colour: "red" }, "colour"],
  [{ on: "web-01", spec: { kind: "script" } }, "body.spec.script"],
  [{ on: "web-01", spec: { ...spec, timeoutMs: 1 } }, "body.spec.timeoutMs"],
  [{ on: "a b", spec }, "a b"],
  [{ on: { labels: {} }, spec }, "body.on"],
  [{ on: "web-01", spec: { ...spec, env: { "1": "x" } } }, "body.spec.env"],
])("a wrong request is answered 400 and names the place: %j", async (body, place) => {
  await using api = await startApi();
  const answer = await submit(api, body);
  expect(answer.status).toBe(400);
  expect(answer.json()).toMatchObject({
    code: "request.invalid",
    message: expect.stringContaining(place),
    mend: expect.any(String),
    requestId: expect.any(String),
  });
  expect(api.backend.submits).toEqual([]);
});

test("a wrong value is not repeated in the answer: it may be a secret", async () => {
  await using api = await startApi();
  const answer = await submit(api, { on: "web-01", spec: { ...spec, env: { "BAD-NAME": "hunter2hunter2" } } });
  expect(answer.status).toBe(400);
  expect(answer.text).not.toContain("hunter2");
});

test("a script over 512 KiB has a code of its own, in a batch too", async () => {
  await using api = await startApi();
  const large = { kind: "script", script: "x".repeat(512 * 1024 + 1) };
  expect((await submit(api, { on: "web-01", spec: large })).json()).toMatchObject({ code: "script.too-large" });
  expect((await submit(api, { tasks: [{ on: "web-01", spec: large }] })).json()).toMatchObject({
    code: "script.too-large",
  });
});

test("a body over the limit is 413 and one that is no JSON is 400", async () => {
  await using api = await startApi();
  expect((await submit(api, { on: "x".repeat(9 * 1024 * 1024), spec })).json()).toMatchObject({
    code: "request.too-large",
  });
  const broken = await call(api, "/api/v1/submissions", {
    method: "POST",
    body: "{",
    headers: { "content-type": "application/json" },
  });
  expect(broken.json()).toMatchObject({ code: "request.invalid" });
});

test("an AppError of the backend becomes a problem with its status and Retry-After", async () => {
  await using api = await startApi();
  api.backend.onSubmit = async () => {
    throw new AppError("queue.full", "1000 tasks wait for web-01", { retryAfterSeconds: 7 });
  };
  const answer = await submit(api, { on: "web-01", spec });
  expect(answer.status).toBe(429);
  expect(answer.headers.get("retry-after")).toBe("7");
  expect(answer.json()).toMatchObject({ code: "queue.full", message: "1000 tasks wait for web-01" });
});

test("an agent is removed by DELETE, once, with the permission to change agents", async () => {
  await using api = await startApi();
  const agent = agentView({ name: "web-07" });
  api.backend.agents.set(agent.id, agent);
  const remove = (name: string, headers: Record<string, string> = {}) =>
    call(api, `/api/v1/agents/${name}`, { method: "DELETE", headers });
  const runner = api.backend.createKey(["tasks:run", "agents:read"]);
  expect((await remove("web-07", { authorization: `Bearer ${runner}` })).json()).toMatchObject({
    code: "auth.forbidden",
  });
  const removed = await remove("web-07");
  expect([removed.status, removed.json()]).toMatchObject([200, { id: agent.id, status: "removed" }]);
  const again = await remove(agent.id);
  expect([again.status, again.json()]).toMatchObject([
    404,
    { code: "agent.unknown", message: "agent web-07 was removed already" },
  ]);
  expect((await remove("nobody")).json()).toMatchObject({
    code: "agent.unknown",
    message: 'there is no agent "nobody"',
  });
});

test("a task is abandoned with the permission to run, and answered as it is then", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  const abandon = (id: string, headers: Record<string, string> = {}) =>
    call(api, `/api/v1/tasks/${id}/abandon`, { method: "POST", headers });
  const reader = api.backend.createKey(["tasks:read"]);
  expect((await abandon(task.view.id, { authorization: `Bearer ${reader}` })).json()).toMatchObject({
    code: "auth.forbidden",
  });
  expect((await abandon(task.view.id)).json()).toMatchObject({ state: "abandoned", reason: "may-still-run" });
  expect((await abandon(ids.next())).json()).toMatchObject({ code: "task.unknown" });
  const done = api.backend.add();
  done.finish("succeeded");
  const late = await abandon(done.view.id);
  expect([late.status, late.json()]).toMatchObject([409, { code: "task.finished" }]);
});

test("any other error is internal, with the request id and nothing of what happened", async () => {
  await using api = await startApi();
  api.backend.onSubmit = async () => {
    throw new Error("password of the database");
  };
  const answer = await submit(api, { on: "web-01", spec }, { "x-request-id": "req-1" });
  expect(answer.status).toBe(500);
  expect(answer.json()).toMatchObject({ code: "internal", requestId: "req-1" });
  expect(answer.text).not.toContain("password");
});

test("every answer carries a request id, nosniff and no-store", async () => {
  await using api = await startApi();
  for (const path of ["/healthz", "/api/v1/tasks", "/nowhere", "/api/docs"]) {
    const { headers } = await call(api, path, { headers: { "x-request-id": "bad id\t" } });
    expect(headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(headers.get("cache-control")).toBe("no-store");
  }
});

test("a listing goes on where its cursor says and ends with null", async () => {
  await using api = await startApi();
  for (let index = 0; index < 5; index += 1) api.backend.add();
  const seen: string[] = [];
  let path = "/api/v1/tasks?limit=2";
  const followers: (string | null)[] = [];
  for (let pages = 0; pages < 3; pages += 1) {
    const page = (await call(api, path)).json() as { items: { id: string }[]; next: string | null };
    seen.push(...page.items.map((item) => item.id));
    path = `/api/v1/tasks?limit=2&cursor=${page.next}`;
    followers.push(page.next);
  }
  expect(seen).toEqual([...api.backend.tasks.keys()].toSorted().toReversed());
  expect(followers).toEqual([expect.any(String), expect.any(String), null]);
  expect((await call(api, "/api/v1/tasks?cursor=x")).json()).toMatchObject({ code: "request.invalid" });
});

test.each([
  "/api/v1/tasks/nonsense",
  `/api/v1/tasks/${ids.next()}`,
  `/api/v1/tasks/${ids.next()}/log`,
  `/api/v1/tasks/${ids.next()}/events`,
])("%s is 404", async (path) => {
  await using api = await startApi();
  expect((await call(api, path)).json()).toMatchObject({ code: "task.unknown" });
});

test("a log is downloaded as an attachment of plain text, byte for byte", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  const binary = Uint8Array.from({ length: 700_000 }, (_, index) => (index * 31) % 256);
  for (let start = 0; start < binary.length; start += 65_536)
    task.append("out", binary.subarray(start, start + 65_536));
  task.append("err", "no\n");
  const response = await fetch(`${api.url}/api/v1/tasks/${task.view.id}/log?stream=out`, {
    headers: { authorization: `Bearer ${api.apiKey}` },
  });
  expect(response.headers.get("content-type")).toContain("text/plain");
  expect(response.headers.get("content-disposition")).toContain("attachment");
  expect(Buffer.compare(Buffer.from(await response.arrayBuffer()), binary)).toBe(0);
});

test("a key without the route's permission is answered 403, a wrong secret 401, a revoked key 401", async () => {
  await using api = await startApi();
  const reader = api.backend.createKey(["tasks:read"]);
  const ask = (key: string) => call(api, "/api/v1/nodes", { headers: { authorization: `Bearer ${key}` } });
  expect((await ask(reader)).json()).toMatchObject({ code: "auth.forbidden" });
  expect((await ask(`${reader.slice(0, -1)}${reader.endsWith("A") ? "B" : "A"}`)).json()).toMatchObject({
    code: "auth.invalid",
  });
  for (const [id, row] of api.backend.keys) api.backend.keys.set(id, { ...row, valid: false });
  expect((await ask(api.apiKey)).status).toBe(401);
});

test("readiness answers 503 with the reason while draining; health stays 200", async () => {
  await using api = await startApi();
  api.backend.ready = false;
  const ready = await call(api, "/readyz");
  expect([ready.status, ready.json()]).toMatchObject([503, { draining: true, database: "reachable" }]);
  expect((await call(api, "/healthz")).status).toBe(200);
});

test("the enrolment door is given the client's address behind trusted proxies", async () => {
  await using api = await startApi({ trustedProxies: ["127.0.0.0/8"] });
  const answer = await call(api, "/api/v1/enrolment", {
    method: "POST",
    body: "{}",
    headers: { "content-type": "application/json", "x-forwarded-for": "6.6.6.6, 203.0.113.9" },
  });
  expect(answer.json()).toEqual({ address: "203.0.113.9" });
});

test("metrics count requests by route, not by path", async () => {
  await using api = await startApi();
  const task = api.backend.add(new FakeTask(taskView()));
  await call(api, `/api/v1/tasks/${task.view.id}`);
  const { text } = await call(api, "/metrics");
  expect(text).toContain('holdfast_api_request_seconds_count{method="GET",route="/api/v1/tasks/:id",status="200"} 1');
  expect(text).not.toContain(task.view.id);
});

test("the OpenAPI document is 3.1, names every route and says which need no key; the page shows it without script", async () => {
  await using api = await startApi();
  const document = (await call(api, "/api/openapi.json")).json() as {
    openapi: string;
    paths: Record<string, Record<string, { security?: unknown[] }>>;
  };
  expect(document.openapi).toBe("3.1.0");
  const hidden = new Set(["/api/docs", "/api/docs.css", "/api/openapi.json"]);
  for (const route of api.server.routes.filter(({ method, url }) => method !== "HEAD" && !hidden.has(url))) {
    const operation = document.paths[route.url.replace(/:(\w+)/g, "{$1}")]?.[route.method.toLowerCase()];
    expect(operation, `${route.method} ${route.url}`).toBeDefined();
    expect(operation?.security?.length === 0).toBe(route.permission === "public");
  }
  const page = await call(api, "/api/docs");
  expect(page.headers.get("content-security-policy")).toContain("default-src 'none'");
  expect(page.text).toContain("/api/v1/tasks/{id}/events");
  expect(page.text).not.toContain("<script");
});

test("a route without a permission cannot be added", async () => {
  const app = fastify().withTypeProvider<ZodTypeProvider>();
  installAuthorization(app, { keys: new FakeBackend(), proxies: parseTrustedProxies([]) });
  expect(() => app.get("/open", () => "x")).toThrowError("declares no permission");
  await app.close();
});

test("start on a taken port says so and leaves nothing behind", async () => {
  await using api = await startApi();
  await expect(startApi({ port: api.server.address.port })).rejects.toMatchObject({
    code: "config.invalid",
    message: expect.stringContaining("EADDRINUSE"),
  });
});

test("pages of an allowed origin may call, after a preflight without a key; others get no leave", async () => {
  await using api = await startApi({ allowOrigins: ["https://deploy.example.com"] });
  const preflight = (origin: string) =>
    fetch(`${api.url}/api/v1/submissions`, {
      method: "OPTIONS",
      headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization" },
    });
  const allowed = await preflight("https://deploy.example.com");
  expect(allowed.status).toBe(204);
  expect(allowed.headers.get("access-control-allow-origin")).toBe("https://deploy.example.com");
  expect(allowed.headers.get("access-control-allow-headers")).toContain("authorization");
  const methods = new Set(api.server.routes.map(({ method }) => method).filter((method) => method !== "HEAD"));
  expect(new Set(allowed.headers.get("access-control-allow-methods")?.split(", "))).toEqual(methods);
  const other = await preflight("https://evil.example.com");
  expect({ status: other.status, origin: other.headers.get("access-control-allow-origin") }).toEqual({
    status: 404,
    origin: null,
  });
  const read = await call(api, "/api/v1/tasks", { headers: { origin: "https://deploy.example.com" } });
  expect(read.headers.get("access-control-allow-origin")).toBe("https://deploy.example.com");
});

test("an origin that is none is refused at the start", async () => {
  await expect(startApi({ allowOrigins: ["*"] })).rejects.toMatchObject({ code: "config.invalid" });
});
