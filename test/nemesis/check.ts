// Judges a history: the invariants of RELIABILITY 3.6 that can be seen from outside, when everything was healed and had its
// time. Pure. Each check answers what is wrong, or nothing; none trusts one witness where two can be compared.
import { isFinal, rankOf } from "../../shared/task.ts";
import { countedLines, type TruthLine } from "../harness/script-truth.ts";
import type { History, JournalFacts, Look, StoredAttempt, Submitted } from "./history.ts";

export interface Violation {
  readonly invariant: string;
  /** Key of the submission, or whom it is about. */
  readonly subject: string;
  readonly what: string;
}

/** One submission with all that is known of it. */
interface Case {
  readonly one: Submitted;
  readonly truth: readonly TruthLine[];
  readonly attempts: readonly StoredAttempt[];
}

type Found = Omit<Violation, "subject">;
type CaseCheck = (one: Case, context: Context) => readonly Found[];

interface Context {
  readonly history: History;
  readonly journals: ReadonlyMap<string, JournalFacts>;
}

/** Between a kill and the last line of the killed, on a busy machine, by one calendar. */
const beatSlackMs = 250;

const found = (invariant: string, isWrong: boolean, what: () => string): readonly Found[] =>
  isWrong ? [{ invariant, what: what() }] : [];

/** I1: what was acknowledged is there. */
const acknowledgedIsStored: CaseCheck = ({ one, attempts }) =>
  one.answers.flatMap(({ submission, tasks, node }) =>
    tasks.flatMap((task) =>
      found(
        "I1",
        !attempts.some((attempt) => attempt.task === task),
        () => `${node} answered task ${task} of ${submission}, and it is gone`,
      ),
    ),
  );

/** I2: every client was answered, and every stored task came to its end. */
const everythingEnds: CaseCheck = ({ one, attempts }) => [
  ...found("I2", one.answers.length === 0 && one.refused === undefined, () => `unanswered after ${one.tries} tries`),
  ...found(
    "I2",
    one.cancel !== undefined && one.cancel.answeredAtMs === undefined,
    () => "its cancel was never answered",
  ),
  ...attempts.flatMap(({ id, state }) => found("I2", !isFinal(state), () => `attempt ${id} is still ${state}`)),
];

/** The load asks for nothing that may be refused. */
const nothingIsRefused: CaseCheck = ({ one }) => found("refusal", one.refused !== undefined, () => one.refused ?? "");

/** I4: no attempt started twice. */
const startedOnce: CaseCheck = ({ truth }) =>
  [...Map.groupBy(starts(truth), ({ attempt }) => attempt)].flatMap(([attempt, lines]) =>
    found("I4", lines.length > 1, () => `attempt ${attempt} started ${lines.length} times`),
  );

/** I5: nobody asked for a second attempt. */
const oneAttempt: CaseCheck = ({ attempts }) =>
  found("I5", attempts.length > 1, () => `${attempts.length} attempts, and nobody asked for another one`);

/** I6: what started had been stored and journaled before. */
const startsAreKnown: CaseCheck = ({ one, truth, attempts }, { journals }) =>
  starts(truth).flatMap(({ attempt }) => [
    ...found("I6", !attempts.some(({ id }) => id === attempt), () => `attempt ${attempt} started and is not stored`),
    ...found(
      "I6",
      journals.get(one.agent)?.started.has(attempt) === false,
      () => `attempt ${attempt} started without STARTING in the journal of ${one.agent}`,
    ),
  ]);

