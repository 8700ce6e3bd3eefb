// The output files of an attempt on a real disk: what was omitted is told exactly, and no failure of a punch invents bytes.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { appendFile, mkdir, mkdtemp, readFile, rm, rmdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Spool } from "../../agent/spool.ts";
import type { SpoolDeps } from "../../agent/spool.ts";
import { punchHole, readHole } from "../../agent/spool-hole.ts";
import { AgentBench } from "../fakes/node-cluster.ts";
import { storedSha256 } from "../fakes/node-server.ts";

const isRoot = process.getuid?.() === 0;
const headBytes = 16_384;
const tailBytes = 16_384;
const punchBytes = 4_096;
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

function open(deps?: SpoolDeps): Spool {
  const options = { path, headBytes, tailBytes, punchBytes };
  const spool = deps === undefined ? new Spool(options) : new Spool(options, deps);
  spools.push(spool);
  spool.refresh();
  return spool;
}

/** Bytes that are never zero, so that a hole shows. */
const pattern = (length: number): Buffer => Buffer.from(Uint8Array.from({ length }, (_, at) => 1 + (at % 255)));

/** What a reader makes of the stream: bytes where they are, -1 where they were omitted. */
async function whole(spool: Spool): Promise<{ readonly omitted: number; readonly isRight: boolean }> {
  const truth = pattern(spool.size);
  let omitted = 0;
  let isRight = true;
  for (let at = 0; at < spool.size;) {
    const piece = await spool.piece(at);
    if (piece === undefined) throw new Error(`nothing at ${at} of ${spool.size}`);
    if ("omitted" in piece) {
      omitted += piece.omitted;
      at += piece.omitted;
    } else {
      isRight &&= truth.subarray(at, at + piece.bytes.length).equals(piece.bytes);
      at += piece.bytes.length;
    }
  }
  return { omitted, isRight };
}

describe("a punched stream", () => {
  test("keeps head and tail, and a successor omits exactly the same", async () => {
    await writeFile(path, pattern(100_000));
    const spool = open();
    await spool.punch();
    // 100,000 less the tail, down to a page: 81,920.
    expect(await whole(spool)).toEqual({ omitted: 81_920 - headBytes, isRight: true });
    expect(
      readFileSync(path)
        .subarray(headBytes, 81_920)
        .every((byte) => byte === 0),
    ).toBe(true);
    expect(await whole(open())).toEqual({ omitted: 81_920 - headBytes, isRight: true });
  });

  test("has a digest of what was sent, in order, without what was omitted", async () => {
    await writeFile(path, pattern(100_000));
    const spool = open();
    await spool.punch();
    const kept = [pattern(100_000).subarray(0, headBytes), pattern(100_000).subarray(81_920)];
    expect(await spool.digest()).toEqual({
      length: 100_000,
      sha256: createHash("sha256").update(Buffer.concat(kept)).digest("hex"),
    });
  });

  test("replaces its marker as a whole: an interrupted write leaves the old one", async () => {
    await writeFile(path, pattern(100_000));
    const spool = open();
    await spool.punch();
    const first = statSync(`${path}.hole`).ino;
    // What a process killed in the middle of the next write leaves behind.
    await writeFile(`${path}.hole.new`, "");
    expect(readHole(path)).toBe(81_920);
    await appendFile(path, pattern(200_000).subarray(100_000));
    spool.refresh();
    await spool.punch();
    expect(statSync(`${path}.hole`).ino).not.toBe(first);
    expect(await whole(open())).toMatchObject({ omitted: readHole(path) - headBytes, isRight: true });
  });

  test("is not read where a punch is under way, neither as bytes nor as omitted", async () => {
    await writeFile(path, pattern(100_000));
    const gate = Promise.withResolvers<void>();
    const spool = open({
      punchHole: async (...given) => {
        await gate.promise;
        return punchHole(...given);
      },
    });
    const punching = spool.punch();
    const piece = spool.piece(headBytes);
    gate.resolve();
    await punching;
    expect(await piece).toEqual({ omitted: 81_920 - headBytes });
  });
});

