// Hints on connections played by hand: what becomes of one that does not listen.
import { describe, expect, it } from "vitest";
import { Hints, type HintConnection } from "../../../server/cluster/hints.ts";
import { Background } from "../../../shared/background.ts";
import { bootIdSchema } from "../../../shared/ids.ts";
import { silentLogger as logger } from "../../../shared/logger.ts";
import { FakeClock } from "../../fakes/clock.ts";
import { uuid } from "../tasks/scene.ts";

/** A database of which the first so many connections refuse to listen, as those of a standby or of a pooler do. */
function bench(refusals: number) {
  const clock = new FakeClock();
  const background = new Background({ logger });
  const open = new Set<number>();
  const sent: string[] = [];
  const unanswered = new Map<number, () => void>();
  let opened = 0;
  let failure: Error | undefined;
  let silent = 0;
  const dedicated = async (): Promise<HintConnection> => {
    opened += 1;
    const number = opened;
    open.add(number);
    return {
      on: () => undefined,
      async query(text) {
        if (text.startsWith("listen") && number <= refusals) throw new Error("cannot execute LISTEN during recovery");
        // As pg does: what is unanswered fails when its connection is ended.
        if (number === silent)
          await new Promise((_, reject) => unanswered.set(number, () => reject(new Error("Connection terminated"))));
        if (text.includes("pg_notify") && failure !== undefined) {
          const cause = failure;
          failure = undefined;
          throw cause;
        }
        sent.push(text);
      },
      async end() {
        open.delete(number);
        unanswered.get(number)?.();
      },
    };
  };
  const hints = new Hints(
    { database: { dedicated, durable: { query: async () => [] } }, clock, background, logger },
    { bootId: bootIdSchema.parse(uuid(1)), onHint: () => undefined },
  );
  /** Lets what waits for nothing but a turn go on. */
  const turns = async (): Promise<void> => {
    for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
  };
  const failNext = (cause: Error): void => {
    failure = cause;
  };
  /** The connection of that number is cut without a word. */
  const cut = (number: number): void => {
    silent = number;
  };
  return { hints, clock, background, open, sent, turns, failNext, cut };
}

describe("hints", () => {
  it("leave no connection behind that refuses to listen, and send what was said meanwhile once one does", async () => {
    const { hints, clock, background, open, sent, turns } = bench(3);
    await hints.start();
    hints.publish("work");
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await turns();
      expect(open.size).toBe(0);
      clock.advance(2_000);
    }
    await turns();
    expect(open.size).toBe(1);
    expect(sent).toEqual(["listen holdfast", "select pg_notify($1, $2)"]);
    await hints.stop();
    await background.settle();
    expect([open.size, clock.timers]).toEqual([0, 0]);
  });

  it("leave a connection on which the database says nothing any more, and keep one on which it refuses", async () => {
    const { hints, clock, open, turns, failNext } = bench(0);
    await hints.start();
    await turns();
    failNext(Object.assign(new Error("too many notifications in the NOTIFY queue"), { code: "53000" }));
    hints.publish("work");
    await turns();
    expect([...open]).toEqual([1]);
    failNext(new Error("Query read timeout"));
    clock.advance(50);
    hints.publish("work");
    await turns();
    expect([...open]).toEqual([2]);
    await hints.stop();
    expect([open.size, clock.timers]).toEqual([0, 0]);
  });

  it("replace a connection that was cut without a word within 15 s, though this node has nothing to say on it", async () => {
    const { hints, clock, background, open, sent, turns, cut } = bench(0);
    await hints.start();
    await turns();
    for (let check = 0; check < 3; check += 1) {
      clock.advance(10_000);
      await turns();
    }
    expect([[...open], sent]).toEqual([[1], ["listen holdfast", "select", "select", "select"]]);
    cut(1);
    clock.advance(14_999);
    await turns();
    expect([...open]).toEqual([1]);
    clock.advance(1);
    await turns();
    expect([...open]).toEqual([2]);
    clock.advance(10_000);
    await turns();
    expect(sent.slice(-2)).toEqual(["listen holdfast", "select"]);
    await hints.stop();
    await background.settle();
    expect([open.size, clock.timers]).toEqual([0, 0]);
  });

  it("end while the database does not answer a check", async () => {
    const { hints, clock, background, open, turns, cut } = bench(0);
    await hints.start();
    await turns();
    cut(1);
    clock.advance(10_000);
    await turns();
    await hints.stop();
    await background.settle();
    expect([open.size, clock.timers]).toEqual([0, 0]);
  });
});
