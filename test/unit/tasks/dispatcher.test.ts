// The claim loop against a store that a test answers: whom it asks for, what it hands on, what it keeps in mind.
import { describe, expect, it } from "vitest";
import { Dispatcher, type DispatcherDeps, type OfferTarget } from "../../../server/tasks/dispatcher.ts";
import { claimBytes, type ClaimedAttempt, type ClaimInput } from "../../../server/store/claim-attempts.ts";
import type { ReleasedOffer } from "../../../server/store/release-offers.ts";
import { Background } from "../../../shared/background.ts";
import { AppError } from "../../../shared/errors.ts";
import { agentIdSchema, bootIdSchema, journalIdSchema, type AgentId } from "../../../shared/ids.ts";
import { silentLogger } from "../../../shared/logger.ts";
import type { Lane } from "../../../shared/task.ts";
import { FakeClock } from "../../fakes/clock.ts";
import { attempt, claimed, node, uuid } from "./scene.ts";

const agentNo = (number: number): AgentId => agentIdSchema.parse(uuid(100 + number));
const identity = { bootId: bootIdSchema.parse(uuid(4)), journalId: journalIdSchema.parse(uuid(3)) };

class FakeSession implements OfferTarget {
  readonly agent: AgentId;
  identity: OfferTarget["identity"] = identity;
  readonly credit: Record<Lane, number>;
  readonly offered: ClaimedAttempt[] = [];
  offerableBytes = 1_000_000;

  constructor(agent: AgentId, credit: Partial<Record<Lane, number>>) {
    this.agent = agent;
    this.credit = { work: 0, system: 0, ...credit };
  }
  claimable(lane: Lane, bytesAside: number): number {
    return bytesAside >= this.offerableBytes ? 0 : this.credit[lane];
  }
  offer(attempts: readonly ClaimedAttempt[]): void {
    for (const one of attempts) this.credit[one.lane] -= 1;
    this.offered.push(...attempts);
  }
}

type Room = DispatcherDeps["room"];
/** A node without others and with more room than any test needs. */
const alone: Room = {
  isShared: false,
  picks: () => 1_000,
  room: () => 1_000,
  took: () => undefined,
  mayOfferAtOnce: () => true,
};

type Answer = (input: ClaimInput) => readonly ClaimedAttempt[] | AppError;

function bench(
  sessions: readonly FakeSession[],
  answers: readonly Answer[],
  options: { readonly largestClaim?: number; readonly room?: Room; readonly pending?: () => number } = {},
) {
  const asked: ClaimInput[] = [];
  const released: ReleasedOffer[] = [];
  const clock = new FakeClock();
  const background = new Background({ logger: silentLogger });
  const open = new Map(sessions.map((session) => [session.agent, session]));
  let during: (() => void) | undefined;
  const dispatcher = new Dispatcher(
    {
      store: {
        claim: (input) => {
          asked.push(input);
          during?.();
          during = undefined;
          const answer = answers[asked.length - 1]?.(input) ?? [];
          return answer instanceof AppError ? Promise.reject(answer) : Promise.resolve([...answer]);
        },
        release: (_node, offers) => {
          released.push(...offers);
          return Promise.resolve();
        },
        pending: () => Promise.resolve(options.pending?.() ?? 0),
      },
      room: options.room ?? alone,
      sessions: open,
      background,
      clock,
      logger: silentLogger,
    },
    { node, ...(options.largestClaim === undefined ? {} : { largestClaim: options.largestClaim }) },
  );
  return {
    dispatcher,
    asked,
    released,
    clock,
    open,
    settle: () => background.settle(),
    whileClaiming: (act: () => void) => (during = act),
  };
}

const of = (agent: AgentId, number: number, lane: Lane = "work") => claimed(number, { agent, lane });
const creditsOf = (input: ClaimInput | undefined) =>
  input?.credits.map(({ agent, lane, credit }) => [agent, lane, credit]);