describe("a punch that fails", () => {
  test("for want of room for its marker throws nothing at once, punches nothing and is tried again", async () => {
    await writeFile(path, pattern(100_000));
    // Stands in for a full disk: the marker cannot be written.
    await mkdir(`${path}.hole.new`);
    await mkdir(`${path}.hole`);
    let punches = 0;
    const spool = open({
      punchHole: (...given) => {
        punches += 1;
        return punchHole(...given);
      },
    });
    const failed = spool.punch();
    await expect(failed).rejects.toMatchObject({ code: "internal" });
    expect(punches).toBe(0);
    expect(await whole(spool)).toEqual({ omitted: 0, isRight: true });
    await rmdir(`${path}.hole.new`);
    await rmdir(`${path}.hole`);
    await spool.punch();
    expect(await whole(spool)).toEqual({ omitted: 81_920 - headBytes, isRight: true });
  });

  test("because the file system has no holes omits nothing, here and in a successor, and blocks no result", async () => {
    await writeFile(path, pattern(100_000));
    const spool = open({ punchHole: () => Promise.resolve({ kind: "refused", why: "fallocate ended with 1" }) });
    await expect(spool.punch()).rejects.toMatchObject({ message: "fallocate ended with 1" });
    expect(await whole(spool)).toEqual({ omitted: 0, isRight: true });
    expect(await whole(open())).toEqual({ omitted: 0, isRight: true });
    spool.punch()?.catch(() => undefined);
    expect(await spool.digest()).toEqual({
      length: 100_000,
      sha256: createHash("sha256").update(pattern(100_000)).digest("hex"),
    });
  });

  test("in a way that leaves open what it took counts as done: zeros never pass for output", async () => {
    await writeFile(path, pattern(100_000));
    const spool = open({
      punchHole: () => Promise.resolve({ kind: "unclear", why: "fallocate was ended by SIGKILL" }),
    });
    await expect(spool.punch()).rejects.toMatchObject({ code: "internal" });
    expect(await whole(spool)).toEqual({ omitted: 81_920 - headBytes, isRight: true });
  });

  test("because there is no fallocate is told as refused", async () => {
    const before = process.env["PATH"];
    process.env["PATH"] = folder;
    try {
      expect(await punchHole(path, 0, 4_096)).toMatchObject({ kind: "refused" });
    } finally {
      process.env["PATH"] = before;
    }
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
      spool: { headBytes: 256 * 1024, tailBytes: 1024 * 1024, punchBytes: 256 * 1024 },
    });
    // Until more went through than the disk holds: only punching can make room for that.
    const attempt = await bench.node.run(
      `out=${bench.path("attempts")}/$HOLDFAST_ATTEMPT_ID/out
while [ $(stat -c %s $out) -lt 40000000 ]; do yes 2>/dev/null | head -c 2000000 2>/dev/null; done; exit 3`,
    );
    const result = await bench.store.until("the result", () => bench.store.row(attempt).result, 60_000);
    expect(result).toMatchObject({ outcome: "failed", exitCode: 3 });
    const { out } = bench.store.row(attempt);
    expect(out.next).toBe(result.out.length);
    expect(storedSha256(out)).toBe(result.out.sha256);
    expect(out.omitted).toBeGreaterThan(0);
    expect(result.out.length).toBeGreaterThanOrEqual(40_000_000);
    expect(out.bytes.includes(0)).toBe(false);
    expect(existsSync(bench.path("attempts", attempt, "out.hole"))).toBe(true);
    expect(await readFile(bench.path("attempts", attempt, "out.hole"), "utf8")).toMatch(/^\d+ *\n$/);
    expect(thrown).toEqual([]);
  } finally {
    process.off("uncaughtExceptionMonitor", onThrown);
    await bench.stop();
    execFileSync("umount", [mount]);
    await rm(mount, { recursive: true, force: true });
  }
});
