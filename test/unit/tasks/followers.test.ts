// Readers that wait for a task to change: woken by this node's own writes at once, by one query for all otherwise.
import { describe, expect, it } from "vitest";
import { Followers } from "../../../server/tasks/followers.ts";
import { Background } from "../../../shared/background.ts";
import { afterThisTurn } from "../../../shared/clock.ts";
import { taskIdSchema, type TaskId } from "../../../shared/ids.ts";
import { silentLogger } from "../../../shared/logger.ts";
import { FakeClock } from "../../fakes/clock.ts";
import { attempt, uuid } from "./scene.ts";

const task = (number: number): TaskId => taskIdSchema.parse(uuid(500 + number));
const head = (number: number, change: object = {}) => ({
  attempt: attempt(number),
  task: task(number),
  state: "running",
  rank: 3,
  reason: "",
  home: null,
  cancelRequested: false,
  out: 0,
  err: 0,
  progressPercent: null,
  progressMessage: null,
  progressAt: null,
  ...change,
});

async function bench() {
  const clock = new FakeClock();
  const background = new Background({ logger: silentLogger });
  const asked: unknown[][] = [];
  const rows = new Map<TaskId, ReturnType<typeof head>>();
  const durable = {
    query: (_statement: unknown, [wanted]: readonly unknown[]) => {
      const tasks = wanted as TaskId[];
      asked.push(tasks);
      return Promise.resolve(tasks.flatMap((one) => rows.get(one) ?? []));
    },
  };
  const followers = new Followers({ database: { durable }, clock, background });
  await followers.start();
  const look = async (): Promise<void> => {
    clock.advance(200);
    await background.settle();
  };
  return { followers, clock, rows, asked, look };
}

/** Whether a wait has ended by the end of this turn. */
async function ended(wait: Promise<void>): Promise<boolean> {
  let isOver = false;
  void wait.then(() => (isOver = true));
  await new Promise<void>(afterThisTurn);
  return isOver;
}
const never = new AbortController().signal;

describe("a follower", () => {
  it("is woken at the first look and then only when state, log or cancel wish have changed", async () => {
    const { followers, rows, look } = await bench();
    rows.set(task(1), head(1));
    const first = followers.wait(task(1), never);
    await look();
    expect(await ended(first)).toBe(true);
    for (const change of [
      { out: 5 },
      { out: 5, err: 1 },
      { out: 5, err: 1, cancelRequested: true },
      { out: 5, err: 1, cancelRequested: true, state: "succeeded" },
    ]) {
      const wait = followers.wait(task(1), never);
      await look();
      expect(await ended(wait)).toBe(false);
      rows.set(task(1), head(1, change));
      await look();
      expect(await ended(wait)).toBe(true);
    }
  });

  it("is woken at once by a write through this node, once its attempt is known", async () => {
    const { followers } = await bench();
    followers.learn({ attempt: attempt(1), task: task(1) });
    const [mine, other] = [followers.wait(task(1), never), followers.wait(task(2), never)];
    followers.changed(attempt(1));
    followers.changed(attempt(9));
    expect([await ended(mine), await ended(other)]).toEqual([true, false]);
  });

  it("is woken when only what the script says has changed, through another node", async () => {
    const { followers, rows, look } = await bench();
    rows.set(task(1), head(1, { progressPercent: 40, progressMessage: "", progressAt: new Date(1_000) }));
    const first = followers.wait(task(1), never);
    await look();
    expect(await ended(first)).toBe(true);
    const second = followers.wait(task(1), never);
    await look();
    expect(await ended(second)).toBe(false);
    rows.set(task(1), head(1, { progressPercent: 50, progressMessage: "", progressAt: new Date(2_000) }));
    await look();
    expect(await ended(second)).toBe(true);
  });

  it("of the same task wake together", async () => {
    const { followers } = await bench();
    const waits = [1, 2, 3].map(() => followers.wait(task(1), never));
    followers.wake(task(1));
    expect(await Promise.all(waits.map(ended))).toEqual([true, true, true]);
  });

  it("costs one query per look however many tasks are followed, and none when nobody waits", async () => {
    const { followers, asked, look } = await bench();
    const ending = new AbortController();
    const waits = Array.from({ length: 50 }, (_, index) => followers.wait(task(index), ending.signal));
    await look();
    expect(asked.map((tasks) => tasks.length)).toEqual([50]);
    ending.abort(new Error("reader left"));
    expect((await Promise.allSettled(waits)).every(({ status }) => status === "rejected")).toBe(true);
    await look();
    expect(asked).toHaveLength(1);
  });

  it("that has left is rejected with its signal's reason, also when it had left before", async () => {
    const { followers } = await bench();
    const ending = new AbortController();
    const wait = followers.wait(task(1), ending.signal);
    const reason = new Error("gone");
    ending.abort(reason);
    await expect(wait).rejects.toBe(reason);
    expect(() => followers.wait(task(1), ending.signal)).toThrow(reason);
  });

  it("is let go when the node stops, and no timer stays", async () => {
    const { followers, clock } = await bench();
    const wait = followers.wait(task(1), never);
    await followers.stop();
    expect([await ended(wait), clock.timers]).toEqual([true, 0]);
  });
});
