// Lines out of bytes, wherever the bytes were parted.
import fc from "fast-check";
import { expect, test } from "vitest";
import { LineSplitter, longestLineBytes, type Line } from "../../../sdk/lines.ts";

function split(pieces: readonly (Uint8Array | { omitted: number })[]): Line[] {
  const splitter = new LineSplitter();
  const lines = pieces.flatMap((piece) => [...splitter.push(piece instanceof Uint8Array ? { bytes: piece } : piece)]);
  return [...lines, ...splitter.end()];
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

test("lines are the same however their bytes were parted", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.array(fc.nat(200)), (text, cuts) => {
      const whole = bytes(text);
      const places = [...new Set(cuts.map((cut) => Math.min(cut, whole.length)))].toSorted((one, other) => one - other);
      const pieces = [0, ...places].map((start, index) => whole.subarray(start, places[index] ?? whole.length));
      expect(split(pieces)).toEqual(split([whole]));
    }),
  );
});

test("a line over 16 KiB comes in pieces that cut no character and together are the line", () => {
  const line = "ä".repeat(longestLineBytes) + "🚀".repeat(5_000);
  const lines = split([bytes(`x${line}\nnext\n`)]);
  expect(lines.slice(0, -2).every((one) => one.continues)).toBe(true);
  expect(
    lines
      .slice(0, -1)
      .map((one) => one.text)
      .join(""),
  ).toBe(`x${line}`);
  expect(lines.every((one) => bytes(one.text).length <= longestLineBytes)).toBe(true);
  expect(lines.at(-1)).toEqual({ text: "next", continues: false });
});

test("a line without end holds no more than one piece in memory", () => {
  const splitter = new LineSplitter();
  let handedOn = 0;
  for (let index = 0; index < 1_600; index += 1) {
    for (const line of splitter.push({ bytes: new Uint8Array(64 * 1024).fill(120) })) handedOn += line.text.length;
  }
  expect(handedOn).toBeGreaterThan(1_600 * 64 * 1024 - longestLineBytes - 1);
});

test("bytes that are not UTF-8 become U+FFFD; CRLF ends a line as LF does", () => {
  expect(split([Uint8Array.of(0x61, 0xff, 0x0d, 0x0a, 0x62)])).toEqual([
    { text: "a\ufffd", continues: false },
    { text: "b", continues: false },
  ]);
});

test("omitted bytes stand as a notice between what is before and after", () => {
  expect(split([bytes("be"), { omitted: 12 }, bytes("fore\n")])).toEqual([
    { text: "be", continues: false },
    { text: "[12 bytes omitted]", continues: false, omittedBytes: 12 },
    { text: "fore", continues: false },
  ]);
});
