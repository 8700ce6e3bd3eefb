// Following over a real socket that is cut at arbitrary bytes: nothing lost, nothing repeated, order kept.
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { Holdfast } from "../../../sdk/holdfast.ts";
import type { RunHandle } from "../../../sdk/run-handle.ts";
import { systemClock, type Clock } from "../../../shared/clock.ts";
import { FakeTask, startApi, taskView, type RunningApi } from "../../fakes/api-backend.ts";
import { FaultProxy } from "../../harness/fault-proxy.ts";
import { seeded } from "../../harness/seeded.ts";

/** Back-off costs no time; heartbeats and watches stay real. */
const hastyClock: Clock = { ...systemClock, sleep: (_delayMs, signal) => systemClock.sleep(0, signal) };

function client(api: RunningApi, url = api.url): Holdfast {
  return new Holdfast({ url, apiKey: api.apiKey, clock: hastyClock });
}

/** Ends each connection after as many bytes of answer as `nextCut` says: in a header, an event or a character. */
function cutting(api: RunningApi, nextCut: () => number): Promise<FaultProxy> {
  return FaultProxy.start({
    target: { host: "127.0.0.1", port: api.server.address.port },
    plan: () => ({ toClient: { cut: { after: { bytes: nextCut() }, act: "close" } } }),
  });
}

const urlOf = ({ port }: FaultProxy): string => `http://127.0.0.1:${port}`;

async function collect(handle: RunHandle): Promise<{ out: Buffer; err: Buffer }> {
  const parts = { out: [] as Uint8Array[], err: [] as Uint8Array[] };
  const reached = { out: 0, err: 0 };
  for await (const piece of handle.bytes()) {
    expect(piece.offset).toBe(reached[piece.stream]);
    const bytes = "bytes" in piece ? piece.bytes : Buffer.alloc(piece.omitted, 0);
    reached[piece.stream] += bytes.length;
    parts[piece.stream].push(bytes);
  }
  return { out: Buffer.concat(parts.out), err: Buffer.concat(parts.err) };
}

test.each([1, 2, 3, 4, 5, 6, 7, 8])(
  "every byte of both streams arrives once over connections cut at random places (seed %i)",
  async (seed) => {
    const random = seeded(seed);
    await using api = await startApi();
    const task = api.backend.add();
    await using proxy = await cutting(api, () => (random() < 0.9 ? 1 + Math.floor(random() * 20_000) : 100_000));
    const expected = { out: [] as Uint8Array[], err: [] as Uint8Array[] };
    const handle = await client(api).tasks.follow(task.view.id);
    const through = client(api, urlOf(proxy));
    const reading = collect(await attach(through, handle));
    for (let round = 0; round < 120; round += 1) {
      const stream = random() < 0.7 ? "out" : "err";
      if (random() < 0.05) {
        task.append(stream, { omitted: 777 });
        expected[stream].push(Buffer.alloc(777, 0));
      } else {
        const bytes = Uint8Array.from({ length: 1 + Math.floor(random() * 3_000) }, () => Math.floor(random() * 256));
        task.append(stream, bytes);
        expected[stream].push(bytes);
      }
      if (round % 10 === 0) await new Promise(setImmediate);
    }
    task.finish("succeeded", { exitCode: 0 });
    const got = await reading;
    expect(proxy.cuts).toBeGreaterThan(3);
    expect(got.out.equals(Buffer.concat(expected.out))).toBe(true);
    expect(got.err.equals(Buffer.concat(expected.err))).toBe(true);
  },
);

test("lines come whole and once over cut connections, in UTF-8 of several bytes", async () => {
  const random = seeded(42);
  await using api = await startApi();
  const task = api.backend.add();
  await using proxy = await cutting(api, () => 300 + Math.floor(random() * 3_000));
  const lines = Array.from({ length: 300 }, (_, index) => `line ${index} grüße 你好 🚀`);
  const bytes = Buffer.from(`${lines.join("\n")}\nlast without end`);
  for (let start = 0; start < bytes.length; start += 101) task.append("out", bytes.subarray(start, start + 101));
  task.finish("succeeded", { exitCode: 0 });
  const handle = await attach(client(api, urlOf(proxy)), await client(api).tasks.follow(task.view.id));
  const got: string[] = [];
  for await (const line of handle.log()) got.push(line.text);
  expect(got).toEqual([...lines, "last without end"]);
  expect(proxy.cuts).toBeGreaterThan(3);
});

