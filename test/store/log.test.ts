// Log streams, homes and results: stored at exact offsets by the current home, final only with the whole log.
import { describe, expect, it } from "vitest";
import { attemptIdSchema, journalIdSchema, newId } from "../../shared/ids.ts";
import type { LogContent } from "../../shared/wire/log.ts";
import { mostLogBytes } from "../../server/store/append-log.ts";
import { lateKept } from "../../server/store/finish-attempts.ts";
import { readLogChunks, readLogHeads } from "../../server/store/read-log.ts";
import { emptyDigest, first, ids, resultRecord, useLab, type QueuedTask, type TestAgent } from "./fixture.ts";

const lab = useLab();
const text = (content: string): LogContent => ({ bytes: Buffer.from(content) });
const run = (from: number, ...pieces: LogContent[]) => ({ from, pieces });

const append = (
  agent: TestAgent,
  { attempt }: Pick<QueuedTask, "attempt">,
  runs: Parameters<typeof lab.store.append>[0]["runs"],
  homeNo = 1,
) => lab.store.append({ attempt, agent: agent.id, homeNo, runs });
const finish = (
  agent: TestAgent,
  { attempt }: Pick<QueuedTask, "attempt">,
  change: Parameters<typeof resultRecord>[0] = {},
  node = lab.node.id,
) => lab.store.finish({ attempt, agent: agent.id, journalId: agent.journalId, node, record: resultRecord(change) });
const resume = async (agent: TestAgent, { attempt }: Pick<QueuedTask, "attempt">, homeNo: number, node = lab.node.id) =>
  first(await lab.store.resume([{ attempt, agent: agent.id, journalId: agent.journalId, node, homeNo }]));
const out = (length: number) => ({ out: { length, sha256: emptyDigest } });