describe("the claim loop", () => {
  it("asks for agents with a session and credit, per lane, and hands on what it gets", async () => {
    const [a, b, c] = [
      new FakeSession(agentNo(1), { work: 2, system: 1 }),
      new FakeSession(agentNo(2), { work: 1 }),
      new FakeSession(agentNo(3), {}),
    ];
    const { dispatcher, asked, settle } = bench([a, b, c], [() => [of(a.agent, 1), of(b.agent, 2)]]);
    dispatcher.mayHaveWork([a.agent, b.agent, c.agent, agentNo(9)]);
    await settle();
    expect(new Set(creditsOf(asked[0]))).toEqual(
      new Set([
        [a.agent, "system", 1],
        [a.agent, "work", 2],
        [b.agent, "work", 1],
      ]),
    );
    expect(asked[0]?.node).toBe(node);
    expect([a.offered, b.offered].map((offers) => offers.map((one) => one.attempt))).toEqual([
      [attempt(1)],
      [attempt(2)],
    ]);
  });

  it("asks nothing for agents without a session here", async () => {
    const { dispatcher, asked, settle } = bench([], []);
    dispatcher.mayHaveWork([agentNo(1)]);
    await settle();
    expect(asked).toEqual([]);
  });

  it("forgets a lane that had less than its credit, and asks again once it is marked", async () => {
    const a = new FakeSession(agentNo(1), { work: 5 });
    const { dispatcher, asked, settle } = bench([a], []);
    dispatcher.mayHaveWork([a.agent]);
    await settle();
    dispatcher.hasCredit(a.agent);
    await settle();
    expect(asked).toHaveLength(1);
    dispatcher.mayHaveWork([a.agent]);
    await settle();
    expect(asked).toHaveLength(2);
  });

  it("keeps in mind a lane whose claim ended at its bytes, and all of them where the whole claim did", async () => {
    const [a, b] = [new FakeSession(agentNo(1), { work: 9 }), new FakeSession(agentNo(2), { work: 9 })];
    const large = (agent: AgentId, number: number, bytes: number) => ({
      ...of(agent, number),
      spec: " ".repeat(bytes),
    });
    const answers: Answer[] = [
      () => [large(a.agent, 1, claimBytes.all)],
      () => [large(a.agent, 2, claimBytes.lane)],
      () => [of(a.agent, 3)],
    ];
    const { dispatcher, asked, settle } = bench([a, b], answers);
    dispatcher.mayHaveWork([a.agent, b.agent]);
    await settle();
    const agents = asked.map(({ credits }) => credits.map(({ agent }) => agent));
    expect(agents).toEqual([[a.agent, b.agent], [a.agent, b.agent], [a.agent]]);
  });

  it("keeps in mind an agent that used all its credit, and asks when it grants more", async () => {
    const a = new FakeSession(agentNo(1), { work: 1 });
    const { dispatcher, asked, settle } = bench([a], [() => [of(a.agent, 1)], () => [of(a.agent, 2)]]);
    dispatcher.mayHaveWork([a.agent]);
    await settle();
    expect(asked).toHaveLength(1);
    a.credit.work = 1;
    dispatcher.hasCredit(a.agent);
    await settle();
    expect(a.offered).toHaveLength(2);
  });

  it("looks for offers to be made again until a claim leaves credit over: there may be more of them than credit", async () => {
    const a = new FakeSession(agentNo(1), { work: 1 });
    const { dispatcher, asked, settle } = bench([a], [() => [of(a.agent, 1)], () => [of(a.agent, 2)]]);
    dispatcher.mayHaveWork([a.agent], [a.agent]);
    await settle();
    for (const credit of [1, 2, 2]) {
      a.credit.work = credit;
      dispatcher.mayHaveWork([a.agent]);
      await settle();
    }
    expect(asked.map(({ credits }) => credits.map(({ again }) => again))).toEqual([[true], [true], [true], [false]]);
  });

  it("does not lose a mark made while a claim is under way", async () => {
    const a = new FakeSession(agentNo(1), { work: 5 });
    const { dispatcher, asked, settle, whileClaiming } = bench([a], [() => [], () => [of(a.agent, 1)]]);
    whileClaiming(() => dispatcher.mayHaveWork([a.agent]));
    dispatcher.mayHaveWork([a.agent]);
    await settle();
    expect(asked).toHaveLength(2);
    expect(a.offered).toHaveLength(1);
  });

  it("goes on at once while claims come back full", async () => {
    const a = new FakeSession(agentNo(1), { work: 10 });
    const { dispatcher, asked, settle } = bench([a], [() => [of(a.agent, 1), of(a.agent, 2)], () => [of(a.agent, 3)]], {
      largestClaim: 2,
    });
    dispatcher.mayHaveWork([a.agent]);
    await settle();
    expect(asked.map(({ most }) => most)).toEqual([2, 2, 2]);
    expect(a.offered).toHaveLength(3);
  });

  it("releases at once what was claimed for a session that has closed meanwhile", async () => {
    const a = new FakeSession(agentNo(1), { work: 5 });
    const { dispatcher, released, open, settle, whileClaiming } = bench([a], [() => [of(a.agent, 1)]]);
    whileClaiming(() => open.delete(a.agent));
    dispatcher.mayHaveWork([a.agent]);
    await settle();
    expect(released).toMatchObject([{ attempt: attempt(1), offerNo: 1 }]);
  });

  it("tries again after a pause when the database is away", async () => {
    const a = new FakeSession(agentNo(1), { work: 5 });
    const { dispatcher, asked, clock, settle } = bench(
      [a],
      [() => new AppError("database.unavailable", "away"), () => [of(a.agent, 1)]],
    );
    dispatcher.mayHaveWork([a.agent]);
    await expect.poll(() => clock.timers).toBe(1);
    expect(asked).toHaveLength(1);
    clock.advance(1_000);
    await settle();
    expect([asked.length, a.offered.length]).toEqual([2, 1]);
  });

  it("claims nothing while it drains, and ends its pause when it is stopped", async () => {
    const a = new FakeSession(agentNo(1), { work: 5 });
    const drained = bench([a], []);
    drained.dispatcher.enter("draining");
    drained.dispatcher.mayHaveWork([a.agent]);
    await drained.settle();
    expect(drained.asked).toEqual([]);
    const stopped = bench([a], [() => new AppError("database.unavailable", "away")]);
    stopped.dispatcher.mayHaveWork([a.agent]);
    await expect.poll(() => stopped.clock.timers).toBe(1);
    stopped.dispatcher.enter("stopped");
    await stopped.settle();
    expect([stopped.asked.length, stopped.clock.timers]).toEqual([1, 0]);
  });
});

