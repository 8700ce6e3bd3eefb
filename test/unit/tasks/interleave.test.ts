// Pieces of both streams in the order they were seen.
import { expect, it } from "vitest";
import type { StoredPiece } from "../../../server/store/read-log.ts";
import { interleave } from "../../../server/tasks/interleave.ts";

const piece = (stream: "out" | "err", offset: number, atMs: number | null): StoredPiece => ({
  stream,
  offset,
  atMs,
  content: { omitted: 1 },
});
const names = (pieces: readonly StoredPiece[]): string[] => pieces.map(({ stream, offset }) => `${stream}${offset}`);

it("takes the earlier piece first and keeps each stream's own order, whatever its times", () => {
  const out = [piece("out", 0, 10), piece("out", 1, 40), piece("out", 2, 5)];
  const err = [piece("err", 0, 20), piece("err", 1, 30)];
  const read = [
    { pieces: out, isWhole: true },
    { pieces: err, isWhole: true },
  ];
  expect(names(interleave(read))).toEqual(["out0", "err0", "err1", "out1", "out2"]);
});

it("holds back what may be later than the unread rest of the other stream, and always goes on", () => {
  const out = [piece("out", 0, 10), piece("out", 1, 20)];
  const err = [piece("err", 0, 15), piece("err", 1, 90)];
  const read = [
    { pieces: out, isWhole: false },
    { pieces: err, isWhole: true },
  ];
  expect(names(interleave(read))).toEqual(["out0", "err0", "out1"]);
  expect(names(interleave([{ pieces: [piece("out", 0, 1)], isWhole: false }]))).toEqual(["out0"]);
});

it("pieces without a time come first, as they were read", () => {
  const read = [
    { pieces: [piece("out", 0, 10)], isWhole: true },
    { pieces: [piece("err", 0, null), piece("err", 1, null)], isWhole: true },
  ];
  expect(names(interleave(read))).toEqual(["err0", "err1", "out0"]);
});

it("streams without times take turns, and neither waits for the other's end", () => {
  const out = [piece("out", 0, null), piece("out", 1, null)];
  const err = [piece("err", 0, null), piece("err", 1, null), piece("err", 2, null)];
  const read = [
    { pieces: out, isWhole: false },
    { pieces: err, isWhole: true },
  ];
  expect(names(interleave(read))).toEqual(["out0", "err0", "out1", "err1", "err2"]);
});
