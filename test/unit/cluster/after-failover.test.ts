// A node whose database failed over: it notices by the list's timeline and has each agent with a session asked again, once.
import { beforeEach, describe, expect, it } from "vitest";
import { Members } from "../../../server/cluster/members.ts";
import { Wake } from "../../../server/cluster/wake.ts";
import { Background } from "../../../shared/background.ts";
import { AppError } from "../../../shared/errors.ts";
import { agentIdSchema, bootIdSchema, nodeIdSchema, type AgentId } from "../../../shared/ids.ts";
import { silentLogger as logger } from "../../../shared/logger.ts";
import { FakeClock } from "../../fakes/clock.ts";
import { ModelDatabase } from "../../simulation/model/database.ts";
import { createModelStore } from "../../simulation/model/store.ts";
import { uuid } from "../tasks/scene.ts";

const agents = [1, 2, 3].map((number) => agentIdSchema.parse(uuid(number)));
let clock: FakeClock;
let background: Background;
let database: ModelDatabase;
let asked: AgentId[];
let refusing: Set<AgentId>;

/** Lets time pass, second by second, with what it starts. */
async function pass(seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second += 1) {
    clock.advance(1_000);
    await background.settle();
  }
}

beforeEach(async () => {
  clock = new FakeClock();
  background = new Background({ logger });
  database = new ModelDatabase(() => clock.wallMs());
  asked = [];
  refusing = new Set();
  const store = createModelStore(database);
  const wake = new Wake(
    {
      store,
      clock,
      background,
      logger,
      sessions: { agents: () => agents, credentials: () => [], toldSlots: () => [] },
    },
    {
      work: () => undefined,
      cancels: () => undefined,
      distrusted: () => undefined,
      ended: () => undefined,
      settings: () => undefined,
      settlePresence: () => Promise.resolve(),
      lookAgain: async (agent) => {
        if (refusing.has(agent)) throw new AppError("database.unavailable", "away");
        asked.push(agent);
      },
    },
  );
  const load = () => ({ active: 0, sessions: agents.length, draining: false });
  const members = new Members({
    store,
    clock,
    background,
    logger,
    load,
    onList: () => undefined,
    onFailover: () => wake.failedOver(),
    onSettings: () => Promise.resolve(),
    onOthers: () => undefined,
    onJoined: () => undefined,
    onEnded: () => undefined,
  });
  const id = nodeIdSchema.parse(uuid(9));
  const bootId = bootIdSchema.parse(uuid(10));
  await members.join({ id, name: "node-a", bootId, version: "1.0.0", addresses: ["node-a:10943"] });
  await members.start();
  await wake.start();
});

describe("a node", () => {
  it("asks nobody while the database stays the same, and each agent once after it failed over", async () => {
    await pass(10);
    expect(asked).toEqual([]);
    database.failOver(0);
    await pass(20);
    expect(asked).toEqual(agents);
  });

  it("asks again whom it could not ask, and no other", async () => {
    const [, second] = agents;
    if (second === undefined) throw new Error("there are three agents");
    database.failOver(0);
    refusing.add(second);
    await pass(10);
    refusing.clear();
    await pass(10);
    expect(asked.toSorted()).toEqual([...agents].toSorted());
    expect(asked.at(-1)).toBe(second);
  });
});
