// The pre-scan of frames: each refusal by name, and that what passes always decodes. A structure-aware fuzz feeds it
// mutated frames; nothing but `frame.invalid` may come out, in time linear in the frame.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AppError } from "../../../shared/errors.ts";
import { decodeFrame, encodeFrame, frameBytes } from "../../../shared/wire/frame.ts";
import { prescan, prescanLimits } from "../../../shared/wire/prescan.ts";

const bytes = (...parts: (number | string | Uint8Array)[]): Buffer =>
  Buffer.concat(parts.map((part) => (typeof part === "number" ? Buffer.of(part) : Buffer.from(part))));
const repeat = (part: number | Uint8Array, times: number): Buffer =>
  Buffer.concat(Array.from({ length: times }, () => bytes(part)));
const text32 = (length: number): Buffer => {
  const head = Buffer.alloc(5);
  head.writeUInt8(0xdb);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, Buffer.alloc(length, 0x61)]);
};
const double = (value: number): Buffer => {
  const buffer = Buffer.alloc(9);
  buffer.writeUInt8(0xcb);
  buffer.writeDoubleBE(value, 1);
  return buffer;
};
const float = (value: number): Buffer => {
  const buffer = Buffer.alloc(5);
  buffer.writeUInt8(0xca);
  buffer.writeFloatBE(value, 1);
  return buffer;
};
/** A map whose keys are the texts given and whose values are nil. */
const mapOf = (...keys: readonly string[]): Buffer =>
  bytes(0x80 | keys.length, ...keys.flatMap((key) => [0xa0 | key.length, key, 0xc0]));

const refusals: readonly [string, Uint8Array, RegExp][] = [
  ["nothing at all", bytes(), /truncated/],
  ["a map that ends early", bytes(0x81, 0xa1, "a"), /truncated|more values than bytes/],
  ["a length field that ends early", bytes(0xda, 0x00), /truncated/],
  ["bytes after the value", bytes(0xc0, 0xc0), /trailing bytes/],
  ["a text longer than the frame", bytes(0xd9, 200, "short"), /length beyond the frame/],
  ["a binary longer than the frame", bytes(0xc6, 0xff, 0xff, 0xff, 0xff), /length beyond the frame/],
  ["an integer that ends early", bytes(0xcf, 1, 2, 3), /length beyond the frame/],
  ["an array of more values than bytes", bytes(0xdd, 0x7f, 0xff, 0xff, 0xff, 0xc0), /more values than bytes/],
  ["a map of more entries than bytes", bytes(0xdf, 0xff, 0xff, 0xff, 0xff, 0xc0), /more values than bytes/],
  ["17 levels", bytes(repeat(0x91, 17), 0xc0), /deeper than 16/],
  ["100,000 nested arrays", repeat(0x91, 100_000), /deeper than 16/],
  ["20,001 values", bytes(0xdc, 0x4e, 0x20, repeat(0xc0, 20_000)), /more than 20000 values/],
  ["a number as map key", bytes(0x81, 0x01, 0x01), /map key/],
  ["a binary as map key", bytes(0x81, 0xc4, 1, "a", 0x01), /map key/],
  ["a map as map key", bytes(0x81, 0x80, 0x01), /map key/],
  ["a map key of 65 bytes", bytes(0x81, 0xd9, 65, "k".repeat(65), 0x01), /map key/],
  ["a map key twice", mapOf("a", "b", "a"), /map key twice/],
  ["a map key twice in two encodings", bytes(0x82, 0xa1, "a", 0xc0, 0xd9, 1, "a", 0xc0), /map key twice/],
  ["the key __proto__", mapOf("__proto__"), /forbidden map key/],
  ["the key constructor", mapOf("constructor"), /forbidden map key/],
  ["the key prototype", mapOf("prototype"), /forbidden map key/],
  ["a forbidden key deep inside", bytes(0x91, 0x91, mapOf("constructor")), /forbidden map key/],
  ["a text over the bound", text32(prescanLimits.textBytes + 1), /string too long/],
  ["a text that is not UTF-8", bytes(0xa2, 0xc3, 0x28), /not UTF-8/],
  ["a surrogate in UTF-8", bytes(0xa3, 0xed, 0xa0, 0x80), /not UTF-8/],
  ["a map key that is not UTF-8", bytes(0x81, 0xa1, 0xff, 0xc0), /not UTF-8/],
  ["the reserved type 0xc1", bytes(0xc1), /reserved/],
  ["NaN", double(Number.NaN), /not finite/],
  ["Infinity", double(Number.POSITIVE_INFINITY), /not finite/],
  ["a 32-bit NaN", float(Number.NaN), /not finite/],
  ["a 32-bit Infinity", float(Number.NEGATIVE_INFINITY), /not finite/],
  ["a double that ends early", double(1).subarray(0, 5), /not finite/],
];

