// When the passing of time may end attempts.
import { describe, expect, it } from "vitest";
import { VerdictPause } from "../../../server/cluster/verdict-pause.ts";
import { silentLogger } from "../../../shared/logger.ts";

describe("verdicts by the database's clock", () => {
  it("are passed while it and our own clock agree", () => {
    const pause = new VerdictPause({ logger: silentLogger });
    expect(pause.judge({ databaseMs: 1e12, monotonicMs: 0 })).toBe("allowed");
    expect(pause.judge({ databaseMs: 1e12 + 5_100, monotonicMs: 5_000 })).toBe("allowed");
  });

  it("wait a minute after it jumped by more than 30 s, forwards or back", () => {
    for (const stepMs of [86_400_000, -86_400_000, 31_000]) {
      const pause = new VerdictPause({ logger: silentLogger });
      pause.judge({ databaseMs: 1e12, monotonicMs: 0 });
      expect(pause.judge({ databaseMs: 1e12 + 5_000 + stepMs, monotonicMs: 5_000 })).toBe("paused");
      expect(pause.judge({ databaseMs: 1e12 + 64_000 + stepMs, monotonicMs: 64_000 })).toBe("paused");
      expect(pause.judge({ databaseMs: 1e12 + 66_000 + stepMs, monotonicMs: 66_000 })).toBe("allowed");
    }
  });

  it("wait 15 s after the database was away", () => {
    const pause = new VerdictPause({ logger: silentLogger });
    pause.wasAway(10_000);
    expect(pause.judge({ databaseMs: 1e12, monotonicMs: 24_000 })).toBe("paused");
    expect(pause.judge({ databaseMs: 1e12 + 2_000, monotonicMs: 26_000 })).toBe("allowed");
  });
});
