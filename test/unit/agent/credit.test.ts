// The arithmetic of `ready`, by property.
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Credit } from "../../../agent/credit.ts";
import { shareOf, spend, topUp } from "../../../agent/credit.ts";

test("each session gets at least one while a slot is free, and nothing otherwise", () => {
  fc.assert(
    fc.property(fc.integer({ min: -5, max: 64 }), fc.integer({ min: 0, max: 50 }), (free, sessions) => {
      const share = shareOf(free, sessions);
      if (free <= 0 || sessions === 0) expect(share).toBe(0);
      else {
        expect(share).toBe(Math.max(1, Math.floor(free / sessions)));
        expect(share * sessions).toBeLessThanOrEqual(Math.max(free, sessions));
      }
    }),
  );
});

test("credit never goes down and never exceeds what is used plus the largest share", () => {
  const acts = fc.array(fc.oneof(fc.record({ kind: fc.constant("share" as const), share: fc.integer({ min: 0, max: 64 }) }), fc.constant({ kind: "offer" as const })), { maxLength: 60 });
  fc.assert(
    fc.property(acts, (steps) => {
      let credit: Credit = { granted: 0, used: 0 };
      let largest = 0;
      for (const act of steps) {
        const before = credit.granted;
        if (act.kind === "share") {
          largest = Math.max(largest, act.share);
          credit = topUp(credit, act.share);
          expect(credit.granted - credit.used).toBeGreaterThanOrEqual(act.share);
        } else if (credit.used < credit.granted) credit = spend(credit);
        expect(credit.granted).toBeGreaterThanOrEqual(before);
        expect(credit.granted - credit.used).toBeLessThanOrEqual(largest);
      }
    }),
  );
});
