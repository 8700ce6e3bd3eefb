// The arithmetic of `ready`, by property.
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Credit } from "../../../agent/credit.ts";
import { shareOf, spend, topUp } from "../../../agent/credit.ts";

const slots = fc.integer({ min: 1, max: 64 });

test("each session gets at least one while a slot is free, and all together no more than there is need for", () => {
  fc.assert(
    fc.property(slots, fc.integer({ min: 1, max: 50 }), (free, sessions) => {
      const share = shareOf(free, sessions);
      expect(share).toBe(Math.max(1, Math.floor(free / sessions)));
      expect(share * sessions).toBeLessThanOrEqual(Math.max(free, sessions));
    }),
  );
});

test("nobody gets credit while no slot is free or no session is open", () => {
  fc.assert(fc.property(fc.integer({ min: -50, max: 0 }), slots, (free, sessions) => shareOf(free, sessions) === 0));
  expect(shareOf(10, 0)).toBe(0);
});

test("credit never goes down and never exceeds what is used plus the largest share", () => {
  const share = fc.integer({ min: 0, max: 64 });
  fc.assert(
    fc.property(fc.array(fc.oneof(share, fc.constant("offer" as const)), { maxLength: 60 }), (steps) => {
      let credit: Credit = { granted: 0, used: 0 };
      let largest = 0;
      for (const act of steps) {
        const before = credit;
        const isOffer = act === "offer";
        largest = Math.max(largest, isOffer ? 0 : act);
        if (!isOffer) credit = topUp(credit, act);
        else if (credit.used < credit.granted) credit = spend(credit);
        const outstanding = credit.granted - credit.used;
        expect(outstanding).toBeGreaterThanOrEqual(isOffer ? 0 : act);
        expect(credit.granted).toBeGreaterThanOrEqual(before.granted);
        expect(outstanding).toBeLessThanOrEqual(largest);
      }
    }),
  );
});
