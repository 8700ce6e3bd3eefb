// The fault proxy over real sockets: what it lets through is a prefix of what was sent, and its faults are what they say.
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { delimitedFrames, type CutAct, type LanePlan } from "../harness/fault-plan.ts";
import { FaultProxy, type FaultProxyOptions } from "../harness/fault-proxy.ts";

let server: Server;
let targetPort: number;
let arrived: Promise<Socket>;
const undo: (() => unknown)[] = [];

beforeEach(async () => {
  const first = Promise.withResolvers<Socket>();
  arrived = first.promise;
  server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => undefined);
    undo.push(() => socket.destroy());
    first.resolve(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  targetPort = typeof address === "object" && address !== null ? address.port : 0;
});

afterEach(async () => {
  for (const act of undo.splice(0).toReversed()) await act();
  server.close();
});

interface Line {
  readonly proxy: FaultProxy;
  readonly client: Socket;
  readonly target: Socket;
}

/** A client connected to the server through a proxy with this plan. */
async function line(toTarget: LanePlan, options: Partial<FaultProxyOptions> = {}): Promise<Line> {
  const proxy = await FaultProxy.start({
    target: { host: "127.0.0.1", port: targetPort },
    plan: () => ({ toTarget }),
    ...options,
  });
  undo.push(() => proxy[Symbol.asyncDispose]());
  const client = connect({ port: proxy.port, host: "127.0.0.1", allowHalfOpen: true });
  client.on("error", () => undefined);
  undo.push(() => client.destroy());
  await once(client, "connect");
  return { proxy, client, target: await arrived };
}

/** All that arrives until the end, the reset or the close of the connection. */
async function received(socket: Socket): Promise<Buffer> {
  const parts: Buffer[] = [];
  socket.on("data", (bytes: Buffer) => void parts.push(bytes));
  await Promise.race([new Promise((resolve) => socket.once("end", resolve)), closed(socket)]);
  return Buffer.concat(parts);
}

/** Unlike `once`, whatever error comes before. */
const closed = (socket: Socket): Promise<unknown> => new Promise((resolve) => socket.once("close", resolve));

const sample = Buffer.from(Array.from({ length: 200_000 }, (_, index) => (index * 31 + (index >> 8)) % 256));

test.each<[string, LanePlan]>([
  ["nothing", {}],
  ["delay and jitter", { delayMs: 5, jitterMs: 20 }],
  ["parts of 997 bytes", { splitBytes: 997 }],
  ["joined pieces", { coalesceMs: 10 }],
  ["a slow line", { bytesPerSecond: 2_000_000 }],
  ["all of it at once", { delayMs: 3, jitterMs: 9, splitBytes: 4_001, coalesceMs: 2, bytesPerSecond: 4_000_000 }],
])("with %s every byte arrives in order, and the end behind the last", async (_name, plan) => {
  const { client, target } = await line(plan);
  const all = received(target);
  for (let at = 0; at < sample.length; at += 1_013) client.write(sample.subarray(at, at + 1_013));
  client.end();
  expect((await all).equals(sample)).toBe(true);
  target.end("answer after the client's end");
  expect(await text(client)).toBe("answer after the client's end");
});

test("a delay holds the bytes back, a throttle takes their time", async () => {
  const { proxy, client, target } = await line({ delayMs: 80 });
  const begunMs = performance.now();
  client.write("late");
  await once(target, "data");
  expect(performance.now() - begunMs).toBeGreaterThanOrEqual(79);
  proxy.change({ toTarget: { bytesPerSecond: 1_000 } });
  const throttledMs = performance.now();
  client.end(Buffer.alloc(120));
  await received(target);
  expect(performance.now() - throttledMs).toBeGreaterThanOrEqual(80);
});

test("parts arrive as writes of that size, joined pieces as one", async () => {
  const { proxy, client, target } = await line({ splitBytes: 1 });
  const sizes: number[] = [];
  target.on("data", (bytes: Buffer) => void sizes.push(bytes.length));
  const all = received(target);
  client.write("0123456789");
  await expect.poll(() => proxy.connections[0]?.toTarget).toBe(10);
  expect(sizes.length).toBeGreaterThan(1);
  sizes.length = 0;
  proxy.change({ toTarget: { coalesceMs: 60 } });
  for (const piece of ["a", "b", "c"]) await new Promise((resolve) => client.write(piece, resolve));
  client.end();
  expect((await all).toString()).toBe("0123456789abc");
  expect(sizes).toEqual([3]);
});

