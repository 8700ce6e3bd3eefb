// A stream with secrets, read from segments on a real disk: across them, beside gaps, while it grows, from any offset.
import { createHash } from "node:crypto";
import { appendFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createRedactor, maskAll, type Redactor } from "../../agent/redact.ts";
import { segmentPath } from "../../agent/segments.ts";
import { Spool } from "../../agent/spool.ts";

const secret = "0123456789abcdef";
const stars = (count: number): string => "*".repeat(count);
let folder: string;
let path: string;
let spools: Spool[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-masked-"));
  path = join(folder, "out");
  spools = [];
});

afterEach(async () => {
  for (const spool of spools) spool.close();
  await rm(folder, { recursive: true, force: true });
});

function open(redactor: Redactor | undefined = createRedactor([secret])): Spool {
  const spool = new Spool({ path, segmentBytes: 1, redactor });
  spools.push(spool);
  spool.refresh();
  return spool;
}

const segment = (from: number, text: string): Promise<void> => writeFile(segmentPath(path, from), text);

/** What a reader gets from `from` on; omitted bytes as `_`. */
async function read(spool: Spool, from = 0, most?: number): Promise<string> {
  let text = "";
  for (let at = from; at < spool.size; at = from + text.length) {
    const piece = await spool.piece(at, most);
    if (piece === undefined) throw new Error(`nothing at ${at} of ${spool.size}`);
    text += "bytes" in piece ? Buffer.from(piece.bytes).toString("latin1") : "_".repeat(piece.omitted);
  }
  return text;
}

test("a secret across segments is masked, in pieces of any size and from any offset", async () => {
  const text = `a ${secret} b ${secret}${secret} c`;
  for (let at = 0; at < text.length; at += 5) await segment(at, text.slice(at, at + 5));
  const spool = open();
  spool.seal();
  const whole = text.replaceAll(secret, stars(secret.length));
  expect(await read(spool)).toBe(whole);
  for (const most of [1, 2, 3, 7, 20])
    for (const from of [0, 3, 9, 21, 40]) expect(await read(spool, from, most)).toBe(whole.slice(from));
  expect(await open().digest()).toEqual({
    length: text.length,
    sha256: createHash("sha256").update(whole).digest("hex"),
  });
});

test("what is left of a secret on either side of an omission is masked", async () => {
  await segment(0, `first ${secret.slice(0, 9)}`);
  await segment(100, `${secret.slice(4)} between ${secret.slice(0, 3)}`);
  await segment(200, `${secret.slice(15)} last ${secret.slice(0, 5)}`);
  const spool = open();
  spool.seal();
  const shown = `first ${stars(9)}${"_".repeat(85)}${stars(12)} between ${stars(3)}${"_".repeat(76)}* last 01234`;
  expect(await read(spool)).toBe(shown);
  for (const from of [3, 8, 50, 103, 118, 150, 202]) expect(await read(spool, from, 4)).toBe(shown.slice(from));
});

test("what was never synced is an omission too: the part before it is masked", async () => {
  await segment(0, `text ${secret.slice(0, 6)}`);
  const spool = open();
  spool.seal(30);
  expect(await read(spool)).toBe(`text ${stars(6)}${"_".repeat(19)}`);
});

test("what may be a secret's beginning waits, across segments, until it is decided", async () => {
  await segment(0, "x 0123");
  const spool = open();
  expect(spool.size).toBe(2);
  await segment(6, "4567");
  expect(spool.refresh()).toBe(2);
  await appendFile(segmentPath(path, 6), "89abcdef y");
  expect(spool.refresh()).toBe(20);
  expect(await read(spool)).toBe(`x ${stars(16)} y`);
  await appendFile(segmentPath(path, 6), " 012");
  expect(spool.refresh()).toBe(21);
  await appendFile(segmentPath(path, 6), "!");
  expect(spool.refresh()).toBe(25);
  expect(await read(spool, 20)).toBe(" 012!");
});

test("the end of the stream decides what waits", async () => {
  await segment(0, "x 0123");
  const spool = open();
  expect(spool.seal()).toBe(6);
  expect(await read(spool)).toBe("x 0123");
});

test("of a stream whose secrets are lost only the length is told", async () => {
  await segment(0, "any thing");
  await segment(50, "more");
  const spool = open(maskAll);
  expect(spool.size).toBe(54);
  expect(await read(spool)).toBe(`${stars(9)}${"_".repeat(41)}${stars(4)}`);
});
