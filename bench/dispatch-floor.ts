// The bare hops of a dispatch, each measured alone with the same libraries and a peer in another process.
import { execFileSync, spawn } from "node:child_process";
import {
  closeSync,
  fdatasyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Client } from "pg";
import { WebSocket } from "ws";
import { defaultSpoolBounds, segmentPath } from "../agent/segments.ts";
import { quantiles, samplesOf } from "./measure.ts";
import { round } from "./result.ts";

const times = 200;

export interface Floor {
  readonly sumP50: number;
  readonly parts: Readonly<Record<string, number>>;
}

export async function measureFloor(database: Client): Promise<Floor> {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-floor-"));
  const program = join(import.meta.dirname, "echo-peer.ts");
  const peer = spawn(process.execPath, [program, folder], { stdio: ["ignore", "pipe", "inherit"] });
  const exited = new Promise((resolve) => void peer.once("close", resolve));
  try {
    const [httpPort = 0, tlsPort = 0] = (await firstLine(peer.stdout)).split(" ").map(Number);
    const parts = {
      httpEcho: await p50(() => httpEcho(httpPort)),
      commit: await commit(database),
      tlsEcho: await tlsEcho(tlsPort, folder),
      twoFdatasync: await twoFdatasync(folder),
      spawnThroughShim: await spawnThroughShim(folder),
      serverSentEvent: await serverSentEvent(httpPort),
    };
    return { parts, sumP50: round(Object.values(parts).reduce((sum, part) => sum + part, 0)) };
  } finally {
    peer.kill();
    await exited;
    rmSync(folder, { recursive: true, force: true });
  }
}

async function p50(act: () => Promise<unknown>): Promise<number> {
  return quantiles(await samplesOf(act, { times })).p50;
}

async function httpEcho(port: number): Promise<void> {
  const body = JSON.stringify({ hello: "world" });
  const response = await fetch(`http://127.0.0.1:${port}/echo`, { method: "POST", body });
  await response.text();
}

async function commit(database: Client): Promise<number> {
  await database.query("create table if not exists bench_floor (id bigserial primary key, b text)");
  const found = await p50(() => database.query("insert into bench_floor (b) values ('x')"));
  await database.query("drop table bench_floor");
  return found;
}

async function tlsEcho(port: number, folder: string): Promise<number> {
  const read = (name: string): string => readFileSync(join(folder, name), "utf8");
  const identity = {
    ca: [read("nodes-ca.pem")],
    key: read("agent-key.pem"),
    cert: read("agent.pem"),
    servername: read("servername"),
  };
  const socket = new WebSocket(`wss://127.0.0.1:${port}`, {
    ...identity,
    minVersion: "TLSv1.3",
    perMessageDeflate: false,
  });
  await new Promise((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("error", reject);
  });
  const frame = Buffer.alloc(300);
  const echo = (): Promise<unknown> =>
    new Promise((resolve) => {
      socket.once("message", resolve);
      socket.send(frame);
    });
  const found = await p50(echo);
  socket.terminate();
  return found;
}

async function twoFdatasync(folder: string): Promise<number> {
  const file = openSync(join(folder, "sync"), "a");
  const record = Buffer.alloc(200, "x");
  const found = await p50(() => {
    for (let turn = 0; turn < 2; turn += 1) {
      writeSync(file, record);
      fdatasyncSync(file);
    }
    return Promise.resolve();
  });
  closeSync(file);
  return found;
}

/** The agent's own shim on `echo x`, from spawn to the first byte in the output file. */
async function spawnThroughShim(folder: string): Promise<number> {
  const shim = join(import.meta.dirname, "..", "agent", "shim.sh");
  const sizes = [defaultSpoolBounds.headBytes, defaultSpoolBounds.tailBytes, defaultSpoolBounds.segmentBytes].map(
    String,
  );
  const samples: number[] = [];
  for (let index = 0; index < times; index += 1) {
    const attempt = join(folder, `attempt-${index}`);
    mkdirSync(attempt);
    const script = join(attempt, "script");
    writeFileSync(script, "echo x\n");
    // As the agent has them in store.
    execFileSync("mkfifo", [join(attempt, "pipe.out"), join(attempt, "pipe.err")]);
    const out = segmentPath(join(attempt, "out"), 0);
    const startMs = performance.now();
    const reset = "/usr/bin/env --default-signal=INT,QUIT";
    const child = spawn("/bin/sh", [shim, attempt, attempt, reset, ...sizes, "/bin/sh", script], {
      detached: true,
      stdio: "ignore",
    });
    const ended = new Promise((resolve) => void child.once("close", resolve));
    while ((statSync(out, { throwIfNoEntry: false })?.size ?? 0) === 0)
      // Looking without pause would take one of two cores from the shim.
      await new Promise((resolve) => void setTimeout(resolve, 1));
    samples.push(performance.now() - startMs);
    await ended;
  }
  return quantiles(samples).p50;
}

async function serverSentEvent(port: number): Promise<number> {
  const ending = new AbortController();
  const response = await fetch(`http://127.0.0.1:${port}/events`, { signal: ending.signal });
  const reader = response.body?.getReader();
  const found = await p50(() => Promise.all([reader?.read(), httpEcho(port)]));
  ending.abort();
  // The event rides on an echo that triggers it: half of that round trip is the event's own way.
  return round(found / 2);
}

function firstLine(stream: NodeJS.ReadableStream): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    stream.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      if (text.includes("\n")) resolve(text.split("\n")[0] ?? "");
    });
  });
}
