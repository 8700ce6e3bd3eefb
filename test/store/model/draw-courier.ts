// The courier's verbs with arguments drawn from the rows of the moment: mostly what a rightful home would send, and often
// enough what a stale, mistaken or hostile one does.
import type { LogAppend, LogRun } from "../../../server/store/append-log.ts";
import type { ClaimCredit, ClaimedAttempt } from "../../../server/store/claim-attempts.ts";
import type { Finish } from "../../../server/store/finish-attempts.ts";
import type { Greeting, GreetOutcome } from "../../../server/store/greet-agent.ts";
import { createPostgresStore } from "../../../server/store/postgres-store.ts";
import type { PresenceChange } from "../../../server/store/presence.ts";
import type { ProgressNote } from "../../../server/store/note-progress.ts";
import type { Progress } from "../../../server/store/progress-attempts.ts";
import type { Refusal } from "../../../server/store/refuse-attempts.ts";
import type { ResumeHome } from "../../../server/store/resume-attempts.ts";
import { bands, type NewSubmission, type NewTask } from "../../../server/store/submit-tasks.ts";
import type { BootId } from "../../../shared/ids.ts";
import { lanes, streams, type Stream } from "../../../shared/task.ts";
import type { LogContent } from "../../../shared/wire/log.ts";
import type { ResultRecord } from "../../../shared/wire/result.ts";
import { claimAttempts } from "../../simulation/model/claim.ts";
import type { AgentRow } from "../../simulation/model/rows.ts";
import type { Dice } from "./dice.ts";
import { agentCount, agentId, attemptIdOf, bootId, nodeId, numberOf, type History } from "./history.ts";
import { batch, verb, type Operation } from "./operation.ts";

type Draw = (dice: Dice, history: History) => Operation;

const specs = [
  '{"kind":"no-op"}',
  '{"kind":"script","interpreter":"sh","script":"echo ü","graceMs":1234}',
  '{"kind":"script","interpreter":"sh","script":"echo \\u0000","graceMs":0}',
  '{"kind":"script","interpreter":"sh","script":"true","isolation":{"name":"deploy","mode":"full"}}',
] as const;

function newTask(dice: Dice, history: History): NewTask {
  const agent = history.agent(dice);
  const isFast = dice.below(4) === 1;
  return {
    ...history.newTaskIds(),
    agent,
    lane: dice.oneOf(["work", "work", "work", "system"]),
    spec: dice.oneOf(specs),
    queueMs: dice.oneOf([86_400_000, 60_000, 5_000, 0]),
    unreachableLimitMs: dice.oneOf([86_400_000, 5_000, 60_000, 0]),
    offer: isFast ? { bootId: history.boot(dice, agent), journalId: history.journal(dice, agent) } : undefined,
    band: dice.oneOf([bands.normal, bands.high]),
  };
}

function newSubmission(dice: Dice, history: History, node: NewSubmission["node"]): NewSubmission {
  const repeated = dice.once(6) ? dice.maybe(history.submissions) : undefined;
  if (repeated !== undefined && dice.once(2)) return { ...repeated, node };
  const submission = {
    id: history.newSubmissionId(),
    principal: dice.oneOf(["tester", "other"]),
    idempotencyKey: repeated?.idempotencyKey ?? `key-${dice.below(40)}`,
    bodySha256: Buffer.alloc(32, dice.oneOf([1, 1, 1, 2])),
    clientAddress: "192.0.2.7",
    node,
    offerWindowMs: dice.oneOf([3_000, 1_000]),
    tasks: dice.several(3, () => newTask(dice, history)),
  };
  history.submissions.push(submission);
  return submission;
}

const submit: Draw = (dice, history) => {
  const node = history.node(dice);
  const first = newSubmission(dice, history, node);
  const items = [first, ...(dice.once(3) ? dice.several(2, () => newSubmission(dice, history, node)) : [])];
  // A node's own batch: one node, one window.
  const joined = items.map((item) => ({ ...item, offerWindowMs: first.offerWindowMs }));
  return batch("submit", joined, { keyOf: (item) => item.id, act: (store, item) => store.submit(item) });
};

