// The output of an attempt on a real disk: the shim's relays cut it into segments and bound it, whether an agent looks or
// not; the spool tells exactly what is there and what was omitted.
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { appendFile, mkdir, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { once } from "node:events";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { listSegments, segmentPath } from "../../agent/segments.ts";
import { Spool } from "../../agent/spool.ts";
import { AgentBench } from "../fakes/node-cluster.ts";
import { storedSha256 } from "../fakes/node-server.ts";

const isRoot = process.getuid?.() === 0;
const bounds = { headBytes: 64 * 1024, tailBytes: 128 * 1024, segmentBytes: 32 * 1024 };
const mostBytes = bounds.headBytes + bounds.tailBytes + 6 * bounds.segmentBytes;
let folder: string;
let path: string;
let spools: Spool[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-spool-"));
  path = join(folder, "out");
  spools = [];
});

afterEach(async () => {
  for (const spool of spools) spool.close();
  await rm(folder, { recursive: true, force: true });
});

function open(): Spool {
  const spool = new Spool({ path, segmentBytes: bounds.segmentBytes });
  spools.push(spool);
  spool.refresh();
  return spool;
}

/** Bytes by their place in the stream. */
const pattern = (from: number, to: number): Buffer =>
  Buffer.from(Uint8Array.from({ length: to - from }, (_, at) => (from + at) % 251));

interface Seen {
  readonly omitted: readonly (readonly [from: number, to: number])[];
  readonly isRight: boolean;
}

async function whole(spool: Spool): Promise<Seen> {
  const omitted: [number, number][] = [];
  let isRight = true;
  for (let at = 0; at < spool.size;) {
    const piece = await spool.piece(at);
    if (piece === undefined) throw new Error(`nothing at ${at} of ${spool.size}`);
    if ("omitted" in piece) omitted.push([at, (at += piece.omitted)]);
    else {
      isRight &&= pattern(at, at + piece.bytes.length).equals(piece.bytes);
      at += piece.bytes.length;
    }
  }
  return { omitted, isRight };
}

async function segment(from: number, to: number): Promise<void> {
  await writeFile(segmentPath(path, from), pattern(from, to));
}

describe("a stream in segments", () => {
  test("is read across them, and what lies between two is omitted, for every reader the same", async () => {
    await segment(0, 40_000);
    await segment(40_000, 90_000);
    await segment(200_000, 250_000);
    await segment(250_000, 250_010);
    for (const spool of [open(), open()]) {
      expect(spool.size).toBe(250_010);
      expect(await whole(spool)).toEqual({ omitted: [[90_000, 200_000]], isRight: true });
    }
  });

  test("has a digest of what is there, in order", async () => {
    await segment(0, 40_000);
    await segment(100_000, 140_000);
    const kept = Buffer.concat([pattern(0, 40_000), pattern(100_000, 140_000)]);
    expect(await open().digest()).toEqual({ length: 140_000, sha256: createHash("sha256").update(kept).digest("hex") });
  });

  test("is followed from one segment to the next, and past those that came and went unseen", async () => {
    await segment(0, 40_000);
    const spool = open();
    await segment(40_000, 40_001);
    expect(spool.refresh()).toBe(40_001);
    await appendFile(segmentPath(path, 40_000), pattern(40_001, 80_000));
    await segment(300_000, 300_500);
    await rm(segmentPath(path, 40_000));
    expect(spool.refresh()).toBe(300_500);
    expect(await whole(spool)).toEqual({ omitted: [[40_000, 300_000]], isRight: true });
  });

  test("that lost its end in a power cut says so once its length is known from the journal", async () => {
    await segment(0, 40_000);
    await segment(40_000, 60_000);
    await truncate(segmentPath(path, 40_000), 5_000);
    const spool = open();
    spool.seal(60_000);
    expect(await whole(spool)).toEqual({ omitted: [[45_000, 60_000]], isRight: true });
  });

  test("whose folder is gone is omitted as a whole", async () => {
    const spool = open();
    spool.seal(1_234);
    expect(await whole(spool)).toEqual({ omitted: [[0, 1_234]], isRight: true });
  });

  test("does not end, and tells no omission, at a byte that is still to come", async () => {
    await segment(0, 10);
    const spool = open();
    expect(await spool.piece(10)).toBeUndefined();
    await appendFile(segmentPath(path, 0), pattern(10, 11));
    spool.refresh();
    expect(await spool.piece(10)).toEqual({ bytes: pattern(10, 11) });
  });
});

