// What a node looks at when a hint tells it, on the model of the database.
import { describe, expect, it } from "vitest";
import { Wake } from "../../../server/cluster/wake.ts";
import { Background } from "../../../shared/background.ts";
import { agentIdSchema, bootIdSchema } from "../../../shared/ids.ts";
import { silentLogger as logger } from "../../../shared/logger.ts";
import { FakeClock } from "../../fakes/clock.ts";
import { ModelDatabase } from "../../simulation/model/database.ts";
import { createModelStore } from "../../simulation/model/store.ts";
import { uuid } from "../tasks/scene.ts";

describe("a hint", () => {
  it("that comes while a look is under way has it look once more: what it tells of may be younger than the read", async () => {
    const clock = new FakeClock();
    const background = new Background({ logger });
    const agent = agentIdSchema.parse(uuid(1));
    const reads: (() => void)[] = [];
    const store = {
      ...createModelStore(new ModelDatabase(() => clock.wallMs())),
      distrusted: () => {
        const read = Promise.withResolvers<[]>();
        reads.push(() => read.resolve([]));
        return read.promise;
      },
    };
    const credential = { agent, thumbprint: "t", bootId: bootIdSchema.parse(uuid(2)) };
    const wake = new Wake(
      {
        store,
        clock,
        background,
        logger,
        sessions: { agents: () => [agent], credentials: () => [credential], toldSlots: () => [] },
      },
      {
        work: () => undefined,
        cancels: () => undefined,
        distrusted: () => undefined,
        ended: () => undefined,
        settings: () => undefined,
        settlePresence: () => Promise.resolve(),
        lookAgain: () => Promise.resolve(),
      },
    );
    wake.trust();
    wake.trust();
    wake.trust();
    expect(reads).toHaveLength(1);
    reads[0]?.();
    for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
    expect(reads).toHaveLength(2);
    reads[1]?.();
    await background.settle();
    expect(reads).toHaveLength(2);
  });
});
