// Packing offers: every frame is one the agent's pre-scan admits, and what no frame can carry is set apart.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { packOffers, type OfferedAttempt } from "../../../server/tasks/courier-offer.ts";
import { secretSchema } from "../../../shared/secret.ts";
import { taskSpecSchema } from "../../../shared/task.ts";
import { decodeFrame, encodeFrame } from "../../../shared/wire/frame.ts";
import { fromNodeSchema } from "../../../shared/wire/from-node.ts";
import { attempt, claimed, scene } from "./scene.ts";

const addressee = { journalId: scene().journalId, capabilities: new Set<string>() };
const withSpec = (number: number, spec: object) => claimed(number, { spec: JSON.stringify(spec) });
const script = (change: object) => ({
  kind: "script",
  interpreter: "sh",
  script: "true",
  args: [],
  env: {},
  timeoutMs: 1_000,
  graceMs: 0,
  ...change,
});
const sizes = (attempts: Parameters<typeof packOffers>[1]) =>
  packOffers(addressee, attempts).messages.map(({ items }) => items.length);

describe("packing offers", () => {
  it("offers an update only to an agent that knows of updates", () => {
    const update = { kind: "update", sha256: "0".repeat(64), servers: ["http://node:8080"] };
    const packed = packOffers(addressee, [withSpec(1, update)]);
    expect(packed.messages).toEqual([]);
    expect(packed.unfit).toMatchObject([{ reason: "unsupported", why: expect.stringContaining("on its machine") }]);
    const knowing = packOffers({ ...addressee, capabilities: new Set(["update"]) }, [withSpec(1, update)]);
    expect(knowing.messages).toMatchObject([{ items: [{ spec: update }] }]);
  });

  it("sets apart what has a field that only a later version knows: without it the script would run otherwise", () => {
    const packed = packOffers(addressee, [withSpec(1, script({ sandbox: "strict" })), withSpec(2, script({}))]);
    expect(packed.messages.flatMap(({ items }) => items.map(({ attempt: id }) => id))).toEqual([claimed(2).attempt]);
    expect(packed.unfit).toMatchObject([{ reason: "unsupported", why: expect.stringContaining("sandbox") }]);
  });

  it("puts at most 64 into a frame, in order", () => {
    const attempts = Array.from({ length: 130 }, (_, index) => claimed(index));
    expect(sizes(attempts)).toEqual([64, 64, 2]);
    expect(packOffers(addressee, attempts).messages.flatMap(({ items }) => items.map((item) => item.attempt))).toEqual(
      attempts.map((one) => one.attempt),
    );
  });

  it("counts the bytes of a spec, not its characters: three scripts of 510 KiB in Chinese are three frames", () => {
    const chinese = "言".repeat(174_000);
    expect(sizes([1, 2, 3].map((number) => withSpec(number, script({ script: chinese }))))).toEqual([1, 1, 1]);
  });

  it("counts values, so that many arguments do not exceed what a pre-scan admits", () => {
    const attempts = Array.from({ length: 64 }, (_, index) => withSpec(index, script({ args: Array(256).fill("a") })));
    const packed = packOffers(addressee, attempts);
    expect(packed.messages.length).toBeGreaterThan(1);
    for (const message of packed.messages) expect(() => decodeFrame(encodeFrame(message))).not.toThrow();
  });

  it.each([
    ["an environment name longer than a map key may be", script({ env: { ["N".repeat(65)]: "x" } })],
    [
      "more environment variables than a frame holds values",
      script({ env: Object.fromEntries(Array.from({ length: 9_000 }, (_, index) => [`N${index}`, ""])) }),
    ],
    ["a spec this version does not know", { kind: "teleport" }],
  ])("sets apart %s and offers the others", (_what, spec) => {
    const packed = packOffers(addressee, [withSpec(1, spec), claimed(2)]);
    expect(packed.unfit).toMatchObject([{ claimed: { attempt: attempt(1) }, why: expect.stringMatching(/./) }]);
    expect(packed.messages.flatMap(({ items }) => items.map((item) => item.attempt))).toEqual([attempt(2)]);
  });

  it.each([
    ["arguments of the interpreter", "interpreter-args", { interpreterArgs: ["-u"] }],
    ["attached files", "attachments", { files: [{ name: "a", base64: "AA==" }] }],
    ["another user", "user", { user: "web" }],
  ])("offers %s only to an agent that would not leave them out", (_what, capability, change) => {
    const attempts = [withSpec(1, script(change)), claimed(2)];
    const refused = packOffers(addressee, attempts);
    expect(refused.unfit).toMatchObject([{ claimed: { attempt: attempt(1) }, reason: "unsupported" }]);
    expect(refused.messages.flatMap(({ items }) => items.map((item) => item.attempt))).toEqual([attempt(2)]);
    const able = packOffers({ ...addressee, capabilities: new Set([capability]) }, attempts);
    expect(able.unfit).toEqual([]);
    expect(able.messages[0]?.items[0]?.spec).toMatchObject(change);
  });

  describe("with secrets", () => {
    const able = { ...addressee, capabilities: new Set(["secrets"]) };
    const secrets = [secretSchema.parse({ name: "S", value: "hunter22" })];
    const having = (change: Partial<OfferedAttempt>) => [
      { ...withSpec(1, script({})), secretNames: ["S"], ...change },
      claimed(2),
    ];

    it("sends them beside the spec to an agent that takes them", () => {
      const { messages, unfit } = packOffers(able, having({ secrets }));
      expect(unfit).toEqual([]);
      expect(messages.flatMap(({ items }) => items.map((item) => item.secrets))).toEqual([secrets, undefined]);
      expect(JSON.stringify(messages[0]?.items[0]?.spec)).not.toContain("hunter22");
    });

    it.each([
      ["an agent that does not take them", addressee, { secrets }, "unsupported", /takes no secrets/],
      ["none, when they are kept no longer", able, {}, "invalid", /no longer/],
      ["none, when they cannot be opened", able, { secrets: { why: "wrong key" } }, "invalid", /wrong key/],
    ] as const)("never offers the task to %s", (_what, to, change, reason, why) => {
      const { messages, unfit } = packOffers(to, having(change));
      expect(unfit).toMatchObject([{ claimed: { attempt: attempt(1) }, reason, why: expect.stringMatching(why) }]);
      expect(messages.flatMap(({ items }) => items.map((item) => item.attempt))).toEqual([attempt(2)]);
    });

    it("counts their bytes and values: the largest of them, beside the largest spec, is one frame that is admitted", () => {
      const most = Array.from({ length: 64 }, (_, index) =>
        secretSchema.parse({ name: `S${index}`, value: "x".repeat(2_040) }),
      );
      const large = { ...withSpec(1, script({ script: "y".repeat(512 * 1_024) })), secretNames: ["S"], secrets: most };
      const { messages } = packOffers(able, [large, claimed(2), large]);
      expect(messages.map(({ items }) => items.length)).toEqual([1, 1, 1]);
      for (const message of messages) expect(() => decodeFrame(encodeFrame(message))).not.toThrow();
      const small = Array.from({ length: 9 }, (_, index) => ({
        ...withSpec(index, script({})),
        secretNames: ["S"],
        secrets: most,
      }));
      const together = packOffers(able, small).messages.map(({ items }) => items.length);
      expect(Math.max(...together)).toBeLessThanOrEqual(4);
    });
  });

  it("ends an attempt that no frame can carry instead of ending its agent's session again and again", () => {
    const session = scene({ work: 5 });
    const effects = session.apply({
      kind: "claimed",
      attempts: [withSpec(1, script({ env: { ["N".repeat(65)]: "x" } }))],
    });
    expect(effects).toMatchObject([
      { kind: "refuse", items: [{ attempt: attempt(1), offerNo: 1, class: "never", reason: "invalid" }] },
    ]);
    expect(session.apply({ kind: "closed" })).toEqual([]);
  });

  it("makes only frames that encode, pass the pre-scan and decode to what was claimed, whatever the specs", () => {
    const spec = fc.record({
      script: fc.oneof(
        fc.string({ unit: "grapheme", maxLength: 200 }),
        fc.integer({ min: 1, max: 500_000 }).map((length) => "x".repeat(length)),
      ),
      args: fc.array(fc.string({ maxLength: 5 }), { maxLength: 256 }),
      env: fc.dictionary(fc.stringMatching(/^[A-Z_]{1,60}$/), fc.string({ maxLength: 5 }), {
        maxKeys: 60,
        noNullPrototype: true,
      }),
    });
    fc.assert(
      fc.property(fc.array(spec, { minLength: 1, maxLength: 40 }), (specs) => {
        const attempts = specs
          .map((one, index) => withSpec(index, script(one)))
          .filter((one) => taskSpecSchema.safeParse(JSON.parse(one.spec)).success);
        const { messages, unfit } = packOffers(addressee, attempts);
        expect(unfit).toEqual([]);
        const arrived = messages.flatMap((message) => {
          const parsed = fromNodeSchema.parse(decodeFrame(encodeFrame(message)));
          return parsed.type === "offer" ? parsed.items : [];
        });
        expect(arrived.map((item) => item.spec)).toEqual(attempts.map((one) => JSON.parse(one.spec)));
      }),
      { numRuns: 60 },
    );
  });

  it.each([
    ["a full script", { mode: "full" }, "unsupported"],
    ["a limit on the wait", { waitMs: 5 }, "unsupported"],
    ["a name alone", { name: "deploy" }, undefined],
    ["nothing", undefined, undefined],
  ])("sets %s apart from an agent that keeps no locks, and from no other", (_what, isolation, reason) => {
    const attempts = [withSpec(1, script({ isolation })), claimed(2)];
    const old = packOffers(addressee, attempts);
    expect(old.unfit.map((unfit) => unfit.reason)).toEqual(reason === undefined ? [] : [reason]);
    expect(old.messages.flatMap(({ items }) => items)).toHaveLength(reason === undefined ? 2 : 1);
    const able = packOffers({ ...addressee, capabilities: new Set(["isolation"]) }, attempts);
    expect(able.unfit).toEqual([]);
  });
});
