// Everything a run can be judged by, as data: what clients sent and were told, what scripts wrote of themselves, what the
// database holds at the end, and what each agent's journal holds. Judging is check.ts's work.
import type { TaskState } from "../../shared/task.ts";
import type { TruthLine } from "../harness/script-truth.ts";

interface Counts {
  /** Lines that it writes: all at once, or one each quarter of a second. */
  readonly count: number;
  /** Null when there is no process that could have one. */
  readonly exitCode: number | null;
  /** `twice`: two clients send the same key at once. */
  readonly repeat: "once" | "twice";
}

export type Work =
  | ({ readonly kind: "no-op"; readonly count: 0; readonly exitCode: null } & Counts)
  | ({ readonly kind: "counted"; readonly pace: "at once" | "slow" } & Counts)
  | ({ readonly kind: "cancelled"; readonly afterMs: number } & Counts)
  | ({ readonly kind: "timed-out"; readonly timeoutMs: number } & Counts);

export interface Answered {
  readonly submission: string;
  readonly tasks: readonly string[];
  readonly node: string;
  readonly atMs: number;
}

/** One submission as its clients know it. */
export interface Submitted {
  readonly key: string;
  readonly agent: string;
  readonly work: Work;
  /** The file of its script's own truth; a no-op has none. */
  readonly truth: string;
  readonly invokedAtMs: number;
  readonly answers: Answered[];
  tries: number;
  /** Codes of the tries that were not answered as wished. */
  readonly troubles: string[];
  /** An answer that no repeat would change. */
  refused?: string;
  cancel: { readonly askedAtMs: number; readonly answeredAtMs: number | undefined } | undefined;
}

/** What one client saw of a task, look after look, in order; those that saw the same are one. By the machine's calendar. */
export interface Look {
  readonly task: string;
  readonly state: TaskState;
  /** When the first one was answered, and the last one asked. */
  readonly firstAnsweredAtMs: number;
  lastAskedAtMs: number;
}

/** The primary was killed within these moments: what it had committed without waiting for its disk may be gone. */
export interface DatabaseDeath {
  readonly fromMs: number;
  readonly toMs: number;
}

export interface StoredAttempt {
  readonly id: string;
  readonly task: string;
  readonly number: number;
  readonly state: TaskState;
  readonly reason: string;
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly hasResult: boolean;
  readonly createdAtMs: number;
  readonly finishedAtMs: number | null;
  /** Bytes by offset; an omission is U+FFFC, which no script of the load writes. */
  readonly out: string;
  readonly err: string;
  readonly outNext: number;
  readonly lateResults: number;
}

export interface StoredTask {
  readonly id: string;
  readonly submission: string;
  readonly key: string;
}

/** What one agent has on its disk of its attempts. */
export interface JournalFacts {
  readonly agent: string;
  readonly damage: string | undefined;
  /** Attempts whose result no node has acknowledged. */
  readonly open: readonly string[];
  /** Those with STARTING; in a journal that was rewritten, those that are over and were not refused. */
  readonly started: ReadonlySet<string>;
  readonly results: readonly {
    readonly attempt: string;
    readonly outcome: string;
    readonly exitCode: number | null;
  }[];
}

/** A process that no fault had ended. */
export interface Death {
  readonly name: string;
  readonly exitCode: number;
  readonly lastWords: string;
}

export interface History {
  readonly submitted: readonly Submitted[];
  /** By key. */
  readonly truths: ReadonlyMap<string, readonly TruthLine[]>;
  readonly looks: readonly Look[];
  readonly tasks: readonly StoredTask[];
  readonly attempts: readonly StoredAttempt[];
  readonly journals: readonly JournalFacts[];
  readonly deaths: readonly Death[];
  readonly databaseDeaths: readonly DatabaseDeath[];
  /** Agents whose disk was full for a while: output may find no room there, and the result is to say so. */
  readonly filled: ReadonlySet<string>;
}
