// Lines out of bytes, wherever the bytes were parted.
import fc from "fast-check";
import { expect, test } from "vitest";
import { LineSplitter, longestLineBytes, type Line } from "../../../sdk/lines.ts";

type Piece = Uint8Array | { omitted: number };
const contentOf = (piece: Piece) => (piece instanceof Uint8Array ? { bytes: piece } : piece);

/** Without their times. */
function split(pieces: readonly Piece[]): Omit<Line, "at">[] {
  const splitter = new LineSplitter();
  const lines = pieces.flatMap((piece) => [...splitter.push({ content: contentOf(piece), at: null })]);
  return [...lines, ...splitter.end()].map(({ at, ...line }) => {
    expect(at).toBeNull();
    return line;
  });
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
    for (const line of splitter.push({ content: { bytes: new Uint8Array(64 * 1024).fill(120) }, at: null }))
      handedOn += line.text.length;
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

test("a progress bar's states are lines of their own, a return before a line feed is not", () => {
  const bar = "10 %\r50 %\r100 %\r\ndone\r\r\n";
  const wanted = [
    { text: "10 %", continues: false, overwritten: true },
    { text: "50 %", continues: false, overwritten: true },
    { text: "100 %", continues: false },
    { text: "done", continues: false },
  ];
  expect(split([bytes(bar)])).toEqual(wanted);
  expect(split([...bytes(bar)].map((byte) => Uint8Array.of(byte)))).toEqual(wanted);
  expect(split([bytes("at the end\r")])).toEqual([{ text: "at the end", continues: false }]);
});

test("a line has the time of the piece in which it begins", () => {
  const splitter = new LineSplitter();
  const push = (text: string, at: string) => [...splitter.push({ content: { bytes: bytes(text) }, at })];
  const lines = [...push("one\ntw", "t1"), ...push("o\nthree\nfo", "t2"), ...push("ur", "t3"), ...splitter.end()];
  expect(lines.map(({ text, at }) => [text, at])).toEqual([
    ["one", "t1"],
    ["two", "t1"],
    ["three", "t2"],
    ["four", "t2"],
  ]);
});
