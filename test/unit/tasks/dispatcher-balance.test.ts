// The claim loop where other nodes are there too: what it leaves to them, for how long, and what pausing waits for.
import { describe, expect, it } from "vitest";
import { Dispatcher, type OfferTarget } from "../../../server/tasks/dispatcher.ts";
import type { ClaimedAttempt, ClaimInput } from "../../../server/store/claim-attempts.ts";
import { Background } from "../../../shared/background.ts";
import { agentIdSchema, bootIdSchema, journalIdSchema, type AgentId } from "../../../shared/ids.ts";
import { silentLogger } from "../../../shared/logger.ts";
import { FakeClock } from "../../fakes/clock.ts";
import { claimed, node, uuid } from "./scene.ts";

const agentNo = (number: number): AgentId => agentIdSchema.parse(uuid(100 + number));
const identity = { bootId: bootIdSchema.parse(uuid(4)), journalId: journalIdSchema.parse(uuid(3)) };

/** A queue that a claim takes from in order, for sessions with all the credit they want; others may hold its head. */
function bench(given: { readonly queue: readonly AgentId[]; readonly fair: number; readonly room: number }) {
  const state = { queue: [...given.queue], fair: given.fair, room: given.room, held: 0, counted: 0 };
  const asked: ClaimInput[] = [];
  const clock = new FakeClock();
  const background = new Background({ logger: silentLogger });
  const offered: ClaimedAttempt[] = [];
  let gate: Promise<void> = Promise.resolve();
  const session = (agent: AgentId): OfferTarget => ({
    agent,
    identity,
    claimable: (lane) => (lane === "work" ? 5 : 0),
    offer: (attempts) => void offered.push(...attempts),
  });
  const sessions = new Map([1, 2].map((number) => [agentNo(number), session(agentNo(number))]));
  const dispatcher = new Dispatcher(
    {
      store: {
        claim: async (input) => {
          asked.push(input);
          await gate;
          const wanted = new Set(input.credits.map(({ agent }) => agent));
          const taken = state.queue.filter((agent) => wanted.has(agent)).slice(state.held, state.held + input.most);
          for (const agent of taken) state.queue.splice(state.queue.indexOf(agent), 1);
          return taken.map((agent, at) => claimed(asked.length * 100 + at, { agent, lane: "work" }));
        },
        release: () => Promise.resolve(),
        pending: (agents) => {
          state.counted += 1;
          return Promise.resolve(state.queue.filter((agent) => agents.includes(agent)).length);
        },
      },
      room: {
        isShared: true,
        picks: (pending) => (pending === 0 ? 0 : Math.min(state.fair, state.room)),
        room: () => state.room,
        took: (count) => void (state.room -= count),
        mayOfferAtOnce: () => state.room > 0,
      },
      sessions,
      background,
      clock,
      logger: silentLogger,
    },
    { node },
  );
  return {
    dispatcher,
    state,
    asked,
    clock,
    offered,
    settle: () => background.settle(),
    hold: () => {
      const held = Promise.withResolvers<void>();
      gate = held.promise;
      return held.resolve;
    },
  };
}

const [a, b] = [agentNo(1), agentNo(2)];