describe("the pre-scan refuses", () => {
  it.each(refusals)("%s", (_what, frame, reason) => {
    const verdict = prescan(frame);
    expect(verdict).toMatchObject({ ok: false, reason: expect.stringMatching(reason) });
    expect(() => decodeFrame(frame)).toThrow(AppError);
  });

  it.each([0xc7, 0xc8, 0xc9, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8])("extension type %i, whatever follows", (type) => {
    expect(prescan(bytes(type, repeat(0x01, 32)))).toMatchObject({
      ok: false,
      reason: expect.stringMatching(/extension/),
    });
  });

  it("a frame above 1 MiB before looking at it", () => {
    expect(() => decodeFrame(Buffer.alloc(frameBytes + 1, 0xc0))).toThrow(/exceeds/);
    expect(() => encodeFrame({ type: "x", bytes: Buffer.alloc(frameBytes) })).toThrow(/exceeds/);
  });
});

describe("the pre-scan admits", () => {
  it.each<[string, Uint8Array, unknown]>([
    ["16 levels", bytes(repeat(0x91, 16), 0x07), undefined],
    ["20,000 values", bytes(0xdc, 0x4e, 0x1f, repeat(0xc0, 19_999)), Array(19_999).fill(null)],
    ["a key of 64 bytes", bytes(0x81, 0xd9, 64, "k".repeat(64), 0x01), { ["k".repeat(64)]: 1 }],
    [
      "a key that only resembles a forbidden one",
      mapOf("_proto__", "Constructor"),
      { _proto__: null, Constructor: null },
    ],
    ["the same key in two maps", bytes(0x92, mapOf("a"), mapOf("a")), [{ a: null }, { a: null }]],
    ["empty containers", bytes(0x93, 0x80, 0x90, 0xa0), [{}, [], ""]],
    ["a whole number in a float", double(4_294_967_297), 4_294_967_297],
    ["64-bit integers as numbers", bytes(0xcf, 0, 0, 0, 1, 0, 0, 0, 2), 4_294_967_298],
    [
      "negative integers of every width",
      bytes(0x94, 0xff, 0xd0, 0x80, 0xd1, 0x80, 0, 0xd2, 0x80, 0, 0, 0),
      [-1, -128, -32_768, -2_147_483_648],
    ],
  ])("%s", (_what, frame, value) => {
    expect(prescan(frame)).toEqual({ ok: true });
    const decoded = decodeFrame(frame);
    expect(decoded).toEqual(value ?? decoded);
  });

  it("a view into a larger buffer, and looks at nothing outside it", () => {
    const outer = Buffer.concat([Buffer.of(0xc1, 0xc1), encodeFrame({ a: "b" }), Buffer.of(0xc1)]);
    expect(decodeFrame(outer.subarray(2, -1))).toEqual({ a: "b" });
  });
});

const key = fc
  .string({ unit: "grapheme-ascii", minLength: 1, maxLength: 20 })
  .filter((name) => !["__proto__", "constructor", "prototype"].includes(name));
const { value: anyValue } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 6, depthSize: "small" },
    fc.integer(),
    fc.maxSafeInteger(),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.boolean(),
    fc.constant(null),
    fc.string({ unit: "grapheme", maxLength: 300 }),
    fc.uint8Array({ maxLength: 300 }).map((value) => Buffer.from(value)),
    fc.array(tie("value"), { maxLength: 20 }),
    fc.dictionary(key, tie("value"), { maxKeys: 20, noNullPrototype: true }),
  ),
}));
const anyMessage = fc.dictionary(key, anyValue, { maxKeys: 10, noNullPrototype: true });

/** -0 and 0 are one number on this wire, and bytes are equal whatever holds them. */
const normal = (value: unknown): unknown => {
  if (value instanceof Uint8Array) return `bytes ${Buffer.from(value).toString("hex")}`;
  if (Array.isArray(value)) return value.map(normal);
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, normal(one)]));
  return value === 0 ? 0 : value;
};