describe("the shim alone, without any agent", () => {
  /** Runs `script` to its end under the shipped shim. */
  async function run(script: string, shell = "/bin/sh"): Promise<string> {
    await mkdir(join(folder, "work"));
    const shim = resolve(import.meta.dirname, "../../agent/shim.sh");
    const sizes = [bounds.headBytes, bounds.tailBytes, bounds.segmentBytes].map(String);
    const args = [shim, folder, join(folder, "work"), "", ...sizes, "/bin/sh", "-c", script];
    const child = spawn(shell, args, { stdio: "ignore", detached: true });
    await once(child, "exit");
    return execFileSync("cat", [join(folder, "run", "exit")], { encoding: "utf8" });
  }

  const text = async (stream: "out" | "err"): Promise<string> => {
    path = join(folder, stream);
    const spool = open();
    let read = "";
    for (let at = 0; at < spool.size;) {
      const piece = await spool.piece(at);
      if (piece === undefined || "omitted" in piece) throw new Error(`a hole at ${at}`);
      read += Buffer.from(piece.bytes).toString();
      at += piece.bytes.length;
    }
    return read;
  };

  test.each(["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"])(
    "keeps every line of a script that opens %s anew for each",
    async (target) => {
      const exit = await run(
        `for i in 1 2 3; do echo "line $i" > ${target}; echo "out $i" > /dev/stdout; done; exit 3`,
      );
      expect(exit).toMatch(/^1 3 /);
      expect(await text("err")).toBe("line 1\nline 2\nline 3\n");
      expect(await text("out")).toBe("out 1\nout 2\nout 3\n");
    },
  );

  test("keeps what tee writes to /dev/stderr, and both streams apart", async () => {
    await run("echo one | tee /dev/stderr; echo two | tee -a /dev/stderr");
    expect(await text("err")).toBe("one\ntwo\n");
    expect(await text("out")).toBe("one\ntwo\n");
  });

  test("bounds a flood on the disk while it lasts and keeps its head and tail exactly", async () => {
    const ends = Promise.withResolvers<void>();
    let most = 0;
    const look = (): void => {
      const sizes = listSegments(path).map(
        (start) => statSync(segmentPath(path, start), { throwIfNoEntry: false })?.size ?? 0,
      );
      most = Math.max(
        most,
        sizes.reduce((sum, size) => sum + size, 0),
      );
    };
    const flood = run(`i=0; while [ $i -lt 12 ]; do head -c 125500 /dev/zero | tr '\\0' x; i=$((i + 1)); done`).finally(
      () => ends.resolve(),
    );
    for (let over = false; !over; look()) {
      over = await Promise.race([ends.promise.then(() => true), new Promise<false>((go) => setImmediate(go, false))]);
    }
    expect(await flood).toMatch(/^1 0 /);
    expect(most).toBeGreaterThan(bounds.headBytes + bounds.tailBytes);
    expect(most).toBeLessThanOrEqual(mostBytes);
    const spool = open();
    expect(spool.size).toBe(12 * 125_500);
    const { omitted } = await whole(spool);
    expect(omitted).toHaveLength(1);
    const [from = 0, to = 0] = omitted[0] ?? [];
    expect(from).toBeGreaterThanOrEqual(bounds.headBytes);
    expect(spool.size - to).toBeGreaterThanOrEqual(bounds.tailBytes);
  });

  test.runIf(existsSync("/bin/bash"))("does the same under another shell", async () => {
    const exit = await run("echo x > /dev/stderr; echo y >&2; kill -9 $$", "/bin/bash");
    expect(exit).toMatch(/^1 137 /);
    expect(await text("err")).toBe("x\ny\n");
  });
});

test.runIf(isRoot)("a flood that fills a small disk leaves the agent alive and its log and result true", async () => {
  const mount = await mkdtemp(join(tmpdir(), "holdfast-small-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=12m", "none", mount]);
  const bench = new AgentBench();
  const thrown: unknown[] = [];
  const onThrown = (cause: unknown): void => void thrown.push(cause);
  process.on("uncaughtExceptionMonitor", onThrown);
  try {
    await bench.start(1, { parent: mount });
    await bench.agent({
      reserveBytes: 1024 * 1024,
      freeBytesAtLeast: 1024 * 1024,
      bounds: { headBytes: 256 * 1024, tailBytes: 1024 * 1024, segmentBytes: 256 * 1024 },
    });
    // More than the disk holds by far.
    const attempt = await bench.node.run("yes | head -c 20000000; exit 3");
    const result = await bench.store.until("the result", () => bench.store.row(attempt).result, 60_000);
    expect(result).toMatchObject({ outcome: "failed", exitCode: 3, reason: "exit-code" });
    const { out } = bench.store.row(attempt);
    expect(out.next).toBe(result.out.length);
    expect(storedSha256(out)).toBe(result.out.sha256);
    expect(result.out.length).toBe(20_000_000);
    expect(thrown).toEqual([]);
  } finally {
    process.off("uncaughtExceptionMonitor", onThrown);
    await bench.stop();
    execFileSync("umount", [mount]);
    await rm(mount, { recursive: true, force: true });
  }
});

test.runIf(isRoot)(
  "output that finds no room costs its script nothing, and the result says that it is missing",
  async () => {
    const mount = await mkdtemp(join(tmpdir(), "holdfast-small-"));
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m", "none", mount]);
    const bench = new AgentBench();
    try {
      await bench.start(1, { parent: mount });
      await bench.agent({ reserveBytes: 1024 * 1024, freeBytesAtLeast: 1024 * 1024 });
      const attempt = await bench.node.run(
        `echo begun; until [ -s ../out.0 ]; do sleep 0.01; done; dd if=/dev/zero of=${bench.path("fill")} bs=64k 2>/dev/null; head -c 3000000 /dev/zero | tr '\\0' x; rm ${bench.path("fill")}; echo over; exit 6`,
      );
      const result = await bench.store.until("the result", () => bench.store.row(attempt).result, 60_000);
      expect(result).toMatchObject({ outcome: "failed", exitCode: 6, reason: "output-lost" });
      const { out } = bench.store.row(attempt);
      expect(out.next).toBe(result.out.length);
      expect(Buffer.from(out.bytes).subarray(0, 6).toString()).toBe("begun\n");
      expect(Buffer.from(out.bytes).subarray(-5).toString()).toBe("over\n");
    } finally {
      await bench.stop();
      execFileSync("umount", [mount]);
      await rm(mount, { recursive: true, force: true });
    }
  },
);