describe("the claim loop beside other nodes", () => {
  it("claims as many as the balance gives, and leaves the rest to them for a second", async () => {
    const { dispatcher, asked, clock, offered, settle } = bench({ queue: [a, a, b, b], fair: 2, room: 10 });
    dispatcher.mayHaveWork([a, b]);
    await settle();
    expect(asked.map(({ most }) => most)).toEqual([2]);
    expect(offered).toHaveLength(2);
    clock.advance(999);
    await settle();
    expect(offered).toHaveLength(2);
    // A second later the balance gives two again, and nobody waits longer.
    clock.advance(1);
    await settle();
    expect(offered).toHaveLength(4);
  });

  it("takes after a second what the balance would never give: an agent that reaches one busy node does not starve", async () => {
    const { dispatcher, asked, clock, offered, settle } = bench({ queue: [a, a], fair: 0, room: 10 });
    dispatcher.mayHaveWork([a]);
    await settle();
    expect(asked).toEqual([]);
    clock.advance(1_000);
    await settle();
    expect(offered).toHaveLength(2);
    expect(asked[0]?.most).toBe(10);
  });

  it("never goes above its cap, however long something waits", async () => {
    const { dispatcher, asked, clock, offered, settle, state } = bench({ queue: [a, a, a], fair: 0, room: 1 });
    dispatcher.mayHaveWork([a]);
    for (let second = 0; second < 5; second += 1) {
      clock.advance(1_000);
      await settle();
    }
    expect([offered.length, asked.length]).toEqual([1, 1]);
    state.room = 5;
    clock.advance(1_000);
    await settle();
    expect(offered).toHaveLength(3);
  });

  it("counts what it took after a second before it takes what the balance gives", async () => {
    // The balance gives what there is room for: `picks` is bounded by the same cap.
    const { dispatcher, clock, offered, settle, state } = bench({ queue: [a, a, a, b, b, b], fair: 0, room: 0 });
    dispatcher.mayHaveWork([a]);
    await settle();
    clock.advance(500);
    dispatcher.mayHaveWork([b]);
    await settle();
    Object.assign(state, { fair: 3, room: 3 });
    clock.advance(500);
    await settle();
    expect(offered).toHaveLength(3);
    expect(state.room).toBe(0);
  });

  it("makes an unanswered offer again at once, whatever the balance says", async () => {
    const { dispatcher, offered, settle } = bench({ queue: [a], fair: 0, room: 10 });
    dispatcher.mayHaveWork([a], [a]);
    await settle();
    expect(offered).toHaveLength(1);
  });

  it("keeps an unanswered offer in mind while it has no room", async () => {
    const { dispatcher, asked, clock, settle, state } = bench({ queue: [a], fair: 0, room: 0 });
    dispatcher.mayHaveWork([a], [a]);
    await settle();
    expect(asked).toEqual([]);
    state.room = 1;
    clock.advance(1_000);
    await settle();
    expect(asked[0]?.credits[0]?.again).toBe(true);
  });

  it("looks again when others hold what it picked, and forgets agents for which nothing waits", async () => {
    const { dispatcher, asked, clock, offered, settle, state } = bench({ queue: [a], fair: 1, room: 10 });
    state.held = 1;
    dispatcher.mayHaveWork([a, b]);
    await settle();
    expect([asked.length, offered.length]).toEqual([1, 0]);
    state.held = 0;
    clock.advance(1_000);
    await settle();
    expect(offered).toHaveLength(1);
    const { counted } = state;
    clock.advance(1_000);
    await settle();
    clock.advance(5_000);
    await settle();
    expect(state.counted - counted).toBeLessThanOrEqual(1);
    expect(clock.timers).toBe(0);
  });
});

describe("a pause", () => {
  it("claims and reserves nothing, and goes on with what it had in mind", async () => {
    const { dispatcher, asked, offered, settle } = bench({ queue: [a], fair: 5, room: 10 });
    dispatcher.enter("paused");
    dispatcher.mayHaveWork([a]);
    await settle();
    expect([asked.length, dispatcher.reserve(b, "work", 100)]).toEqual([0, undefined]);
    dispatcher.enter("claiming");
    await settle();
    expect(offered).toHaveLength(1);
  });

  it("is quiet once the claim under way has been handed on", async () => {
    const { dispatcher, offered, settle, hold } = bench({ queue: [a], fair: 5, room: 10 });
    const letGo = hold();
    dispatcher.mayHaveWork([a]);
    dispatcher.enter("paused");
    let offeredWhenQuiet = -1;
    const quiet = dispatcher.quiet().then(() => (offeredWhenQuiet = offered.length));
    await Promise.resolve();
    expect(offeredWhenQuiet).toBe(-1);
    letGo();
    await settle();
    await quiet;
    expect(offeredWhenQuiet).toBe(1);
  });

  it("is quiet once submissions that were being stored have been settled", async () => {
    const { dispatcher } = bench({ queue: [], fair: 5, room: 10 });
    expect(dispatcher.reserve(a, "work", 100)).toEqual(identity);
    dispatcher.enter("paused");
    const quiet = dispatcher.quiet().then(() => "quiet");
    expect(await Promise.race([quiet, Promise.resolve("not yet")])).toBe("not yet");
    dispatcher.settle(a, "work", 100, claimed(1, { agent: a, lane: "work" }));
    expect(await quiet).toBe("quiet");
  });
});