const claim: Draw = (dice, history) => {
  const credits: ClaimCredit[] = [];
  for (let number = 0; number < agentCount; number += 1) {
    const agent = agentId(number);
    if (dice.once(4)) continue;
    const [boot, journal] = [history.boot(dice, agent), history.journal(dice, agent)];
    for (const lane of lanes) {
      const credit = dice.oneOf([2, 1, 3, 0, 8]);
      const again = dice.oneOf([undefined, true, false]);
      credits.push({
        agent,
        bootId: boot,
        journalId: journal,
        lane,
        credit,
        ...(again === undefined ? {} : { again }),
      });
    }
  }
  const input = { node: history.node(dice), credits, most: dice.oneOf([100, 3, 1, 5]) };
  return {
    name: "claim",
    given: input,
    order: "free",
    ask: (database) => createPostgresStore(database).claim(input),
    parts: [
      (db, { answer, alone }) => {
        const attempts = new Set((answer as ClaimedAttempt[]).map(({ attempt }) => attempt));
        const others = alone ? "candidates" : "left";
        return db.transaction("durable", "claim", () => claimAttempts(db, input, { attempts, others }));
      },
    ],
    join: (answers) => answers[0],
  };
};

const progress: Draw = (dice, history) => {
  const items = dice.several(4, (): Progress => {
    const attempt = history.attempt(dice);
    return {
      attempt: attemptIdOf(attempt),
      ...history.owner(dice, attempt),
      node: dice.oneOf([nodeId(0), nodeId(1), null]),
      homeNo: history.homeNo(dice, attempt),
      reached: dice.oneOf(["accepted", "running"]),
    };
  });
  return batch("progress", items, { keyOf: (item) => item.attempt, act: (store, item) => store.progress(item) });
};

const noteProgress: Draw = (dice, history) => {
  const items = dice.several(4, (): ProgressNote => {
    const attempt = history.attempt(dice);
    return {
      attempt: attemptIdOf(attempt),
      ...history.owner(dice, attempt),
      homeNo: history.homeNo(dice, attempt),
      percent: dice.oneOf([null, 0, 40, 100]),
      message: dice.oneOf(["", "copying", "no\0thing"]),
    };
  });
  return batch("note-progress", items, {
    keyOf: (item) => item.attempt,
    act: (store, item) => store.noteProgress(item),
  });
};

const refuse: Draw = (dice, history) => {
  const items = dice.several(3, (): Refusal => {
    const attempt = history.attempt(dice);
    return {
      attempt: attemptIdOf(attempt),
      ...history.owner(dice, attempt),
      offerNo: (typeof attempt === "string" ? 1 : attempt.offerNo) + dice.oneOf([0, 0, 0, -1, 1]),
      class: dice.oneOf(["later", "never"]),
      reason: dice.oneOf(["busy", "disk-full: 3 MiB", "policy: no\0thing"]),
    };
  });
  return batch("refuse", items, { keyOf: (item) => item.attempt, act: (store, item) => store.refuse(item) });
};

const release: Draw = (dice, history) => {
  let node = history.node(dice);
  const offers = dice.several(4, () => {
    const attempt = history.attempt(dice);
    if (typeof attempt === "string") return { attempt, offerNo: 1 };
    if (!dice.once(6)) node = attempt.offeredBy ?? node;
    return { attempt: attempt.id, offerNo: attempt.offerNo + dice.oneOf([0, 0, 0, -1]) };
  });
  return verb("release", { node, offers }, (store) => store.release(node, offers));
};

function content(dice: Dice): LogContent {
  // The greatest time that the wire admits too: one agent's clock must not fail the batch it shares with others.
  const time = dice.once(3) ? { atMs: dice.oneOf([0, 1_795_000_000_123, 4_102_444_800_000]) } : {};
  if (dice.once(4)) return { omitted: dice.oneOf([1, 7, 5_000_000_000]), ...time };
  const first = dice.below(256);
  return { ...time, bytes: Buffer.from(dice.several(5, (index) => (first + index * 37) % 256)) };
}