describe("append", () => {
  it("stores pieces of both streams in one batch, each at its own offset", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    const outcome = await append(agent, task, {
      out: run(0, text("hello "), text("world")),
      err: run(0, text("oops")),
    });
    expect(outcome).toEqual({ kind: "row", next: { out: 11, err: 4 }, homeNo: 1, closed: false });
    expect(await lab.log(task.attempt, 0)).toBe("hello world");
    expect(await lab.log(task.attempt, 1)).toBe("oops");
  });

  it.each([
    ["a piece stored before", 0],
    ["an overlapping piece", 3],
    ["a gap", 9],
  ])("stores nothing of %s and answers where the stream stands", async (_case, from) => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await append(agent, task, { out: run(0, text("12345")) });
    expect(await append(agent, task, { out: run(from, text("67890")) })).toMatchObject({ next: { out: 5, err: 0 } });
    expect(await lab.log(task.attempt, 0)).toBe("12345");
  });

  it("judges the two streams of one write apart", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    const outcome = await append(agent, task, { out: run(7, text("late")), err: run(0, text("good")) });
    expect(outcome).toMatchObject({ next: { out: 0, err: 4 } });
    expect([await lab.log(task.attempt, 0), await lab.log(task.attempt, 1)]).toEqual(["", "good"]);
  });

  it("counts what a log would take beyond its most, and keeps it as one omission of each stream", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    const stored = async (): Promise<unknown> =>
      (await lab.sql("select stored_bytes::int as n from attempt_log where attempt_id = $1", [task.attempt]))[0]?.["n"];
    await append(agent, task, { out: run(0, text("123"), text("45"), { omitted: 7 }), err: run(0, text("6")) });
    const before = await stored();
    // Four rows besides.
    expect(before).toBeGreaterThan(4 * 64);
    await append(agent, task, { out: run(0, text("again")) });
    expect(await stored()).toBe(before);
    await lab.sql("update attempt_log set stored_bytes = $2 where attempt_id = $1", [task.attempt, mostLogBytes - 1]);
    expect(await append(agent, task, { err: run(1, text("7")) })).toMatchObject({ next: { out: 12, err: 2 } });
    // What follows an omission of the agent's own joins it; what was sent before changes nothing.
    const over = { out: run(12, text("89"), text("0")), err: run(2, text("ab"), { omitted: 1 }) };
    for (let time = 0; time < 2; time += 1)
      expect(await append(agent, task, over)).toEqual({
        kind: "row",
        homeNo: 1,
        closed: false,
        next: { out: 15, err: 5 },
      });
    expect(await append(agent, task, { err: run(5, text("c")) })).toMatchObject({ next: { out: 15, err: 6 } });
    const pieces = async (stream: "out" | "err", from: number) =>
      (await readLogChunks(lab.database.durable, { attempt: task.attempt, stream, from, most: 10 })).map((piece) => [
        piece.offset,
        "omitted" in piece.content ? piece.content.omitted : Buffer.from(piece.content.bytes).toString(),
      ]);
    expect(await pieces("out", 0)).toEqual([
      [0, "123"],
      [3, "45"],
      [5, 10],
    ]);
    expect(await pieces("err", 0)).toEqual([
      [0, "6"],
      [1, "7"],
      [2, 4],
    ]);
    // Who has read a part of an omission goes on within it.
    expect(await pieces("err", 5)).toEqual([[2, 4]]);
    const later = await lab.agent();
    expect(await append(later, task, { err: run(6, text("d")) })).toEqual({ kind: "unknown" });
    expect(await append(agent, task, { err: run(6, text("d")) }, 0)).toMatchObject({ next: { err: 6 } });
    expect(await finish(agent, task, { ...out(15), err: { length: 6, sha256: emptyDigest } })).toMatchObject({
      kind: "stored",
    });
    expect(await append(agent, task, { err: run(6, text("d")) })).toMatchObject({ closed: true, next: { err: 6 } });
  });

  it("counts omitted bytes as produced and keeps their place", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    const outcome = await append(agent, task, { out: run(0, text("head"), { omitted: 5_000_000_000 }, text("tail")) });
    expect(outcome).toMatchObject({ next: { out: 5_000_000_008 } });
    const pieces = await readLogChunks(lab.database.durable, {
      attempt: task.attempt,
      stream: "out",
      from: 0,
      most: 10,
    });
    expect(
      pieces.map(({ offset, content }) => [
        offset,
        "omitted" in content ? content.omitted : Buffer.from(content.bytes).toString(),
      ]),
    ).toEqual([
      [0, "head"],
      [4, 5_000_000_000],
      [5_000_000_004, "tail"],
    ]);
  });

  it("keeps every byte value and the largest piece", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    const bytes = Buffer.from(Array.from({ length: 65_536 }, (_, index) => index % 256));
    await append(agent, task, { out: run(0, { bytes }, { bytes: bytes.subarray(0, 1) }) });
    const pieces = await readLogChunks(lab.database.durable, {
      attempt: task.attempt,
      stream: "out",
      from: 0,
      most: 10,
    });
    const content = first(pieces).content;
    expect("bytes" in content && Buffer.compare(content.bytes, bytes)).toBe(0);
    expect(pieces).toHaveLength(2);
  });

  it("takes nothing from a superseded home and says which home counts", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await resume(agent, task, 3);
    expect(await append(agent, task, { out: run(0, text("old")) }, 2)).toEqual({
      kind: "row",
      next: { out: 0, err: 0 },
      homeNo: 3,
      closed: false,
    });
    expect(await lab.attempt(task.attempt)).toMatchObject({ home_no: 3, out_next: 0 });
  });

  it("takes a greater home number as the home, for its resume may have been lost", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    expect(await append(agent, task, { out: run(0, text("new")) }, 2)).toMatchObject({ next: { out: 3 }, homeNo: 2 });
    expect(await append(agent, task, { out: run(3, text("old")) }, 1)).toMatchObject({ next: { out: 3 }, homeNo: 2 });
  });

  it("takes nothing once the attempt is final", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await finish(agent, task);
    expect(await append(agent, task, { out: run(0, text("more")) })).toMatchObject({ closed: true, next: { out: 0 } });
    expect(await lab.log(task.attempt, 0)).toBe("");
  });

  it("answers unknown for an attempt that never was", async () => {
    const agent = await lab.agent();
    expect(await append(agent, { attempt: newId(ids, attemptIdSchema) }, { out: run(0, text("x")) })).toEqual({
      kind: "unknown",
    });
  });

  it("cuts the pieces of many attempts in one batch without mixing them", async () => {
    const agent = await lab.agent();
    const tasks: QueuedTask[] = [];
    for (let count = 0; count < 5; count += 1) tasks.push(await lab.accepted(agent));
    const outcomes = await Promise.all(
      tasks.map((task, index) =>
        append(agent, task, {
          out: run(0, text(`a${index}`), { omitted: index + 1 }, text(`b${index}`)),
          err: run(0, text("e".repeat(index + 1))),
        }),
      ),
    );
    expect(outcomes.every((outcome) => outcome.kind === "row")).toBe(true);
    for (const [index, { attempt }] of tasks.entries()) {
      expect([await lab.log(attempt, 0), await lab.log(attempt, 1)]).toEqual([
        `a${index}<${index + 1}>b${index}`,
        "e".repeat(index + 1),
      ]);
    }
  });
});

