// Following a task over SSE: exact resume, limits, ends.
import { connect } from "node:net";
import { expect, test } from "vitest";
import { readEvents, type ServerEvent } from "../../../sdk/event-stream.ts";
import { startApi, type RunningApi } from "../../fakes/api-backend.ts";

async function open(
  api: RunningApi,
  id: string,
  from?: string,
): Promise<{ status: number; events: AsyncGenerator<ServerEvent>; text: () => Promise<string> }> {
  const headers = { authorization: `Bearer ${api.apiKey}`, ...(from === undefined ? {} : { "last-event-id": from }) };
  const response = await fetch(`${api.url}/api/v1/tasks/${id}/events`, { headers });
  const events = readEvents(response.body ?? new ReadableStream(), () => undefined);
  return { status: response.status, events, text: () => response.text() };
}

async function next(
  events: AsyncGenerator<ServerEvent>,
  kind: string,
): Promise<{ id: string | undefined; data: Record<string, unknown> }> {
  for (;;) {
    const { value, done } = await events.next();
    if (done === true) throw new Error(`the stream ended before "${kind}"`);
    if (value.event === kind) return { id: value.id, data: JSON.parse(value.data) };
  }
}

const text = (event: { data: Record<string, unknown> }): string =>
  Buffer.from(String(event.data["bytes"]), "base64").toString();

test("log, state and end arrive as they happen; each id is the position reached after it", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  task.append("out", "hello ");
  const { events } = await open(api, task.view.id);
  const first = await next(events, "log");
  expect([first.id, first.data["offset"], text(first)]).toEqual(["6.0", 0, "hello "]);
  expect((await next(events, "state")).data).toMatchObject({ state: "running", home: "node-a" });
  task.append("err", "oops");
  expect((await next(events, "log")).id).toBe("6.4");
  task.append("out", { omitted: 100 });
  expect(await next(events, "log")).toMatchObject({ id: "106.4", data: { stream: "out", offset: 6, omitted: 100 } });
  task.append("out", "bye");
  task.finish("failed", { exitCode: 3 });
  expect(text(await next(events, "log"))).toBe("bye");
  expect(await next(events, "end")).toMatchObject({ id: "109.4", data: { task: { state: "failed", exitCode: 3 } } });
  expect((await events.next()).done).toBe(true);
});

test("a reader that comes back gets exactly what it lacks, though pieces are stored otherwise", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  task.append("out", "0123456789");
  task.append("out", { omitted: 10 });
  task.append("err", "abc");
  task.finish("succeeded", { exitCode: 0 });
  const { events } = await open(api, task.view.id, "4.2");
  expect(await next(events, "log")).toMatchObject({ data: { offset: 4 } });
  expect(await next(events, "log")).toMatchObject({ data: { offset: 10, omitted: 10 } });
  expect(text(await next(events, "log"))).toBe("c");
  const inside = await open(api, task.view.id, "13.3");
  expect(await next(inside.events, "log")).toMatchObject({ id: "20.3", data: { offset: 13, omitted: 7 } });
});

test("a position beyond what is stored waits for it", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  task.append("out", "01234");
  const { events } = await open(api, task.view.id, "8.0");
  await next(events, "state");
  task.append("out", "56789");
  expect(text(await next(events, "log"))).toBe("89");
});

test("a position that is none is 400", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  expect((await open(api, task.view.id, "x")).status).toBe(400);
});

test("streams beyond the node's limit are answered 503 and a closed one makes room", async () => {
  await using api = await startApi({ streams: { most: 1 } });
  const task = api.backend.add();
  const first = await open(api, task.view.id);
  await next(first.events, "state");
  const second = await open(api, task.view.id);
  expect([second.status, await second.text()]).toEqual([503, expect.stringContaining("stream.limit")]);
  task.finish("succeeded");
  await next(first.events, "end");
  expect((await first.events.next()).done).toBe(true);
  await expect.poll(async () => (await open(api, task.view.id)).status, { timeout: 2_000, interval: 10 }).toBe(200);
});

test("a reader that left while its task was looked up holds no place", async () => {
  await using api = await startApi({ streams: { most: 1 } });
  const task = api.backend.add();
  const { readTask } = api.backend;
  const [asked, mayAnswer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  api.backend.readTask = async (id) => {
    asked.resolve();
    await mayAnswer.promise;
    return readTask(id);
  };
  const socket = connect(Number(new URL(api.url).port), "127.0.0.1");
  socket.write(
    `GET /api/v1/tasks/${task.view.id}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${api.apiKey}\r\n\r\n`,
  );
  await asked.promise;
  socket.destroy();
  // The server has seen that socket's end when it has served one that came after it.
  await fetch(`${api.url}/healthz`);
  await fetch(`${api.url}/healthz`);
  mayAnswer.resolve();
  api.backend.readTask = readTask;
  await fetch(`${api.url}/healthz`);
  expect((await open(api, task.view.id)).status).toBe(200);
});

test("stop ends streams at once and cleanly", async () => {
  const api = await startApi();
  const task = api.backend.add();
  const { events } = await open(api, task.view.id);
  await next(events, "state");
  const stopped = api.server.stop();
  expect((await events.next()).done).toBe(true);
  await stopped;
});

test("a silent stream shows life by comments", async () => {
  await using api = await startApi({ streams: { heartbeatMs: 5 } });
  const task = api.backend.add();
  const response = await fetch(`${api.url}/api/v1/tasks/${task.view.id}/events`, {
    headers: { authorization: `Bearer ${api.apiKey}` },
  });
  const reader = (response.body ?? new ReadableStream()).pipeThrough(new TextDecoderStream()).getReader();
  let seen = "";
  while (!seen.includes(": alive\n\n")) seen += (await reader.read()).value ?? "";
  await reader.cancel();
});

test("a reader that takes nothing holds little and is cut off after the stall time", async () => {
  await using api = await startApi({ streams: { stallMs: 50 } });
  const task = api.backend.add();
  const chunk = Buffer.alloc(64 * 1024, "x");
  for (let index = 0; index < 512; index += 1) task.append("out", chunk);
  const reads: number[] = [];
  const { readLog } = api.backend;
  api.backend.readLog = async (query) => {
    reads.push(query.from.out);
    return readLog(query);
  };
  const socket = connect(api.server.address.port, "127.0.0.1");
  socket.pause();
  socket.write(
    `GET /api/v1/tasks/${task.view.id}/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${api.apiKey}\r\n\r\n`,
  );
  await expect
    .poll(
      async () =>
        (
          await (await fetch(`${api.url}/metrics`, { headers: { authorization: `Bearer ${api.apiKey}` } })).text()
        ).includes("holdfast_api_streams 1"),
      { timeout: 2_000, interval: 5 },
    )
    .toBe(true);
  await expect
    .poll(
      async () =>
        (
          await (await fetch(`${api.url}/metrics`, { headers: { authorization: `Bearer ${api.apiKey}` } })).text()
        ).includes("holdfast_api_streams 0"),
      { timeout: 5_000, interval: 10 },
    )
    .toBe(true);
  // 32 MiB were there to send; the kernel's socket buffers took the few MiB that were read.
  expect(Math.max(...reads)).toBeLessThan(16 * 1024 * 1024);
  socket.destroy();
});