const append: Draw = (dice, history) => {
  const one = (): LogAppend => {
    const attempt = history.attempt(dice);
    const next = typeof attempt === "string" ? undefined : history.db.logs.get(attempt.id)?.next;
    const run = (stream: Stream): LogRun => ({
      from: Math.max(0, (next?.[stream] ?? 0) + dice.oneOf([0, 0, 0, 0, 0, -1, -3, 2])),
      pieces: dice.once(16) ? [] : dice.several(3, () => content(dice)),
    });
    const written = dice.oneOf<readonly Stream[]>([["out"], streams, ["err"], streams]);
    return {
      attempt: attemptIdOf(attempt),
      agent: history.owner(dice, attempt).agent,
      homeNo: history.homeNo(dice, attempt),
      runs: Object.fromEntries(written.map((stream) => [stream, run(stream)])),
    };
  };
  const items = dice.several(3, one);
  const [first] = items;
  // The same piece twice in one turn.
  if (first !== undefined && dice.once(4)) items.push(first);
  return batch("append", items, { keyOf: (item) => item.attempt, act: (store, item) => store.append(item) });
};

const digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const finish: Draw = (dice, history) => {
  const items = dice.several(3, (): Finish => {
    const earlier = dice.once(3) ? dice.maybe(history.finishes) : undefined;
    if (earlier !== undefined) return { ...earlier, node: history.node(dice) };
    const attempt = history.attempt(dice);
    const next = typeof attempt === "string" ? undefined : history.db.logs.get(attempt.id)?.next;
    const end = (stream: Stream) => ({
      length: Math.max(0, (next?.[stream] ?? 0) + dice.oneOf([0, 0, 0, 0, 0, 1, -1])),
      sha256: digest,
    });
    const record: ResultRecord = {
      outcome: dice.oneOf(["succeeded", "failed", "timed-out", "cancelled", "interrupted"]),
      reason: dice.oneOf(["", "exit-code", "host\0reboot"]),
      exitCode: dice.oneOf([0, null, 7, 255]),
      signal: dice.oneOf([null, null, "SIGTERM", "SIG\0"]),
      startedAtMs: dice.oneOf([1_000, null]),
      finishedAtMs: 2_000,
      durationMs: 1_000 + dice.below(2),
      out: end("out"),
      err: end("err"),
    };
    const made = { attempt: attemptIdOf(attempt), ...history.owner(dice, attempt), node: history.node(dice), record };
    history.finishes.push(made);
    return made;
  });
  return batch("finish", items, { keyOf: (item) => item.attempt, act: (store, item) => store.finish(item) });
};

const resume: Draw = (dice, history) => {
  const drawn = dice.several(2, (): ResumeHome => {
    const attempt = history.attempt(dice);
    const owner = history.owner(dice, attempt);
    return { attempt: attemptIdOf(attempt), ...owner, node: history.node(dice), homeNo: history.homeNo(dice, attempt) };
  });
  // A session hands them over one by one: the same attempt is never twice in one.
  const items = drawn.filter(({ attempt }, index) => drawn.findIndex((other) => other.attempt === attempt) === index);
  return verb("resume", items, (store) => store.resume(items));
};

function lineageOf(dice: Dice, known: BootId | null): readonly BootId[] | undefined {
  const others = [bootId(dice.below(agentCount * 6))];
  return dice.oneOf([known === null ? others : [...others, known], undefined, others]);
}

