// Carries out what a courier wants written about an attempt: each in that attempt's line, by the journal the session greeted
// with, and what the store answers goes back to the courier. While too much waits its session is not read. What is to be
// written when the session has ended is not. Made for a session's first write: of 10,000 agents nearly all are idle.
import type { AgentId, AttemptId, JournalId, NodeId } from "../../shared/ids.ts";
import { AppError } from "../../shared/errors.ts";
import { bytesOfOutputs } from "../../shared/output-variables.ts";
import { streams } from "../../shared/task.ts";
import { lengthOf } from "../../shared/wire/log.ts";
import type { CourierStore } from "../store/store.ts";
import type { CourierEffect, CourierEvent } from "../tasks/courier-state.ts";
import { AttemptWrites, type AttemptWritesDeps, type JoinedRun, type WriteKind } from "./attempt-writes.ts";
import type { LogBudget } from "./log-budget.ts";
import { Reading, type ReadingDeps } from "./reading.ts";

type EffectOf<Kind extends CourierEffect["kind"]> = Extract<CourierEffect, { kind: Kind }>;
export type WriteEffect = EffectOf<"progress" | "append" | "finish" | "resume" | "refuse" | "lose">;

export interface CourierWritesDeps
  extends Omit<AttemptWritesDeps, "onWritten" | "onDropped">, Pick<ReadingDeps, "socket" | "onResumed"> {
  readonly store: CourierStore;
  readonly budget: LogBudget;
  readonly agent: AgentId;
  readonly node: NodeId;
  /** Undefined once the session is not open. */
  readonly journal: () => JournalId | undefined;
  readonly apply: (event: CourierEvent) => void;
  /** Something of this attempt was stored. */
  readonly onChanged: (attempt: AttemptId) => void;
}

export class CourierWrites {
  readonly #deps: CourierWritesDeps;
  readonly #lines: AttemptWrites;
  readonly reading: Reading;

  constructor(deps: CourierWritesDeps) {
    this.#deps = deps;
    const { budget } = deps;
    const lines = new AttemptWrites({
      ...deps,
      onWritten: () => this.reading.goOn(),
      onDropped: (bytes) => budget.give(bytes),
    });
    this.#lines = lines;
    this.reading = new Reading({ ...deps, writes: lines });
  }

  carryOut(effect: WriteEffect): void {
    switch (effect.kind) {
      case "progress":
        for (const item of effect.items) this.#progress(item);
        return;
      case "append":
        this.#append(effect);
        return;
      case "finish":
        for (const item of effect.items) this.#finish(item);
        return;
      case "resume":
        for (const item of effect.items) this.#resume(item);
        return;
      case "refuse":
        for (const item of effect.items) this.#refuse(item);
        return;
      case "lose":
        for (const attempt of effect.attempts) this.#lose(attempt, effect.answer);
        return;
    }
  }

  #run(attempt: AttemptId, kind: WriteKind, act: (journalId: JournalId) => Promise<void>, contentBytes?: number): void {
    const write = async (): Promise<void> => {
      const journalId = this.#deps.journal();
      if (journalId !== undefined) await act(journalId);
    };
    this.#lines.run(attempt, kind, write, contentBytes);
  }

  #progress({ attempt, homeNo, homeHere, reached }: EffectOf<"progress">["items"][number]): void {
    const { store, agent, apply, onChanged } = this.#deps;
    this.#run(attempt, "progress", async (journalId) => {
      const node = homeHere ? this.#deps.node : null;
      const view = await store.progress({ attempt, agent, journalId, node, homeNo, reached });
      apply({ kind: "progressed", answers: [{ attempt, view }] });
      onChanged(attempt);
    });
  }

  #finish({ attempt, record }: EffectOf<"finish">["items"][number]): void {
    const { store, budget, agent, node, apply, onChanged } = this.#deps;
    const act = async (journalId: JournalId): Promise<void> => {
      const outcome = await store.finish({ attempt, agent, journalId, node, record });
      apply({ kind: "finished", attempt, outcome, windowBytes: budget.windowBytes() });
      onChanged(attempt);
    };
    this.#run(attempt, "result", act, bytesOfOutputs(record.outputs ?? []));
  }

  #resume(item: EffectOf<"resume">["items"][number]): void {
    const { store, budget, agent, node, apply } = this.#deps;
    this.#run(item.attempt, "other", async (journalId) => {
      const outcomes = await store.resume([{ ...item, agent, journalId, node }]);
      apply({ kind: "resumed", items: [item], outcomes, windowBytes: budget.windowBytes() });
    });
  }

  #refuse(item: EffectOf<"refuse">["items"][number]): void {
    const { store, agent, onChanged } = this.#deps;
    const reason = item.detail === undefined ? item.reason : `${item.reason}: ${item.detail}`;
    this.#run(item.attempt, "other", async (journalId) => {
      await store.refuse({ ...item, agent, journalId, reason });
      onChanged(item.attempt);
    });
  }

  #lose(attempt: AttemptId, answer: EffectOf<"lose">["answer"]): void {
    const { store, agent, onChanged } = this.#deps;
    this.#run(attempt, "other", async (journalId) => {
      await store.lose({ agent, journalId, attempts: [attempt], answer });
      onChanged(attempt);
    });
  }

  #append(effect: EffectOf<"append">): void {
    this.#deps.budget.take("bytes" in effect.content ? effect.content.bytes.length : 0);
    this.#lines.append(effect.attempt, effect, (run) => this.#appendRun(effect.attempt, run));
  }

  /** Its memory is given back once: when it is stored, or will not be tried again. */
  async #appendRun(attempt: AttemptId, { homeNo, runs, bytes }: JoinedRun): Promise<void> {
    const { store, budget, agent, signal, apply, onChanged } = this.#deps;
    const append = async (): ReturnType<CourierStore["append"]> => {
      try {
        return await store.append({ attempt, agent, homeNo, runs });
      } catch (cause) {
        if (!AppError.from(cause).retryable || signal.aborted) budget.give(bytes);
        throw cause;
      }
    };
    const outcome = await append();
    budget.give(bytes);
    const ends = Object.fromEntries(
      streams.flatMap((stream) => {
        const run = runs[stream];
        return run === undefined ? [] : [[stream, run.pieces.reduce((end, piece) => end + lengthOf(piece), run.from)]];
      }),
    );
    apply({ kind: "appended", attempt, ends, outcome, windowBytes: budget.windowBytes() });
    onChanged(attempt);
  }
}
