// What an attempt waits for is done again each second until it succeeds, and no longer than the agent runs.
import { expect, test } from "vitest";
import { repeatUntilDone } from "../../../agent/repeating.ts";
import { FakeClock } from "../../fakes/clock.ts";

function repeat(failures: number) {
  const clock = new FakeClock();
  const stopping = new AbortController();
  const seen = { acts: 0, said: 0, isOver: false };
  const act = async (): Promise<void> => {
    seen.acts += 1;
    if (seen.acts <= failures) throw new Error("EMFILE");
  };
  const over = repeatUntilDone(act, { clock, signal: stopping.signal, onFailure: () => (seen.said += 1) }).then(() => {
    seen.isOver = true;
  });
  const pass = async (seconds: number): Promise<void> => {
    for (let passed = 0; passed <= seconds; passed += 1) {
      if (passed > 0) clock.advance(1_000);
      for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
    }
  };
  return { clock, stopping, seen, over, pass };
}

test("an act that fails is repeated each second until it succeeds", async () => {
  const { seen, pass } = repeat(3);
  await pass(2);
  expect(seen).toMatchObject({ acts: 3, isOver: false });
  await pass(5);
  expect(seen).toEqual({ acts: 4, said: 1, isOver: true });
});

test("a long trouble is said once a minute", async () => {
  const { seen, pass } = repeat(1_000);
  await pass(180);
  expect(seen.acts).toBeGreaterThan(170);
  expect(seen.said).toBe(4);
});

test("a stop ends the repeating at once", async () => {
  const { stopping, over, seen, clock } = repeat(1_000);
  await Promise.resolve();
  stopping.abort(new Error("stop"));
  await over;
  expect(seen.acts).toBe(1);
  expect(clock.timers).toBe(0);
});
