// What the HTTP edge reads of bodies, on a real socket: so much at once, and nothing of what goes nowhere.
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { EventEmitter, once } from "node:events";
import { connect, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { startApi, type RunningApi } from "../../fakes/api-backend.ts";
import { eventually } from "../../harness/eventually.ts";

const bytes = 100_000;
const tooLarge = 8 * 1024 * 1024 + 1;

interface To {
  readonly method?: string;
  readonly path?: string;
  readonly apiKey?: string;
  /** The header that says how long it is; default `bytes`. */
  readonly length?: string;
}

function head(api: RunningApi, to: To = {}): string {
  const { method = "POST", path = "/api/v1/submissions", apiKey = api.apiKey, length } = to;
  return [
    `${method} ${path} HTTP/1.1`,
    "Host: node",
    `Authorization: Bearer ${apiKey}`,
    "Content-Type: application/json",
    length ?? `Content-Length: ${bytes}`,
    "",
    "",
  ].join("\r\n");
}

function open(api: RunningApi): Socket {
  const socket = connect(Number(new URL(api.url).port), "127.0.0.1");
  onTestFinished(() => void socket.destroy());
  return socket;
}

/** The head of a request, and all of its body but the last byte. */
function begin(api: RunningApi, to: To = {}): Socket {
  const socket = open(api);
  socket.write(head(api, to));
  socket.write(" ".repeat(bytes - 1));
  return socket;
}

const answerOf = async (socket: Socket): Promise<string> => {
  const [data] = await once(socket, "data");
  return String(data);
};

const chunked = "Transfer-Encoding: chunked";
const piece = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`;
const noop = JSON.stringify({ on: "web-01", spec: { kind: "no-op" } });

const held = (api: RunningApi, heldBytes: number): Promise<number> =>
  eventually(`${heldBytes} bytes are held`, () => {
    const state = api.server.bodies.heldBytes;
    return { done: state === heldBytes, state };
  });

/** The sockets of requests, in the order they came, as the server has them. */
function arrivals(): EventEmitter {
  const seen = new EventEmitter();
  const tell = (message: unknown): void => void seen.emit("request", message);
  subscribe("http.server.request.start", tell);
  onTestFinished(() => void unsubscribe("http.server.request.start", tell));
  return seen;
}

test("bodies that would take more than the budget are answered 429, until one that is read has been answered", async () => {
  await using api = await startApi({ bodies: { totalBytes: 2.5 * bytes } });
  const keyed = (): To => ({ apiKey: api.backend.createKey() });
  const [one] = [begin(api, keyed()), begin(api, keyed())];
  await held(api, 2 * (bytes - 1));
  expect(await answerOf(begin(api, keyed()))).toMatch(/^HTTP\/1.1 429 [^]*retry-after: 1[^]*"rate\.limited"/);
  if (one === undefined) throw new Error("none began");
  one.write("x");
  expect(await answerOf(one)).toMatch(/^HTTP\/1.1 400 /);
  await held(api, bytes - 1);
  const next = begin(api, keyed());
  await held(api, 2 * (bytes - 1));
  next.write("x");
  expect(await answerOf(next)).toMatch(/^HTTP\/1.1 400 /);
});

test("one caller has half of the budget, and another the rest", async () => {
  await using api = await startApi({ bodies: { totalBytes: 2.5 * bytes } });
  const own = begin(api);
  await held(api, bytes - 1);
  expect(await answerOf(begin(api))).toMatch(/^HTTP\/1.1 429 [^]*this caller's/);
  const other = begin(api, { apiKey: api.backend.createKey() });
  await held(api, 2 * (bytes - 1));
  for (const socket of [own, other]) {
    socket.write("x");
    expect(await answerOf(socket)).toMatch(/^HTTP\/1.1 400 /);
  }
  await held(api, 0);
});

test("what a body in pieces has over the budget is not kept, and its connection goes on", async () => {
  await using api = await startApi({ bodies: { totalBytes: 2 * bytes } });
  const socket = open(api);
  socket.write(head(api, { length: chunked }));
  socket.write(piece(" ".repeat(bytes)));
  await held(api, bytes);
  socket.write(piece("x"));
  expect(await answerOf(socket)).toMatch(/^HTTP\/1.1 429 [^]*"rate\.limited"/);
  await held(api, 0);
  for (let more = 0; more < 20; more++) socket.write(piece(" ".repeat(bytes)));
  socket.write("0\r\n\r\n");
  socket.write(`${head(api, { length: `Content-Length: ${noop.length}` })}${noop}`);
  expect(await answerOf(socket)).toMatch(/^HTTP\/1.1 201 /);
  await held(api, 0);
});

test("a body that breaks off is forgotten", async () => {
  await using api = await startApi();
  const socket = begin(api);
  await held(api, bytes - 1);
  socket.resetAndDestroy();
  await held(api, 0);
});

test.each([
  ["whole", `Content-Length: ${bytes}`, noop.padEnd(bytes), bytes],
  ["refused as too large", chunked, piece(" ".repeat(tooLarge)), tooLarge],
])("so is one, %s, whose answer waits for an earlier one of its connection", async (_what, length, body, heldBytes) => {
  await using api = await startApi();
  const { onSubmit } = api.backend;
  api.backend.onSubmit = () => new Promise(() => undefined);
  const socket = open(api);
  socket.write(`${head(api, { length: `Content-Length: ${noop.length}` })}${noop}${head(api, { length })}${body}`);
  await held(api, heldBytes);
  socket.resetAndDestroy();
  await held(api, 0);
  api.backend.onSubmit = onSubmit;
  const next = open(api);
  next.write(`${head(api)}${noop.padEnd(bytes)}`);
  expect(await answerOf(next)).toMatch(/^HTTP\/1.1 201 /);
  // It stays open.
  await held(api, 0);
});

test("one whose sender leaves before its key is known takes nothing", async () => {
  await using api = await startApi({ bodies: { totalBytes: 4 * bytes } });
  const asked = Promise.withResolvers<void>();
  const known = Promise.withResolvers<void>();
  const { backend } = api;
  const find = backend.findApiKey.bind(backend);
  backend.findApiKey = async (id) => {
    asked.resolve();
    await known.promise;
    return find(id);
  };
  const arrived = once(arrivals(), "request");
  const socket = open(api);
  socket.write(`${head(api)}${noop.padEnd(bytes)}`);
  const [message] = (await arrived) as [{ readonly socket: Socket }];
  await asked.promise;
  const gone = new Promise((resolve) => void message.socket.once("close", resolve));
  socket.resetAndDestroy();
  await gone;
  known.resolve();
  const after = await fetch(`${api.url}/api/v1/agents`, { headers: { authorization: `Bearer ${api.apiKey}` } });
  expect(after.status).toBe(200);
  expect(api.server.bodies.heldBytes).toBe(0);
});

test("a body larger than its route takes is 413, and forgotten", async () => {
  await using api = await startApi();
  expect(await answerOf(begin(api, { length: `Content-Length: ${tooLarge}` }))).toMatch(/^HTTP\/1.1 413 /);
  expect(api.server.bodies.heldBytes).toBe(0);
  const socket = open(api);
  socket.write(`${head(api, { length: chunked })}${piece(" ".repeat(tooLarge - 1))}`);
  await held(api, tooLarge - 1);
  socket.write(piece("x"));
  expect(await answerOf(socket)).toMatch(/^HTTP\/1.1 413 /);
  await held(api, 0);
});

test("what a GET declares is not read and takes nothing", async () => {
  await using api = await startApi({ bodies: { totalBytes: 1 } });
  for (const path of ["/readyz", "/api/v1/agents"])
    expect(await answerOf(begin(api, { method: "GET", path }))).toMatch(/^HTTP\/1.1 200 /);
  expect(api.server.bodies.heldBytes).toBe(0);
});

test("small ones in pieces are free of it in any number", async () => {
  await using api = await startApi({ bodies: { totalBytes: 1 } });
  const all = Promise.withResolvers<void>();
  const { onSubmit, submits } = api.backend;
  api.backend.onSubmit = async (submit) => {
    if (submits.length === 20) all.resolve();
    await all.promise;
    return onSubmit(submit);
  };
  const sockets = Array.from({ length: 20 }, () => open(api));
  for (const socket of sockets) socket.write(`${head(api, { length: chunked })}${piece(noop.padEnd(1_000))}0\r\n\r\n`);
  for (const answer of await Promise.all(sockets.map(answerOf))) expect(answer).toMatch(/^HTTP\/1.1 201 /);
  expect(api.server.bodies.heldBytes).toBe(0);
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