test("a run goes on over a server that stops and comes back on the same port", async () => {
  const first = await startApi();
  const port = first.server.address.port;
  const view = taskView();
  first.backend.add(new FakeTask(view)).append("out", "before\n");
  const handle = await client(first).tasks.follow(view.id);
  const lines = handle.log();
  expect((await lines.next()).value).toMatchObject({ text: "before", agent: "web-01", stream: "out" });
  const waiting = lines.next();
  await first[Symbol.asyncDispose]();
  await using second = await startApi({ port });
  for (const [id, row] of first.backend.keys) second.backend.keys.set(id, row);
  const again = second.backend.add(new FakeTask(view));
  again.append("out", "before\nafter\n");
  again.finish("failed", { exitCode: 7 });
  expect((await waiting).value).toMatchObject({ text: "after" });
  expect((await lines.next()).done).toBe(true);
  expect(await handle.result()).toMatchObject({ succeeded: false, state: "failed", exitCode: 7 });
});

test("result() alone waits for the end without reading the log", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  task.append("out", "x".repeat(100_000));
  const handle = await client(api).tasks.follow(task.view.id);
  const result = handle.result();
  task.finish("failed", { signal: "SIGKILL" });
  expect(await result).toMatchObject({ state: "failed", signal: "SIGKILL", tasks: [{ id: task.view.id }] });
});

test("a key that is revoked while following ends it by its code", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  await using proxy = await cutting(api, () => 2_000);
  const handle = await attach(client(api, urlOf(proxy)), await client(api).tasks.follow(task.view.id));
  const reading = collect(handle);
  for (const [id, row] of api.backend.keys) api.backend.keys.set(id, { ...row, valid: false });
  task.append("out", "x".repeat(10_000));
  await expect(reading).rejects.toMatchObject({ code: "auth.invalid" });
});

test("150 tasks of one run are followed through at most 64 streams at once", async () => {
  await using api = await startApi();
  const tasks = Array.from({ length: 150 }, (_, index) =>
    api.backend.add(new FakeTask(taskView({ agent: `agent-${index}` }))),
  );
  let open = 0;
  let most = 0;
  // Following aborts its request when it is done with it, whether the server ended first or not.
  const counting = async (url: string, init: RequestInit): Promise<Response> => {
    if (url.endsWith("/events")) {
      open += 1;
      most = Math.max(most, open);
      init.signal?.addEventListener("abort", () => void (open -= 1));
    }
    return fetch(url, init);
  };
  const holdfast = new Holdfast({ url: api.url, apiKey: api.apiKey, fetch: counting });
  const handle = await holdfast.run({ on: "*", script: "true" });
  for (const [index, task] of tasks.entries()) {
    task.append("out", `hello ${index}\n`);
    task.finish("succeeded", { exitCode: 0 });
  }
  const seen = new Set<string>();
  for await (const line of handle.log()) seen.add(`${line.agent}: ${line.text}`);
  expect(seen).toEqual(new Set(tasks.map((task, index) => `${task.view.agent}: hello ${index}`)));
  expect(most).toBe(64);
  expect((await handle.results()).map((task) => task.id)).toEqual(tasks.map((task) => task.view.id));
});

test("leaving the loop early closes the stream", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  task.append("out", "one\ntwo\n");
  const handle = await client(api).tasks.follow(task.view.id);
  for await (const line of handle.log()) {
    expect(line.text).toBe("one");
    break;
  }
  const metrics = () =>
    fetch(`${api.url}/metrics`, { headers: { authorization: `Bearer ${api.apiKey}` } }).then((response) =>
      response.text(),
    );
  await expect.poll(metrics, { timeout: 2_000, interval: 5 }).toContain("holdfast_api_streams 0");
});

/** The same tasks through another client; submitting again under the run's key would do the same. */
async function attach(through: Holdfast, handle: RunHandle): Promise<RunHandle> {
  for (;;) {
    try {
      return await through.tasks.follow(handle.tasks[0]?.id ?? "");
    } catch (cause) {
      if (!(cause instanceof Error) || !/closed|answer/.test(cause.message)) throw cause;
    }
  }
}

test("a Retry-After of an hour is waited for a minute", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  let refusals = 1;
  const busy = createServer((request, response) => {
    const isStream = request.url?.includes("/events") === true;
    const status = isStream ? ((refusals -= 1) >= 0 ? 503 : 404) : 200;
    response.writeHead(status, { "retry-after": "3600", "content-type": "application/json" });
    response.end(JSON.stringify(isStream ? {} : task.view));
  });
  busy.listen(0, "127.0.0.1");
  await once(busy, "listening");
  const { port } = busy.address() as AddressInfo;
  const slept: number[] = [];
  const clock: Clock = { ...systemClock, sleep: async (delayMs) => void slept.push(delayMs) };
  const through = new Holdfast({ url: `http://127.0.0.1:${port}`, apiKey: api.apiKey, clock });
  const handle = await attach(through, await client(api).tasks.follow(task.view.id));
  await expect(collect(handle)).rejects.toThrow(/404/);
  expect(slept).toHaveLength(1);
  expect(slept[0]).toBeGreaterThanOrEqual(60_000);
  expect(slept[0]).toBeLessThan(61_000);
  busy.close();
});
