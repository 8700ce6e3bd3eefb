// Lines in the log that a peer can cause: one a minute of each kind, and a bounded number of kinds.
import { expect, test } from "vitest";
import { Seldom } from "../../../shared/seldom.ts";
import { FakeClock } from "../../fakes/clock.ts";

test("what happens again within a minute is not told again, whatever else happens", () => {
  const clock = new FakeClock();
  const seldom = new Seldom({ clock });
  expect(["a", "a", "b", "a"].map((key) => seldom.isDue(key))).toEqual([true, false, true, false]);
  clock.advance(60_000);
  expect(seldom.isDue("a")).toBe(true);
});

test("of very many kinds the oldest are forgotten", () => {
  const seldom = new Seldom({ clock: new FakeClock() });
  for (let no = 0; no < 10_001; no += 1) expect(seldom.isDue(String(no))).toBe(true);
  expect([seldom.isDue("10000"), seldom.isDue("0")]).toEqual([false, true]);
});
