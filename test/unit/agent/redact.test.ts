// Masking secrets: every form, nothing of a secret survives, and the cut into pieces never matters.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createRedactor, maskAll, type Redactor } from "../../../agent/redact.ts";
import { formsOf } from "../../../agent/secret-forms.ts";

const open = { before: "open", after: "open" } as const;
const secret = "pa55 wörd+/=&'\"";

function redactorOf(...secrets: string[]): Redactor {
  const redactor = createRedactor(secrets);
  if (redactor === undefined) throw new Error("nothing to mask");
  return redactor;
}

function masked(redactor: Redactor, text: string | Buffer, edges: Parameters<Redactor["mask"]>[1] = open): string {
  const bytes = Buffer.from(text as string);
  redactor.mask(bytes, edges);
  return bytes.toString("latin1");
}

const stars = (count: number): string => "*".repeat(count);

describe("masking", () => {
  it("keeps the length and leaves everything else", () => {
    expect(masked(redactorOf("hunter22"), "user=hunter22;hunter2")).toBe(`user=${stars(8)};hunter2`);
  });

  it("leaves values of fewer than six characters alone, and is not there when there is nothing else", () => {
    expect(createRedactor(["short", ""])).toBeUndefined();
    expect(masked(redactorOf("short", "hunter"), "short hunter")).toBe(`short ${stars(6)}`);
  });

  it.each([0, 1, 2, 3, 4])("finds base64 with %i bytes before it, in both alphabets", (before) => {
    const redactor = redactorOf(secret);
    for (const after of ["", "x", "xy", "xyz"]) {
      const whole = Buffer.from("<".repeat(before) + secret + after);
      for (const encoding of ["base64", "base64url"] as const) {
        const shown = masked(redactor, whole.toString(encoding));
        // What is left of the secret's characters at its ends holds bits of a neighbour, and less than a byte of it.
        const kept = Buffer.from(shown.replaceAll("*", "A"), "base64").toString("latin1");
        for (const character of "wrd") expect(kept).not.toContain(character);
        expect(shown.match(/\*/g)?.length).toBeGreaterThanOrEqual(Math.floor((Buffer.byteLength(secret) * 8 - 12) / 6));
      }
    }
  });

  it("finds base64 that was broken into lines", () => {
    const long = "k3y-".repeat(60);
    const redactor = redactorOf(long);
    for (const columns of [64, 76]) {
      const lines = Buffer.from(`${long}\n`)
        .toString("base64")
        .replaceAll(new RegExp(`.{${columns}}`, "g"), "$&\n");
      expect(masked(redactor, lines).replaceAll(/[\n*]/g, "").length).toBeLessThanOrEqual("Cg==".length);
    }
  });

  it.each([
    encodeURIComponent(secret),
    encodeURIComponent(secret).replaceAll("'", "%27"),
    encodeURIComponent(secret).toLowerCase(),
    encodeURIComponent(secret).replaceAll("%20", "+").replaceAll("'", "%27"),
    JSON.stringify(secret).slice(1, -1),
    "pa55 w\\u00f6rd+/=&'\\\"",
  ])("finds it written as %s", (form) => {
    expect(masked(redactorOf(secret), `a ${form} b`)).toBe(`a ${stars(Buffer.byteLength(form))} b`);
  });

  it("masks secrets that overlap themselves and one another", () => {
    expect(masked(redactorOf("abababab"), "xababababababx")).toBe(`x${stars(12)}x`);
    expect(masked(redactorOf("abcdefgh", "efghijkl"), "abcdefghijkl")).toBe(stars(12));
    expect(masked(redactorOf("abcdef", "abcdefghij"), "abcdefghix abcdefghij")).toBe(`${stars(6)}ghix ${stars(10)}`);
  });

  it("masks what a trailing line break was taken from", () => {
    expect(masked(redactorOf("line one\nline two\n"), "line one\nline two|")).toBe(`${stars(17)}|`);
  });

  it("masks a part that reaches a cut, on either side, and no part at an open end", () => {
    const redactor = redactorOf("0123456789");
    expect(masked(redactor, "6789 and 0123", { before: "cut", after: "cut" })).toBe(`${stars(4)} and ${stars(4)}`);
    expect(masked(redactor, "6789 and 0123")).toBe("6789 and 0123");
  });

  it("holds back what may be the beginning of a secret, and no more", () => {
    const redactor = redactorOf("0123456789");
    expect(redactor.openEnd(Buffer.from("xx0"))).toBe(2);
    expect(redactor.openEnd(Buffer.from("xx012301234"))).toBe(6);
    expect(redactor.openEnd(Buffer.from("xx0123456789"))).toBe(12);
    expect(redactor.openEnd(Buffer.from("xx01234x"))).toBe(8);
  });

  it("leaves nothing when the secrets cannot be read", () => {
    expect(masked(maskAll, "anything")).toBe(stars(8));
  });
});

describe("masking, whatever the secrets and the output", () => {
  // Few letters, so that secrets repeat and overlap themselves.
  const letters = fc.string({ unit: fc.constantFrom("a", "b", "=", "%"), minLength: 6, maxLength: 14 });
  const secrets = fc.array(letters, { minLength: 1, maxLength: 3 });
  const output = secrets.chain((values) => {
    const encoded = values.flatMap((value) => [
      value,
      Buffer.from(value).toString("base64"),
      encodeURIComponent(value),
    ]);
    const piece = fc.oneof(fc.constantFrom(...encoded), fc.string({ unit: fc.constantFrom("a", "b", "=", "Y") }));
    return fc.tuple(
      fc.constant(values),
      fc.array(piece, { maxLength: 12 }).map((pieces) => Buffer.from(pieces.join(""))),
    );
  });

  it("leaves no form of any secret, and touches nothing outside of them", () => {
    fc.assert(
      fc.property(output, ([values, bytes]) => {
        const forms = values.flatMap(formsOf);
        const covered = Buffer.from(bytes);
        for (const form of forms) {
          for (let at = bytes.indexOf(form); at !== -1; at = bytes.indexOf(form, at + 1))
            covered.fill("*", at, at + form.length);
        }
        expect(masked(redactorOf(...values), bytes)).toBe(covered.toString("latin1"));
      }),
    );
  });

  it("is the same for every cut into pieces, from every offset, as bytes arrive", () => {
    const cuts = fc.array(fc.nat(40), { minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(output, cuts, fc.nat(60), ([values, bytes], steps, from) => {
        const redactor = redactorOf(...values);
        const whole = masked(redactor, bytes);
        let there = 0;
        let at = Math.min(from, bytes.length);
        let seen = whole.slice(0, at);
        // The stream grows by each step; what is decided is read with its surroundings, as the spool does.
        for (let step = 0; at < bytes.length; step += 1) {
          there = Math.min(bytes.length, there + (steps[step % steps.length] ?? 0) + 1);
          const tail = bytes.subarray(Math.max(0, there - redactor.reach), there);
          const decided = there === bytes.length ? there : there - tail.length + redactor.openEnd(tail);
          if (decided <= at) continue;
          const start = Math.max(0, at - redactor.reach);
          const piece = Buffer.from(bytes.subarray(start, Math.min(there, decided + redactor.reach)));
          redactor.mask(piece, open);
          seen += piece.subarray(at - start, decided - start).toString("latin1");
          at = decided;
        }
        expect(seen).toBe(whole);
      }),
    );
  });
});
