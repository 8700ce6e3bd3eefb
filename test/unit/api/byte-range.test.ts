// Which bytes a Range header asks for.
import { expect, test } from "vitest";
import { parseRange } from "../../../server/api/byte-range.ts";

const part = (start: number, end: number) => ({ kind: "part", start, end });

test.each([
  ["bytes=0-0", part(0, 0)],
  ["bytes=0-99", part(0, 99)],
  ["bytes=40-", part(40, 99)],
  ["bytes=-10", part(90, 99)],
  ["bytes=-1000", part(0, 99)],
  ["bytes=90-1000", part(90, 99)],
  ["bytes = 1 - 2", part(1, 2)],
  ["bytes=100-", { kind: "beyond" }],
  ["bytes=-0", { kind: "beyond" }],
])("%s of 100 bytes is %j", (header, range) => expect(parseRange(header, 100)).toEqual(range));

test.each([undefined, "", "bytes=", "bytes=-", "bytes=5-4", "bytes=0-1,4-5", "lines=0-1", "bytes=x-1", "bytes=0-1e3"])(
  "%s is answered with the whole",
  (header) => expect(parseRange(header, 100)).toEqual({ kind: "whole" }),
);

test("of an empty file nothing can be had", () => {
  expect(parseRange("bytes=0-", 0)).toEqual({ kind: "beyond" });
  expect(parseRange("bytes=-5", 0)).toEqual({ kind: "beyond" });
});