/** I7: the stored outcome is what the script did. */
const outcomeIsTrue: CaseCheck = ({ one, truth, attempts }) =>
  attempts
    .filter(({ state }) => isFinal(state))
    .flatMap((attempt) => {
      const { id, state, reason, exitCode, signal } = attempt;
      const told = `attempt ${id} is ${state}${reason === "" ? "" : `: ${reason}`}, exit code ${exitCode}, signal ${signal}`;
      const hasEnded = truth.some((line) => line.word === "end" && line.attempt === id);
      const { kind, exitCode: expected } = one.work;
      switch (state) {
        case "succeeded":
        case "failed":
          return [
            ...found("I7", !hasEnded && kind !== "no-op", () => `${told}, and the script never came to its end`),
            ...found(
              "I7",
              exitCode !== expected || (state === "succeeded") !== ((expected ?? 0) === 0),
              () => `${told}, expected ${expected}`,
            ),
          ];
        case "cancelled":
          return found("I7", one.cancel === undefined, () => `${told}, and nobody cancelled it`);
        case "timed-out":
          return found("I7", kind !== "timed-out", () => `${told}, and it has no such limit`);
        default:
          // No disk was lost, no host rebooted, nobody gave up: none of the other ends may be told.
          return found("I7", true, () => `${told}, which nothing here may come to`);
      }
    });

/** I8: one outcome, in the row, in the journal, and none beside it. */
const oneOutcome: CaseCheck = ({ one, attempts }, { journals }) =>
  attempts.flatMap(({ id, state, exitCode, lateResults, hasResult }) => {
    const results = journals.get(one.agent)?.results.filter(({ attempt }) => attempt === id) ?? [];
    const differs = results.some((result) => result.outcome !== state || result.exitCode !== exitCode);
    return [
      ...found("I8", lateResults > 0, () => `attempt ${id} is ${state} and has ${lateResults} results beside it`),
      ...found(
        "I8",
        hasResult && differs,
        () => `attempt ${id} is ${state} ${exitCode}, its journal says ${JSON.stringify(results)}`,
      ),
    ];
  });

/** I10: every line once, in order; of a script that was ended, those up to its end. What a full disk cost is told. */
const logIsWhole: CaseCheck = ({ one, truth, attempts }, { history }) =>
  attempts
    .filter(({ hasResult }) => hasResult)
    .flatMap(({ id, reason, out, err, outNext }) => {
      const whole = countedLines(one.work.count);
      const hasEnded = truth.some((line) => line.word === "end" && line.attempt === id);
      const beats = truth.filter((line) => line.word === "beat" && line.attempt === id).length;
      // Killed between the words and the line they announce, or amid them.
      const [least, most] = [countedLines(Math.max(0, beats - 1)), countedLines(beats)];
      const isBetween = out.length >= least.length && out.length <= most.length;
      const isWhole = hasEnded ? out === whole : whole.startsWith(out) && isBetween;
      const isTold = history.filled.has(one.agent) && reason.includes("output-lost");
      const isRight = isWhole || (isTold && isWithin(out, whole));
      return [
        ...found(
          "I10",
          !isRight,
          () =>
            `attempt ${id} (${reason}) wrote ${beats} lines${hasEnded ? " to its end" : ""}; stored: ${excerpt(out)}`,
        ),
        ...found(
          "I10",
          Buffer.byteLength(out) !== outNext,
          () => `attempt ${id} has ${out.length} bytes of ${outNext}`,
        ),
        ...found("I10", err !== "", () => `attempt ${id} wrote nothing to stderr; stored: ${excerpt(err)}`),
      ];
    });

/** Whether `part` is `whole` with something left out. */
function isWithin(part: string, whole: string): boolean {
  let at = 0;
  for (const char of part) {
    at = whole.indexOf(char, at) + 1;
    if (at === 0) return false;
  }
  return true;
}

/** I12: final is final for the processes too. */
const endedIsDead: CaseCheck = ({ truth, attempts }) =>
  attempts.flatMap(({ id, finishedAtMs, state }) => {
    if (finishedAtMs === null) return [];
    const after = truth.filter((line) => line.attempt === id && line.atMs > finishedAtMs + beatSlackMs);
    return found("I12", after.length > 0, () => {
      const lateMs = Math.max(...after.map(({ atMs }) => atMs)) - finishedAtMs;
      return `attempt ${id} was ${state} and its script went on for ${Math.round(lateMs)} ms`;
    });
  });

/** I19: one key, one submission, one task, for whoever asks. */
const keyIsUnique: CaseCheck = ({ one }, { history }) => {
  const stored = history.tasks.filter(({ key }) => key === one.key);
  const answered = new Set(one.answers.map(({ submission, tasks }) => `${submission} ${tasks.join()}`));
  return [
    ...found("I19", stored.length > 1, () => `${stored.length} tasks are stored`),
    ...found("I19", answered.size > 1, () => `answered differently: ${[...answered].join("; ")}`),
  ];
};