describe("frames", () => {
  it("that encodeFrame makes pass the pre-scan and decode to what went in", () => {
    fc.assert(
      fc.property(anyMessage, (message) => {
        const frame = encodeFrame(message);
        expect(prescan(frame)).toEqual({ ok: true });
        expect(normal(decodeFrame(frame))).toEqual(normal(message));
      }),
      { numRuns: 2_000 },
    );
  });

  it("leave out fields that are undefined", () => {
    expect(decodeFrame(encodeFrame({ type: "x", probe: undefined }))).toEqual({ type: "x" });
  });

  const mutate = fc.oneof(
    fc.record({
      kind: fc.constant("set" as const),
      at: fc.nat(),
      to: fc.oneof(
        fc.nat(255),
        fc.constantFrom(0x80, 0x8f, 0x90, 0xc0, 0xc1, 0xc6, 0xc7, 0xca, 0xcb, 0xd4, 0xd9, 0xdb, 0xdd, 0xdf),
      ),
    }),
    fc.record({ kind: fc.constant("cut" as const), at: fc.nat() }),
    fc.record({ kind: fc.constant("insert" as const), at: fc.nat(), what: fc.uint8Array({ maxLength: 6 }) }),
    fc.record({
      kind: fc.constant("repeat" as const),
      at: fc.nat(),
      length: fc.nat(20),
      times: fc.integer({ min: 2, max: 5 }),
    }),
  );

  const mutated = (
    frame: Buffer,
    change: typeof mutate extends fc.Arbitrary<infer Change> ? Change : never,
  ): Buffer => {
    const at = change.at % (frame.length + 1);
    switch (change.kind) {
      case "set": {
        const copy = Buffer.from(frame);
        if (copy.length > 0) copy[at % copy.length] = change.to;
        return copy;
      }
      case "cut":
        return frame.subarray(0, at);
      case "insert":
        return Buffer.concat([frame.subarray(0, at), change.what, frame.subarray(at)]);
      case "repeat":
        return Buffer.concat([
          frame.subarray(0, at),
          repeat(frame.subarray(at, at + change.length), change.times),
          frame.subarray(at),
        ]);
    }
  };

  it("mutated 24,000 times give values or frame.invalid, and nothing that passed the pre-scan fails to decode", () => {
    const seen = { decoded: 0, refused: 0 };
    fc.assert(
      fc.property(
        anyMessage,
        fc.array(fc.array(mutate, { minLength: 1, maxLength: 4 }), { minLength: 12, maxLength: 12 }),
        (message, variants) => {
          const frame = encodeFrame(message);
          for (const changes of variants) {
            const broken = changes.reduce(mutated, frame);
            const outcome = outcomeOf(broken);
            seen[outcome] += 1;
            const hex = broken.toString("hex");
            expect([hex, outcome]).toEqual([hex, prescan(broken).ok ? "decoded" : "refused"]);
          }
        },
      ),
      { numRuns: 2_000 },
    );
    expect(seen.decoded + seen.refused).toBe(24_000);
    expect(Math.min(seen.decoded, seen.refused)).toBeGreaterThan(1_000);
  });

  it("decoded never reach the prototype of all objects", () => {
    for (const name of ["__proto__", "constructor", "prototype"]) {
      try {
        decodeFrame(bytes(0x81, 0xa0 | name.length, name, mapOf("polluted")));
      } catch {
        // Refused, as it should be; what counts is below.
      }
    }
    expect("polluted" in {}).toBe(false);
  });

  it("take time linear in their length, hostile ones too", () => {
    const worst: readonly [string, (size: number) => Buffer][] = [
      ["short texts", (size) => bytes(0xdc, 0x4e, 0x1f, repeat(bytes(0xa1, "a"), 19_999)).subarray(0, size)],
      ["one long text", (size) => text32(Math.min(size, prescanLimits.textBytes))],
      ["one long binary", (size) => encodeFrame({ bytes: Buffer.alloc(size) })],
      ["deep arrays", (size) => repeat(0x91, size)],
      [
        "many keys",
        () => encodeFrame(Object.fromEntries(Array.from({ length: 9_000 }, (_, index) => [`key-${index}`, index]))),
      ],
    ];
    for (const [name, make] of worst) {
      const frame = make(frameBytes - 64);
      const best = Math.min(...Array.from({ length: 5 }, () => timeOf(() => prescan(frame))));
      // No measurement: linear takes milliseconds, quadratic minutes, and no machine is so busy as to take one for the other.
      expect({ name, isFast: best < 2_000 }).toEqual({ name, isFast: true });
    }
  });
});

/** What decoding comes to; anything thrown but `frame.invalid` fails the test. */
function outcomeOf(frame: Buffer): "decoded" | "refused" {
  try {
    decodeFrame(frame);
    return "decoded";
  } catch (cause) {
    if (AppError.from(cause).code !== "frame.invalid") throw new Error(`frame ${frame.toString("hex")}`, { cause });
    return "refused";
  }
}

function timeOf(act: () => void): number {
  const startMs = performance.now();
  act();
  return performance.now() - startMs;
}
