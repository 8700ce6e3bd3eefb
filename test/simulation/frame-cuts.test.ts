// One whole exchange over the bytes of real WebSocket frames, cut within headers, masks and payloads of either direction: the
// end is always that of the undisturbed run (fault 58). Here every 23rd byte, by a seeded phase; test/long/frame-cuts.test.ts
// cuts at every one. HOLDFAST_SEED=n chooses exchange and phase.
import { describe, expect, test } from "vitest";
import { runExchange } from "./cuts/exchange.ts";
import { describeCuts, runCuts } from "./cuts/run-cuts.ts";

const seed = Number(process.env["HOLDFAST_SEED"] ?? Date.now() % 1_000_000);
const say = (line: string): void => void process.stdout.write(`frame cuts, ${line}, seed ${seed}\n`);
const phaseOf = (step: number): number => seed % step;

describe("the exchange nobody disturbs", () => {
  test("keeps every promise, comes by every kind of end and leaves nothing behind", async () => {
    const { end, connections, isCut } = await runExchange(seed);
    const stored = (out: number, err: number) => ({ out: [out, "right"], err: [err, "right"] });
    expect([connections, isCut]).toEqual([1, false]);
    expect(end).toMatchObject({
      tasks: [
        { name: "endless", attempts: [{ state: "cancelled", signal: "SIGTERM", starts: 1, log: stored(120, 50) }] },
        { name: "last", attempts: [{ state: "succeeded", exitCode: 0, starts: 1, log: stored(30, 0) }] },
        { name: "refused", attempts: [{ state: "refused", reason: "interpreter-missing", starts: 0 }] },
        { name: "script", attempts: [{ state: "failed", exitCode: 7, starts: 1, log: stored(120, 50) }] },
      ],
      lateResults: 0,
      sessions: 0,
      presence: 0,
      journal: { open: 0, acknowledged: 0, boot: 1 },
      files: ["/data/journal"],
      folders: 0,
      violations: [],
    });
    expect(end.journal.closed.map(([task]) => task)).toEqual(["endless", "last", "refused", "script"]);
  });

  test("is the same to the byte when it is played again, and with the same cut", async () => {
    const cut = { direction: "toAgent", afterBytes: 700, act: "reset" } as const;
    const [first, again] = [await runExchange(seed), await runExchange(seed)];
    expect(again).toEqual(first);
    const [broken, brokenAgain] = [await runExchange(seed, cut), await runExchange(seed, cut)];
    expect(brokenAgain).toEqual(broken);
    expect([broken.isCut, broken.passed.toAgent, broken.connections]).toEqual([true, 700, 2]);
    expect(broken.hash).not.toBe(first.hash);
  });
});

describe("an exchange that is cut ends as if nothing had happened", () => {
  test("by a reset after any byte", async () => {
    const report = await runCuts({ seed, act: "reset", at: { step: 23, phase: phaseOf(23) } });
    say(describeCuts(report, "resets at every 23rd byte"));
    expect(report.wrong).toEqual([]);
    expect(report.made).toBe(report.asked);
    expect(report.asked).toBeGreaterThan(250);
  });

  test("by a silence of one direction after any byte, until a heartbeat is missed", async () => {
    const report = await runCuts({ seed, act: "black-hole", at: { step: 37, phase: phaseOf(37) } });
    say(describeCuts(report, "silences at every 37th byte"));
    expect(report.wrong).toEqual([]);
    expect(report.made).toBe(report.asked);
    expect(report.asked).toBeGreaterThan(150);
  });
});

describe("a mistake is found by cuts", () => {
  test("that keeps what had come of a frame: by those within a frame, and by none between two", async () => {
    const bug = "bytes of a broken connection kept";
    const within = await runCuts({ seed, act: "reset", at: { step: 97, phase: 1 }, bug });
    expect(within.wrong.length).toBeGreaterThan(within.asked / 2);
    const between = await runCuts({ seed, act: "reset", at: "frames", bug });
    expect([between.wrong, between.made]).toEqual([[], between.asked]);
    expect(between.asked).toBeGreaterThan(30);
  });

  test.each([
    ["that never repeats an offer", "unanswered offers never made again", "reset"],
    ["that takes a result for acknowledged once it is sent", "files go with the first send", "black-hole"],
  ] as const)("%s", async (_what, bug, act) => {
    const { wrong } = await runCuts({ seed, act, at: { step: 67, phase: phaseOf(67) }, bug });
    expect(wrong.length).toBeGreaterThan(0);
  });
});
