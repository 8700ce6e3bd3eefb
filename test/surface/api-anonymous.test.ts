// Every route the server has, called without a key: refused unless it is public, whatever way its path is written.
import { request } from "node:http";
import { expect, test } from "vitest";
import { startApi } from "../fakes/api-backend.ts";

/** Sends the path as it is: fetch would normalise it first. */
function ask(
  url: string,
  call: { readonly method: string; readonly path: string },
): Promise<{ status: number; body: string }> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const sent = request({ hostname, port, method: call.method, path: call.path, agent: false }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (text: string) => (body += text));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    sent.on("error", reject);
    sent.end();
  });
}

const id = "0190b7e5-0000-7000-8000-000000000001";
const publicRoutes = [
  "GET /api/docs",
  "GET /api/docs.css",
  "GET /api/openapi.json",
  "GET /api/v1/enrolment",
  "GET /downloads/:name",
  "GET /healthz",
  "GET /install.sh",
  "GET /readyz",
  "HEAD /healthz",
  "HEAD /readyz",
  "POST /api/v1/enrolment",
];

test("the public routes are exactly these", async () => {
  await using api = await startApi();
  const open = api.server.routes
    .filter((route) => route.permission === "public")
    .map((route) => `${route.method} ${route.url}`);
  expect(open.toSorted()).toEqual(publicRoutes);
});

test("every other route answers 401 without a key, before it reads anything else of the request", async () => {
  await using api = await startApi();
  const guarded = api.server.routes.filter((route) => route.permission !== "public");
  expect(guarded.length).toBeGreaterThan(14);
  for (const { method, url } of guarded) {
    const answer = await ask(api.url, { method, path: url.replace(/:\w+/, id) });
    expect(answer.status, `${method} ${url}`).toBe(401);
    expect(JSON.parse(answer.body), `${method} ${url}`).toMatchObject({ code: "auth.missing" });
  }
});

test("another spelling of a guarded path opens nothing", async () => {
  await using api = await startApi();
  const spellings = [
    "/api/v1/tasks/",
    "//api/v1/tasks",
    "/api//v1/tasks",
    "/api/v1/./tasks",
    "/healthz/../api/v1/tasks",
    "/api/v1/%74asks",
    "/API/v1/tasks",
    "/api/v1/tasks;x",
    "/api/v1/tasks%00",
    "/api/v1/tasks?permission=public",
    "/api/docs/../v1/tasks",
    "http://x/api/v1/tasks",
  ];
  for (const path of spellings) {
    const answer = await ask(api.url, { method: "GET", path });
    expect([400, 401, 404]).toContain(answer.status);
    expect(answer.body).not.toContain("items");
  }
});

test("methods a route does not have open nothing", async () => {
  await using api = await startApi();
  for (const method of ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"]) {
    expect((await ask(api.url, { method, path: "/api/v1/tasks" })).status).toBeGreaterThanOrEqual(400);
  }
});
