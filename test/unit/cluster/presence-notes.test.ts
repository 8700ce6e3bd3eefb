// Who came and went reaches the store at once when it is quiet, together when many come, and in order always.
import { describe, expect, it } from "vitest";
import { PresenceNotes } from "../../../server/cluster/presence-notes.ts";
import type { PresenceChange } from "../../../server/store/presence.ts";
import { Background } from "../../../shared/background.ts";
import { agentIdSchema, bootIdSchema, createIdSource, newId, nodeIdSchema } from "../../../shared/ids.ts";
import { silentLogger as logger } from "../../../shared/logger.ts";
import { SystemRandom } from "../../../shared/random.ts";
import { FakeClock } from "../../fakes/clock.ts";

const random = new SystemRandom();

function bench() {
  const clock = new FakeClock();
  const ids = createIdSource({ clock, random });
  const [node, nodeBootId] = [newId(ids, nodeIdSchema), newId(ids, bootIdSchema)];
  const turns: PresenceChange["change"][][] = [];
  let turn: PresenceChange["change"][] | undefined;
  const notes = new PresenceNotes({
    clock,
    background: new Background({ logger }),
    write: ({ change }) => {
      if (turn === undefined) {
        turns.push((turn = []));
        queueMicrotask(() => (turn = undefined));
      }
      turn.push(change);
      return Promise.resolve();
    },
  });
  const note = (change: PresenceChange["change"], agent = newId(ids, agentIdSchema)) =>
    notes.note({ agent, node, nodeBootId, change });
  const later = async (byMs: number) => {
    clock.advance(byMs);
    await Promise.resolve();
  };
  return { clock, notes, note, later, turns };
}

describe("presence", () => {
  it("of one agent that comes alone is written at once", async () => {
    const { note, later, turns, clock } = bench();
    note("connected");
    expect(turns).toEqual([["connected"]]);
    await later(100);
    note("disconnected");
    expect(turns).toEqual([["connected"], ["disconnected"]]);
    await later(100);
    expect(clock.timers).toBe(0);
  });

  it("of many that come together is written in one turn for each 100 ms, in the order of the changes", async () => {
    const { note, later, turns } = bench();
    for (let agent = 0; agent < 1_000; agent += 1) {
      note("connected");
      note("measured");
      note("disconnected");
      await later(0.5);
    }
    await later(100);
    expect(turns.length).toBeLessThanOrEqual(2 + 500 / 100);
    expect(turns.flat()).toEqual(Array.from({ length: 1_000 }, () => ["connected", "measured", "disconnected"]).flat());
  });

  it("that is held when the node stops is written then, and what comes after it at once", async () => {
    const { note, notes, turns, clock } = bench();
    note("connected");
    await Promise.resolve();
    note("measured");
    expect(turns).toEqual([["connected"]]);
    notes.stop();
    await Promise.resolve();
    note("disconnected");
    expect(turns).toEqual([["connected"], ["measured"], ["disconnected"]]);
    expect(clock.timers).toBe(0);
  });
});
