// What a script says of how far it is: kept with its attempt, only for the journal and home that may say it, and seen
// wherever the attempt is.
import { describe, expect, it } from "vitest";
import type { ProgressNote } from "../../server/store/note-progress.ts";
import { readLogHeads } from "../../server/store/read-log.ts";
import { listTasks } from "../../server/store/list-tasks.ts";
import { readTask } from "../../server/store/read-tasks.ts";
import { journalIdSchema, newId } from "../../shared/ids.ts";
import { ids, progressOf, resultRecord, useLab, type QueuedTask, type TestAgent } from "./fixture.ts";

const lab = useLab();

const noteOf = (agent: TestAgent, { attempt }: QueuedTask, change: Partial<ProgressNote> = {}): ProgressNote => ({
  attempt,
  agent: agent.id,
  journalId: agent.journalId,
  homeNo: 1,
  percent: 40,
  message: "copying",
  ...change,
});

async function kept({ attempt }: QueuedTask) {
  const { progress_percent: percent, progress_message: message, progress_at: at } = await lab.attempt(attempt);
  return { percent, message, at };
}

const none = { percent: null, message: null, at: null };

async function finish(agent: TestAgent, { attempt }: QueuedTask): Promise<void> {
  const { id, journalId } = agent;
  await lab.store.finish({ attempt, agent: id, journalId, node: lab.node.id, record: resultRecord() });
}

describe("progress of a script", () => {
  it("is kept with its attempt, the newest only, and shown with the task and to those who follow it", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    expect((await readTask(lab.database.durable, task.task))?.attempts[0]?.progress).toBeNull();
    await lab.store.noteProgress(noteOf(agent, task));
    await lab.store.noteProgress(noteOf(agent, task, { percent: null, message: "checking" }));
    const row = await readTask(lab.database.durable, task.task);
    expect(row?.attempts[0]?.progress).toMatchObject({ percent: null, message: "checking" });
    const at = Date.parse(row?.attempts[0]?.progress?.at ?? "");
    expect(Math.abs(at - Date.now())).toBeLessThan(60_000);
    expect(await readLogHeads(lab.database.durable, [task.task])).toMatchObject([
      { progressPercent: null, progressMessage: "checking", progressAt: at },
    ]);
    const page = { limit: 1, before: null, agent: agent.name, state: undefined };
    expect((await listTasks(lab.database.durable, page))[0]?.attempts[0]?.progress?.message).toBe("checking");
  });

  it("said again as it was keeps the time at which it was first said", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await lab.store.noteProgress(noteOf(agent, task, { percent: null }));
    const before = await kept(task);
    await lab.store.noteProgress(noteOf(agent, task, { percent: null, homeNo: 2 }));
    expect(await kept(task)).toEqual(before);
    await lab.store.noteProgress(noteOf(agent, task, { percent: 0 }));
    expect(await kept(task)).toMatchObject({ percent: 0, message: "copying" });
  });

  it("may come before the acceptance is stored, which takes a line of its own", async () => {
    const agent = await lab.agent();
    const task = await lab.offered(agent);
    await lab.store.noteProgress(noteOf(agent, task));
    expect(await kept(task)).toMatchObject({ percent: 40 });
    expect(await lab.attempt(task.attempt)).toMatchObject({ rank: 1, state: "offered" });
  });

  it("of another agent's attempt changes nothing, nor does that of another journal", async () => {
    const [agent, other] = [await lab.agent(), await lab.agent()];
    const task = await lab.accepted(agent);
    const before = await lab.attempt(task.attempt);
    await lab.store.noteProgress(noteOf(other, task));
    await lab.store.noteProgress({ ...noteOf(agent, task), journalId: other.journalId });
    await lab.store.noteProgress({ ...noteOf(agent, task), journalId: newId(ids, journalIdSchema) });
    expect(await lab.attempt(task.attempt)).toEqual(before);
  });

  it("of another agent's attempt, another journal's, or one that is queued does not wait for its row", async () => {
    const [agent, other] = [await lab.agent(), await lab.agent()];
    const task = await lab.accepted(agent);
    const queued = await lab.queueOne(agent);
    const foreign = [
      noteOf(other, task),
      { ...noteOf(agent, task), journalId: newId(ids, journalIdSchema) },
      noteOf(agent, queued),
    ];
    const lock = { name: "", text: "select 1 from attempt where id = any($1) for update" };
    await lab.database.transaction(async (sql) => {
      await sql.query(lock, [[task.attempt, queued.attempt]]);
      let written = 0;
      for (const note of foreign) void lab.store.noteProgress(note).then(() => (written += 1));
      await expect.poll(() => written, { timeout: 5_000, interval: 5 }).toBe(foreign.length);
    });
  });

  it("of an attempt that nobody has, or that waits for an agent, changes nothing", async () => {
    const agent = await lab.agent();
    const queued = await lab.queueOne(agent);
    await lab.store.noteProgress(noteOf(agent, queued));
    await lab.store.noteProgress({ ...noteOf(agent, queued), attempt: newId(ids, journalIdSchema) as never });
    expect(await kept(queued)).toEqual(none);
  });

  it("through a home that was superseded changes nothing", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await lab.store.progress({ ...progressOf(agent, task, 3), node: lab.node.id, reached: "running" });
    await lab.store.noteProgress(noteOf(agent, task, { homeNo: 2 }));
    expect(await kept(task)).toEqual(none);
    await lab.store.noteProgress(noteOf(agent, task, { homeNo: 3 }));
    expect(await kept(task)).toMatchObject({ percent: 40 });
  });

  it("stays what it was when the attempt has ended", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await lab.store.noteProgress(noteOf(agent, task));
    await finish(agent, task);
    const before = await kept(task);
    await lab.store.noteProgress(noteOf(agent, task, { percent: 99 }));
    expect(await kept(task)).toEqual(before);
  });

  it("of one agent cannot fail the batch that it shares with others: NUL, quotes, the longest message", async () => {
    const [one, other] = [await lab.agent(), await lab.agent()];
    const [odd, plain] = [await lab.accepted(one), await lab.accepted(other)];
    const message = `\0'"\\${"\u{1f600}".repeat(190)}`;
    await Promise.all([
      lab.store.noteProgress(noteOf(one, odd, { message })),
      lab.store.noteProgress(noteOf(other, plain, { percent: 100 })),
    ]);
    expect(await kept(odd)).toMatchObject({ message: message.replace("\0", "\u{fffd}") });
    expect(await kept(plain)).toMatchObject({ percent: 100 });
  });
});