const caseChecks: readonly CaseCheck[] = [
  acknowledgedIsStored,
  everythingEnds,
  nothingIsRefused,
  startedOnce,
  oneAttempt,
  startsAreKnown,
  outcomeIsTrue,
  oneOutcome,
  logIsWhole,
  endedIsDead,
  keyIsUnique,
];

/** I3: nothing that nobody asked for. */
function phantoms({ submitted, tasks }: History): readonly Violation[] {
  const keys = new Set(submitted.map(({ key }) => key));
  return tasks
    .filter(({ key }) => !keys.has(key))
    .map(({ key, id }) => ({ invariant: "I3", subject: key, what: `nobody asked for task ${id}` }));
}

/**
 * I8, I26: one reader never sees a lower rank after a higher one, and no other end after an end. Acceptance and start are
 * stored without waiting for the disk, so a death of the database may take them back; never an offer or an end.
 */
function backwardLooks({ looks, tasks, databaseDeaths }: History): readonly Violation[] {
  const keyOf = new Map(tasks.map(({ id, key }) => [id, key]));
  const isTakenBack = (before: Look, after: Look): boolean =>
    !isFinal(before.state) &&
    rankOf(after.state) >= rankOf("offered") &&
    databaseDeaths.some(({ fromMs, toMs }) => toMs >= before.lastAskedAtMs && fromMs <= after.firstAnsweredAtMs);
  return [...Map.groupBy(looks, ({ task }) => task)].flatMap(([task, seen]) =>
    seen.flatMap((after, index) => {
      const before = seen[index - 1];
      if (before === undefined || (rankOf(after.state) >= rankOf(before.state) && !isFinal(before.state))) return [];
      if (isTakenBack(before, after)) return [];
      const invariant = isFinal(before.state) ? "I8" : "I26";
      return [{ invariant, subject: keyOf.get(task) ?? task, what: `seen ${before.state}, then ${after.state}` }];
    }),
  );
}

/** I22: agents have nothing left to tell, and what they have on disk can be read. */
function journalsAreTold({ journals }: History): readonly Violation[] {
  return journals.flatMap(({ agent, damage, open }) => [
    ...(damage === undefined ? [] : [{ invariant: "I22", subject: agent, what: damage }]),
    ...open.map((attempt) => ({ invariant: "I22", subject: agent, what: `still has attempt ${attempt} to tell of` })),
  ]);
}

/** CONVENTIONS: 69 and 75 ask to be started again, as without room on the disk or a database to start on. All else is a crash. */
function crashes({ deaths }: History): readonly Violation[] {
  return deaths
    .filter(({ exitCode }) => exitCode !== 69 && exitCode !== 75)
    .map(({ name, exitCode, lastWords }) => ({
      invariant: "crash",
      subject: name,
      what: `ended with ${exitCode}: ${lastWords}`,
    }));
}

export function checkHistory(history: History): readonly Violation[] {
  const tasksOf = Map.groupBy(history.tasks, ({ key }) => key);
  const attemptsOf = Map.groupBy(history.attempts, ({ task }) => task);
  const context = { history, journals: new Map(history.journals.map((facts) => [facts.agent, facts])) };
  const perCase = history.submitted.flatMap((one) => {
    const attempts = (tasksOf.get(one.key) ?? []).flatMap(({ id }) => attemptsOf.get(id) ?? []);
    const known = { one, truth: history.truths.get(one.key) ?? [], attempts };
    return caseChecks.flatMap((check) => check(known, context).map((wrong) => ({ ...wrong, subject: one.key })));
  });
  return [
    ...perCase,
    ...phantoms(history),
    ...backwardLooks(history),
    ...journalsAreTold(history),
    ...crashes(history),
  ];
}

function starts(truth: readonly TruthLine[]): readonly TruthLine[] {
  return truth.filter(({ word }) => word === "start");
}

function excerpt(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 30)}…${text.slice(-40)}` : text);
}
