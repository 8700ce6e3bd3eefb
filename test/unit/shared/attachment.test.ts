// Which files may go along with a script.
import { describe, expect, test } from "vitest";
import { attachedBytes, attachmentLimits, attachmentSchema, attachmentsOf } from "../../../shared/attachment.ts";

const file = (name: string, bytes: number | string = "x") => ({
  name,
  base64: Buffer.alloc(Number(bytes) || 1).toString("base64"),
});
const isAllowed = (...files: readonly unknown[]): boolean => attachmentsOf(attachmentSchema).safeParse(files).success;

describe("a name", () => {
  test.each(["a", "app.conf", ".npmrc", "..a", "a..b", "A_1-2.tar.gz", "x".repeat(128)])("may be %j", (name) =>
    expect(isAllowed(file(name))).toBe(true),
  );

  test.each(["", ".", "..", "../a", "a/b", "/a", "a\\b", "-rf", "a b", "a\n", "a\0", "ä", "x".repeat(129)])(
    "may not be %j",
    (name) => expect(isAllowed(file(name))).toBe(false),
  );
});

test("no two share a name", () => expect(isAllowed(file("a"), file("b"), file("a"))).toBe(false));

test("16 are as many as go along", () => {
  const files = Array.from({ length: attachmentLimits.count + 1 }, (_, no) => file(`f${no}`));
  expect([isAllowed(...files), isAllowed(...files.slice(1))]).toEqual([false, true]);
});

test("they take 256 KiB together, counted before base64", () => {
  const most = attachmentLimits.bytes;
  expect(
    [0, 1, 2, 3, 4].map((bytes) => attachedBytes([{ name: "a", base64: Buffer.alloc(bytes).toString("base64") }])),
  ).toEqual([0, 1, 2, 3, 4]);
  expect([isAllowed(file("a", most - 1), file("b", 1)), isAllowed(file("a", most), file("b", 1))]).toEqual([
    true,
    false,
  ]);
});

test("what is no base64 is refused", () => expect(isAllowed({ name: "a", base64: "not base64!" })).toBe(false));
