// What the HTTP edge reads of bodies, on a real socket: so much at once, and nothing of what goes nowhere.
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { startApi, type RunningApi } from "../../fakes/api-backend.ts";

const bytes = 100_000;

/** The head of a request, and all of its body but the last byte. */
function begin(api: RunningApi, { path = "/api/v1/submissions", apiKey = api.apiKey } = {}): Socket {
  const socket = connect(Number(new URL(api.url).port), "127.0.0.1");
  onTestFinished(() => void socket.destroy());
  const head = [
    `POST ${path} HTTP/1.1`,
    "Host: node",
    `Authorization: Bearer ${apiKey}`,
    "Content-Type: application/json",
    `Content-Length: ${bytes}`,
    "",
    "",
  ];
  socket.write(head.join("\r\n"));
  socket.write(" ".repeat(bytes - 1));
  return socket;
}

const answerOf = async (socket: Socket): Promise<string> => {
  const [data] = await once(socket, "data");
  return String(data);
};

test("bodies that would take more than the budget are answered 429 unread, until one that is read has been answered", async () => {
  await using api = await startApi({ bodies: { totalBytes: 2.5 * bytes } });
  const sockets = [begin(api), begin(api), begin(api)];
  // Whichever of them came last.
  const refused = await Promise.race(sockets.map(async (socket) => ({ socket, answer: await answerOf(socket) })));
  expect(refused.answer).toMatch(/^HTTP\/1.1 429 [^]*retry-after: 1[^]*"rate\.limited"/);
  const [one] = sockets.filter((socket) => socket !== refused.socket);
  if (one === undefined) throw new Error("all were refused");
  one.write("x");
  expect(await answerOf(one)).toMatch(/^HTTP\/1.1 400 /);
  await once(one.end(), "close");
  const next = begin(api);
  next.write("x");
  expect(await answerOf(next)).toMatch(/^HTTP\/1.1 400 /);
});

test("small ones are read whatever the large ones take", async () => {
  await using api = await startApi({ bodies: { totalBytes: 1 } });
  expect(await answerOf(begin(api))).toMatch(/^HTTP\/1.1 429 /);
  const answer = await fetch(`${api.url}/api/v1/submissions`, {
    method: "POST",
    headers: { authorization: `Bearer ${api.apiKey}`, "content-type": "application/json" },
    body: JSON.stringify({ on: "web-01", spec: { kind: "no-op" } }),
  });
  expect(answer.status).toBe(201);
});

test.each([
  ["to no route", { path: "/nothing" }, 404],
  ["without a key", { apiKey: "none" }, 401],
])("what is sent %s is answered before it has come", async (_what, to, status) => {
  await using api = await startApi();
  expect(await answerOf(begin(api, to))).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
});