describe("resume", () => {
  it("moves the home and answers where each stream stands", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await append(agent, task, { out: run(0, text("abc")) });
    const other = await lab.otherNode("node-b");
    expect(await resume(agent, task, 2, other.id)).toEqual({
      kind: "row",
      homeNo: 2,
      out: 3,
      err: 0,
      final: false,
      byAgent: false,
    });
    expect(await lab.attempt(task.attempt)).toMatchObject({ home_no: 2, home_node: other.id });
  });

  it("changes nothing with a home number that is not greater, in whatever order moves arrive", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    const other = await lab.otherNode("node-order");
    await resume(agent, task, 3, other.id);
    for (const homeNo of [2, 3]) expect(await resume(agent, task, homeNo)).toMatchObject({ homeNo: 3 });
    expect(await lab.attempt(task.attempt)).toMatchObject({ home_no: 3, home_node: other.id });
  });

  it("implies acceptance when that message was lost", async () => {
    const agent = await lab.agent();
    const task = await lab.offered(agent);
    await resume(agent, task, 2);
    expect(await lab.attempt(task.attempt)).toMatchObject({ rank: 2, state: "accepted", home_no: 2 });
  });

  it("says that the attempt is final and whether the agent's own result ended it", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await finish(agent, task);
    expect(await resume(agent, task, 2)).toMatchObject({ final: true, byAgent: true, homeNo: 1 });
    expect(await lab.attempt(task.attempt)).toMatchObject({ rank: 9, state: "succeeded", home_no: 1 });
  });

  it("answers unknown for an attempt of another journal and for one that never was", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    expect(await resume({ ...agent, journalId: newId(ids, journalIdSchema) }, task, 2)).toEqual({ kind: "unknown" });
    expect(await resume(agent, { attempt: newId(ids, attemptIdSchema) }, 2)).toEqual({ kind: "unknown" });
    expect(await lab.attempt(task.attempt)).toMatchObject({ home_no: 1 });
  });
});