test("a pause lets nothing through until it is over, and loses nothing", async () => {
  const { proxy, client, target } = await line({ flow: "pause" });
  client.write("before");
  target.write("the other way is open");
  expect(String((await once(client, "data"))[0])).toBe("the other way is open");
  expect(proxy.connections[0]).toMatchObject({ toTarget: 0 });
  proxy.change({});
  expect(String((await once(target, "data"))[0])).toBe("before");
});

test("a black hole takes everything and passes nothing on, the end neither", async () => {
  const { proxy, client, target } = await line({ flow: "black-hole" });
  let seen = 0;
  target.on("data", (bytes: Buffer) => (seen += bytes.length));
  target.on("end", () => (seen += 1));
  await new Promise((resolve) => client.write(sample, resolve));
  client.end("x");
  target.write("y");
  expect(String((await once(client, "data"))[0])).toBe("y");
  expect({ seen, passed: proxy.connections[0]?.toTarget }).toEqual({ seen: 0, passed: 0 });
});

describe("a cut", () => {
  test.each<[CutAct, number]>([
    ["reset", 1],
    ["close", 4_096],
    ["close", 100_003],
    ["half-close", 1_000],
    ["half-close", 0],
  ])("by %s after %i bytes lets exactly those through", async (act, bytes) => {
    const { proxy, client, target } = await line({ splitBytes: 1_700, cut: { after: { bytes }, act } });
    const all = received(target);
    client.write(sample);
    const got = await all;
    // A reset may overtake what it follows; nothing behind the cut may ever pass.
    const exact = act === "reset" ? sample.subarray(0, Math.min(got.length, bytes)) : sample.subarray(0, bytes);
    expect(got).toEqual(exact);
    expect(proxy.connections[0]).toMatchObject({ toTarget: bytes, cut: act });
    expect(proxy.cuts).toBe(1);
  });

  test("by half close leaves the other way open", async () => {
    const { client, target } = await line({ cut: { after: { bytes: 3 }, act: "half-close" } });
    client.write("abcdef");
    expect((await received(target)).toString()).toBe("abc");
    target.end("still here");
    expect(await text(client)).toBe("still here");
  });

  test("by reset is a reset for the sender", async () => {
    const { client } = await line({ cut: { after: { bytes: 3 }, act: "reset" } });
    const failure = closed(client);
    client.write("abcdef");
    const errors: unknown[] = [];
    client.on("error", (error) => void errors.push(error));
    await failure;
    expect(errors).toMatchObject([{ code: "ECONNRESET" }]);
  });

  test.each([1, 3])(
    "after %i frames ends behind the last of them, wherever the delimiter was parted",
    async (frames) => {
      const { client, target } = await line({
        splitBytes: 2,
        countFrames: delimitedFrames("\n\n"),
        cut: { after: { frames }, act: "close" },
      });
      const all = received(target);
      client.write("one\n\ntwo\nmore\n\nthree\n\nfour\n\n");
      expect((await all).toString()).toBe(["one\n\n", "two\nmore\n\n", "three\n\n"].slice(0, frames).join(""));
    },
  );

  test("is drawn anew for each connection", async () => {
    const proxy = await FaultProxy.start({
      target: { host: "127.0.0.1", port: targetPort },
      plan: (number) => ({ toTarget: { cut: { after: { bytes: 10 + number }, act: "close" } } }),
    });
    undo.push(() => proxy[Symbol.asyncDispose]());
    for (const number of [0, 1, 2]) {
      const client = connect(proxy.port, "127.0.0.1");
      client.on("error", () => undefined);
      client.write(sample);
      await closed(client);
      expect(proxy.connections[number]).toMatchObject({ toTarget: 10 + number, cut: "close" });
    }
  });
});

test("shut, it resets what is open and what comes; open again, it forwards", async () => {
  const { proxy, client, target } = await line({});
  client.write("x");
  await once(target, "data");
  const ended = [closed(client), closed(target)];
  proxy.shut();
  await Promise.all(ended);
  const refused = connect(proxy.port, "127.0.0.1");
  const [error] = (await once(refused, "error")) as [Error];
  expect(error).toMatchObject({ code: "ECONNRESET" });
  proxy.open();
  const again = connect(proxy.port, "127.0.0.1");
  undo.push(() => again.destroy());
  again.write("y");
  await expect.poll(() => proxy.connections.at(-1)?.toTarget).toBe(1);
});

test("a reset of one side is a reset of the other", async () => {
  const { client, target } = await line({});
  client.write("x");
  await once(target, "data");
  const errors: unknown[] = [];
  target.on("error", (error) => void errors.push(error));
  client.resetAndDestroy();
  await closed(target);
  expect(errors).toMatchObject([{ code: "ECONNRESET" }]);
});
