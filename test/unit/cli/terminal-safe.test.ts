// What strangers' bytes may do to a terminal: colour it, nothing else.
import fc from "fast-check";
import { expect, test } from "vitest";
import { safeLine, TerminalSafe } from "../../../cli/terminal-safe.ts";

function safe(pieces: readonly Uint8Array[]): string {
  const filter = new TerminalSafe();
  return pieces.map((piece) => filter.push(piece)).join("") + filter.end();
}

const safeText = (text: string): string => safe([new TextEncoder().encode(text)]);

// eslint-disable-next-line no-control-regex
const sgr = /\x1b\[[0-9;:]*m/g;
// eslint-disable-next-line no-control-regex
const forbidden = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;

/** Bytes that are likely to meet the parser's states. */
const hostile = fc.oneof(
  fc.uint8Array({ maxLength: 20 }),
  fc
    .constantFrom(
      "\x1b",
      "\x1b[",
      "\x1b]",
      "\x1bP",
      "\x1b\\",
      "\x07",
      "m",
      "31m",
      "\x1b[31m",
      "\x1b[>4;2m",
      "\x1b[2J",
      "\x9b31m",
      "\u202e",
      "\r",
      "\n",
      ";",
      "0",
      "8;;http://x",
    )
    .map((text) => new TextEncoder().encode(text)),
);

test("no input leaves anything but SGR, line feeds and tabs, wherever it was cut", () => {
  fc.assert(
    fc.property(fc.array(hostile, { maxLength: 40 }), (pieces) => {
      expect(safe(pieces).replace(sgr, "")).not.toMatch(forbidden);
    }),
    { numRuns: 2_000 },
  );
});

test("the output is the same however the input was cut", () => {
  fc.assert(
    fc.property(fc.array(hostile, { maxLength: 20 }), (pieces) => {
      const whole = Buffer.concat(pieces);
      const bytewise = Array.from(whole, (byte) => Uint8Array.of(byte));
      expect(safe(bytewise)).toBe(safe([whole]));
    }),
  );
});

test.each([
  ["plain text, tab and lines", "a\tb\nc\n", "a\tb\nc\n"],
  ["colours, set back at the end", "\x1b[1;31mred", "\x1b[1;31mred\x1b[0m"],
  ["colours in the colon form", "\x1b[38:2::1:2:3mx\x1b[m", "\x1b[38:2::1:2:3mx\x1b[m"],
  ["no cursor moves and no clearing", "a\x1b[2J\x1b[10;10Hb", "ab"],
  ["no private sequence that ends in m", "a\x1b[>4;2mb\x1b[?1mc", "abc"],
  ["no title, by BEL or ST", "a\x1b]0;evil\x07b\x1b]0;evil\x1b\\c", "abc"],
  ["no link", "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\", "click"],
  ["no clipboard", "\x1b]52;c;ZXZpbA==\x07x", "x"],
  ["no device control string", "\x1bPq#0\x1b\\x", "x"],
  ["no full reset and no character set", "\x1bca\x1b(0b", "ab"],
  ["a bell and a backspace as text", "a\x07\x08", "a\\x07\\x08"],
  ["C1 controls as text", "a\u009b31m", "a\\x9b31m"],
  ["bidirectional overrides as text", "a\u202eb", "a\\u202eb"],
  ["a carriage return as a new line", "10%\r20%\r\ndone\r", "10%\n20%\ndone\n"],
  ["bytes that are not UTF-8 as U+FFFD", "\ud800x", "\ufffdx"],
])("shows %s", (_what, input, expected) => {
  expect(safeText(input)).toBe(expected);
});

test("a lone opener of a string hides at most 4 KiB", () => {
  expect(safeText(`\x1b]0;${"x".repeat(5_000)}end`)).toMatch(/x+end$/);
});

test("one value of a table stays on one line", () => {
  expect(safeLine("a\nb\x1b[2Jc\r\nd")).toBe("a bc d");
});