describe("finish", () => {
  it("stores a result whose whole log is stored, and closes the log", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await append(agent, task, { out: run(0, text("abc")) });
    expect(await finish(agent, task, { outcome: "failed", reason: "exit-code", exitCode: 3, ...out(3) })).toEqual({
      kind: "stored",
    });
    const row = await lab.attempt(task.attempt);
    expect(row).toMatchObject({
      rank: 9,
      state: "failed",
      reason: "exit-code",
      exit_code: 3,
      signal: null,
      closed: true,
    });
    expect(row["result"]).toMatchObject({ out: { length: 3 }, durationMs: 1_000 });
  });

  it.each([
    ["out", { out: { length: 4, sha256: emptyDigest } }],
    ["err", { err: { length: 1, sha256: emptyDigest } }],
  ])("stays open while %s is stored short of its length, and says from where to send", async (_stream, change) => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await append(agent, task, { out: run(0, text("abc")) });
    expect(await finish(agent, task, change)).toEqual({ kind: "behind", out: 3, err: 0, homeNo: 1 });
    expect(await lab.attempt(task.attempt)).toMatchObject({ rank: 2, result: null, closed: false });
  });

  it("is stored when the server has more log than the result counts", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await append(agent, task, { out: run(0, text("abc")) });
    expect(await finish(agent, task, out(2))).toEqual({ kind: "stored" });
  });

  it("answers same to the same result again, through any node, and changes nothing", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await finish(agent, task);
    const before = await lab.attempt(task.attempt);
    const other = await lab.otherNode("node-same");
    expect(await finish(agent, task, {}, other.id)).toEqual({ kind: "same" });
    expect(await lab.attempt(task.attempt)).toEqual(before);
    expect(await lab.sql(`select 1 from late_result where attempt_id = $1`, [task.attempt])).toEqual([]);
  });

  it("keeps a second, different result aside, once, and never changes the verdict", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await finish(agent, task);
    const before = await lab.attempt(task.attempt);
    for (let count = 0; count < 2; count += 1)
      expect(await finish(agent, task, { outcome: "failed", exitCode: 1 })).toEqual({ kind: "late" });
    expect(await lab.attempt(task.attempt)).toEqual(before);
    expect(
      await lab.sql(`select result ->> 'outcome' as outcome from late_result where attempt_id = $1`, [task.attempt]),
    ).toEqual([{ outcome: "failed" }]);
  });

  it("keeps so many late results of an attempt and no more, and acknowledges the others all the same", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await finish(agent, task);
    for (let exitCode = 1; exitCode <= lateKept + 5; exitCode += 1)
      expect(await finish(agent, task, { outcome: "failed", exitCode })).toEqual({ kind: "late" });
    const kept = await lab.sql(
      `select (result ->> 'exitCode')::int as code from late_result where attempt_id = $1 order by 1`,
      [task.attempt],
    );
    expect(kept.map(({ code }) => code)).toEqual(Array.from({ length: lateKept }, (_, at) => at + 1));
  });

  it.each(["lost", "abandoned"])("keeps the result of an attempt the server has ended as %s aside", async (state) => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await lab.sql(`update attempt set rank = 9, state = $2 where id = $1`, [task.attempt, state]);
    await lab.sql(`update attempt_log set closed = true where attempt_id = $1`, [task.attempt]);
    expect(await finish(agent, task, out(5))).toEqual({ kind: "late" });
    expect(await lab.attempt(task.attempt)).toMatchObject({ state, exit_code: null });
  });

  it("keeps a result from another journal aside while the attempt goes on", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    expect(await finish({ ...agent, journalId: newId(ids, journalIdSchema) }, task)).toEqual({ kind: "late" });
    expect(await lab.attempt(task.attempt)).toMatchObject({ rank: 2, state: "accepted" });
  });

  it("implies all ranks below it", async () => {
    const agent = await lab.agent();
    const task = await lab.offered(agent);
    expect(await finish(agent, task)).toEqual({ kind: "stored" });
    const row = await lab.attempt(task.attempt);
    expect([row["accepted_at"], row["started_at"]]).toEqual([expect.any(Date), expect.any(Date)]);
  });

  it("does not invent a start for a script that never started", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await finish(agent, task, { outcome: "cancelled", reason: "never-started", exitCode: null, startedAtMs: null });
    expect(await lab.attempt(task.attempt)).toMatchObject({ state: "cancelled", started_at: null });
  });

  it("answers unknown for an attempt that never was", async () => {
    const agent = await lab.agent();
    expect(await finish(agent, { attempt: newId(ids, attemptIdSchema) })).toEqual({ kind: "unknown" });
  });

  it("stores a reason and signal that hold a NUL, and knows the same result again", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    const change = { outcome: "failed" as const, reason: "a\0b", signal: "SIG\0", exitCode: null };
    expect(await finish(agent, task, change)).toEqual({ kind: "stored" });
    expect(await finish(agent, task, change)).toEqual({ kind: "same" });
    expect(await lab.attempt(task.attempt)).toMatchObject({ reason: "a\u{FFFD}b" });
  });

  it("does not fail a neighbour of the same batch", async () => {
    const agent = await lab.agent();
    const [good, bad] = [await lab.accepted(agent), await lab.accepted(agent)];
    const outOfRange = { finishedAtMs: 1, exitCode: 70_000 };
    const [stored, failed] = await Promise.allSettled([finish(agent, good), finish(agent, bad, outOfRange)]);
    expect(stored).toMatchObject({ status: "fulfilled", value: { kind: "stored" } });
    expect(failed).toMatchObject({ status: "rejected", reason: { code: "internal" } });
  });
});

describe("reading a log", () => {
  it("answers pieces that end after the position, from the piece that holds it on", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await append(agent, task, { out: run(0, text("aaa"), text("bbb"), text("ccc")) });
    const read = async (from: number) =>
      (await readLogChunks(lab.database.durable, { attempt: task.attempt, stream: "out", from, most: 2 })).map(
        (piece) => piece.offset,
      );
    expect(await Promise.all([read(0), read(2), read(3), read(7), read(9), read(99)])).toEqual([
      [0, 3],
      [0, 3],
      [3, 6],
      [6],
      [],
      [],
    ]);
  });

  it("answers heads of the latest attempt of each task with its home's name", async () => {
    const agent = await lab.agent();
    const task = await lab.accepted(agent);
    await append(agent, task, { out: run(0, text("abc")) });
    const unknown = newId(ids, attemptIdSchema);
    const heads = await readLogHeads(lab.database.durable, [task.task, unknown as unknown as typeof task.task]);
    expect(heads).toEqual([
      {
        attempt: task.attempt,
        task: task.task,
        state: "accepted",
        rank: 2,
        reason: "",
        home: "node-a",
        cancelRequested: false,
        out: 3,
        err: 0,
        progressPercent: null,
        progressMessage: null,
        progressAt: null,
      },
    ]);
  });
});