/** A hello: the next process, the same one, an older one, a clone, or one with another journal. */
const greet: Draw = (dice, history) => {
  const refused = [...history.db.agents.rows.values()].filter(({ refusedBootId }) => refusedBootId !== null);
  const clone = dice.once(4) ? dice.maybe(refused) : undefined;
  const agent = clone?.id ?? history.agent(dice);
  const row = history.db.agents.get(agent);
  const [counter, known] = [row?.bootCounter ?? 0, row?.bootId ?? null];
  const any = history.anyBoot(dice, agent);
  const own = row?.journalId ?? history.anyJournal(dice, agent);
  const lineage = lineageOf(dice, known);
  const older = { bootCounter: Math.max(0, counter - 1), bootId: row?.refusedBootId ?? any, journalId: own };
  const drawn = dice.oneOf<Pick<Greeting, "bootCounter" | "bootId" | "journalId">>([
    { bootCounter: counter + 1, bootId: any, journalId: own },
    { bootCounter: counter, bootId: known ?? any, journalId: own },
    { bootCounter: Math.max(0, counter - 1), bootId: any, journalId: own },
    { bootCounter: counter, bootId: any, journalId: own },
    { bootCounter: 1, bootId: any, journalId: history.anyJournal(dice, agent) },
    { bootCounter: counter + 2, bootId: any, journalId: dice.maybe(row?.retiredJournals ?? []) ?? own },
    older,
  ]);
  const pair = clone === undefined ? drawn : older;
  const greeting: Greeting = {
    agent,
    ...pair,
    lineage,
    version: "1.0.0",
    capabilities: ["no-op"],
    host: { hostname: `h${numberOf(agent)}` },
    intent: dice.once(6) ? "probe" : "session",
  };
  const asked = verb("greet", greeting, (store) => store.greet(greeting));
  return {
    ...asked,
    parts: asked.parts.map((part) => async (db, seen) => {
      const isRight = isNewest(db.agents.get(agent), greeting);
      const told = (await part(db, seen)) as GreetOutcome;
      const isAdmitted = told.kind === "admitted";
      // Of an agent that may not come at all the rule says nothing.
      const isJudged = isAdmitted || told.kind === "superseded";
      return isJudged && isAdmitted !== isRight ? { kind: "told by DESIGN 4.7", isRight } : told;
    }),
  };
};

/** Model and SQL share the shipped rule of boots, so it is written down here once more, from DESIGN 4.7. */
function isNewest(row: AgentRow | undefined, { bootCounter, bootId: boot, journalId, lineage }: Greeting): boolean {
  if (row?.journalId === undefined || row.journalId === null) return true;
  if (row.retiredJournals.includes(journalId)) return false;
  if (row.journalId !== journalId) return true;
  if (row.bootId === boot && row.bootCounter === bootCounter) return true;
  const isDescendant = lineage === undefined || row.bootId === null || lineage.includes(row.bootId);
  return bootCounter > (row.bootCounter ?? 0) && isDescendant;
}

const readOpen: Draw = (dice, history) => {
  const agent = history.agent(dice);
  const listed = dice.several(4, () => attemptIdOf(history.attempt(dice)));
  return verb("read-open", { agent, listed }, (store) => store.readOpen(agent, listed), "free");
};

const lose: Draw = (dice, history) => {
  const attempt = history.attempt(dice);
  const attempts = [attemptIdOf(attempt), ...(dice.once(2) ? [attemptIdOf(history.attempt(dice))] : [])];
  const lost = { ...history.owner(dice, attempt), attempts, answer: dice.oneOf(["unknown", "collected"] as const) };
  return verb("lose", lost, (store) => store.lose(lost));
};

const presence: Draw = (dice, history) => {
  const items = dice.several(3, (): PresenceChange => {
    const node = history.node(dice);
    const boot = history.db.nodes.get(node)?.bootId ?? bootId(100);
    return {
      agent: history.agent(dice),
      node,
      nodeBootId: dice.once(5) ? bootId(100 + dice.below(3)) : boot,
      change: dice.oneOf(["connected", "disconnected"]),
    };
  });
  return batch("presence", items, { keyOf: (item) => item.agent, act: (store, item) => store.presence(item) });
};

export const courierVerbs = {
  submit,
  claim,
  progress,
  noteProgress,
  refuse,
  release,
  append,
  finish,
  resume,
  greet,
  readOpen,
  lose,
  presence,
} as const satisfies Record<string, Draw>;
