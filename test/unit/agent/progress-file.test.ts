// What a progress file says, however it was written.
import { describe, expect, it, test } from "vitest";
import { parseProgress } from "../../../agent/progress-file.ts";
import { createRedactor, maskAll } from "../../../agent/redact.ts";

const parse = (text: string, secrets: readonly string[] = []) =>
  parseProgress(Buffer.from(text).subarray(0, 4_096), createRedactor(secrets));

test.each([
  ["40 copying\n", { percent: 40, message: "copying" }],
  ["0 \n", { percent: 0, message: "" }],
  ["100\n", { percent: 100, message: "" }],
  ["  7\tof many things \r\n", { percent: 7, message: "of many things" }],
  ["- waiting for 3 of 5\n", { percent: null, message: "waiting for 3 of 5" }],
  ["007 licence\n", { percent: 7, message: "licence" }],
  // Of two that wrote at once the shorter may leave the other's end behind it.
  ["5 short\nof the longer\n", { percent: 5, message: "short" }],
  ["50 \u0007bell \u001b[2J\n", { percent: 50, message: "\u0007bell \u001b[2J" }],
])("%j says %j", (text, expected) => expect(parse(text)).toEqual(expected));

test.each(["", "40 copying", "\n", "101 x\n", "-1 x\n", "4.5 x\n", "40% x\n", "-\n", "- \n", "copying\n", "1000 x\n"])(
  "%j says nothing",
  (text) => expect(parse(text)).toBeUndefined(),
);

describe("a message", () => {
  it("is cut at 200 characters, none of them in half", () => {
    expect(parse(`1 ${"x".repeat(201)}\n`)?.message).toBe("x".repeat(200));
    expect(parse(`1 ${"\u{1f600}".repeat(201)}\n`)?.message).toBe("\u{1f600}".repeat(200));
  });

  it("longer than what is read of the file is cut too", () => {
    expect(parse(`1 ${"x".repeat(100_000)}\n`)).toEqual({ percent: 1, message: "x".repeat(200) });
  });

  it("that is no UTF-8 has replacement characters", () => {
    expect(parseProgress(Buffer.from([0x31, 0x20, 0x61, 0xff, 0x0a]), undefined)?.message).toBe("a\u{fffd}");
  });
});

describe("a secret", () => {
  const secret = "correct-horse";

  it("is masked, and before the message is cut", () => {
    expect(parse(`9 with ${secret}!\n`, [secret])).toEqual({ percent: 9, message: `with ${"*".repeat(13)}!` });
    expect(parse(`9 ${"x".repeat(195)}${secret}\n`, [secret])?.message).toBe("x".repeat(195) + "*****");
  });

  it("of several lines is masked in its first one, also while its rest is not written yet", () => {
    const lines = "first-line\nsecond-line\n";
    expect(parse(`9 ${lines}\n`, [lines])?.message).toBe("*".repeat(10));
    expect(parse("9 first-line\n", [lines])?.message).toBe("*".repeat(10));
  });

  it("that cannot be read leaves nothing to say", () => {
    expect(parseProgress(Buffer.from("9 x\n"), maskAll)).toBeUndefined();
  });
});