describe("the fast path's reservation", () => {
  it("sets one credit aside until it is settled, and names boot and journal", async () => {
    const a = new FakeSession(agentNo(1), { work: 2 });
    const { dispatcher, asked, settle } = bench([a], []);
    expect(dispatcher.reserve(a.agent, "work", 100)).toEqual(identity);
    expect(dispatcher.reserve(a.agent, "work", 100)).toEqual(identity);
    expect(dispatcher.reserve(a.agent, "work", 100)).toBeUndefined();
    dispatcher.settle(a.agent, "work", 100, of(a.agent, 1));
    expect(a.offered).toHaveLength(1);
    // One is still reserved and one is used: nothing is left to ask for.
    dispatcher.mayHaveWork([a.agent]);
    await settle();
    expect(asked).toEqual([]);
  });

  it("is refused while older work is known, without credit, without a greeted session and while draining [fast path and older queue, drain]", () => {
    const a = new FakeSession(agentNo(1), { work: 0, system: 1 });
    const { dispatcher, open } = bench([a], []);
    expect(dispatcher.reserve(a.agent, "work", 100)).toBeUndefined();
    dispatcher.mayHaveWork([a.agent]);
    a.credit.work = 5;
    expect(dispatcher.reserve(a.agent, "work", 100)).toBeUndefined();
    dispatcher.forget(a.agent);
    expect(dispatcher.reserve(a.agent, "work", 100)).toEqual(identity);
    a.identity = undefined;
    expect(dispatcher.reserve(a.agent, "work", 100)).toBeUndefined();
    a.identity = identity;
    open.delete(a.agent);
    expect(dispatcher.reserve(a.agent, "work", 100)).toBeUndefined();
    open.set(a.agent, a);
    dispatcher.enter("draining");
    expect(dispatcher.reserve(a.agent, "work", 100)).toBeUndefined();
  });

  it("is refused where the bytes set aside reach what may be offered, whichever lane they are of; a first one never is", async () => {
    const a = new FakeSession(agentNo(1), { work: 9, system: 9 });
    a.offerableBytes = 1_000;
    const { dispatcher, asked, settle } = bench([a], [() => [of(a.agent, 3)]]);
    expect(dispatcher.reserve(a.agent, "work", 5_000)).toEqual(identity);
    expect(dispatcher.reserve(a.agent, "work", 1)).toBeUndefined();
    expect(dispatcher.reserve(a.agent, "system", 1)).toBeUndefined();
    // Nor is more claimed until that is settled, and then it is, if what was set aside was not used.
    dispatcher.mayHaveWork([a.agent]);
    await settle();
    expect(asked).toEqual([]);
    dispatcher.settle(a.agent, "work", 5_000, of(a.agent, 1));
    await settle();
    expect(asked).toHaveLength(1);
    dispatcher.forget(a.agent);
    for (const bytes of [600, 399, 1]) expect(dispatcher.reserve(a.agent, "work", bytes)).toEqual(identity);
    expect(dispatcher.reserve(a.agent, "work", 1)).toBeUndefined();
  });

  it("goes through the claim when the attempt was stored queued [fast path, COMMIT unknown]", async () => {
    const a = new FakeSession(agentNo(1), { work: 1 });
    const { dispatcher, asked, settle } = bench([a], [() => [of(a.agent, 1)]]);
    dispatcher.reserve(a.agent, "work", 100);
    dispatcher.settle(a.agent, "work", 100, undefined);
    await settle();
    expect(creditsOf(asked[0])).toEqual([[a.agent, "work", 1]]);
    expect(a.offered).toHaveLength(1);
  });

  it("releases the offer when the session closed while it was being stored", async () => {
    const a = new FakeSession(agentNo(1), { work: 1 });
    const { dispatcher, released, open, settle } = bench([a], []);
    dispatcher.reserve(a.agent, "work", 100);
    open.delete(a.agent);
    dispatcher.settle(a.agent, "work", 100, of(a.agent, 1));
    await settle();
    expect(released).toMatchObject([{ attempt: attempt(1) }]);
  });
});
