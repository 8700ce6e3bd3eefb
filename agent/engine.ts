// Drives the pure core: feeds it events and carries its effects out on journal, site (folders, scripts) and sessions.
// Leaves every decision to roster.ts. Invariant: events are stepped one after another, and the effects of one are
// begun, in order, before the next is stepped.
import type { Background } from "../shared/background.ts";
import type { Clock, Timer } from "../shared/clock.ts";
import { AppError, describeError } from "../shared/errors.ts";
import type { AttemptId } from "../shared/ids.ts";
import type { Logger } from "../shared/logger.ts";
import { reached } from "../shared/steps.ts";
import type { AttemptReport } from "../shared/wire/attempt-report.ts";
import type { FromNode } from "../shared/wire/from-node.ts";
import { nodeCapability } from "../shared/wire/welcome.ts";
import type { AttemptEffect, AttemptEvent } from "./attempt.ts";
import type { Journal } from "./journal.ts";
import { logOutlets } from "./log-outlets.ts";
import { Outbox } from "./outbox.ts";
import { ProgressTeller } from "./progress-teller.ts";
import { recover } from "./recovery.ts";
import { repeatUntilDone } from "./repeating.ts";
import { Roster } from "./roster.ts";
import type { AdmittedOffer, RosterEffect, RosterEvent, RosterOptions, SessionNo } from "./roster-event.ts";
import type { Session } from "./connection.ts";
import { SecretKeeping } from "./secret-keeping.ts";
import type { AttemptExecution, Site } from "./site.ts";

export interface EngineDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly background: Background;
  readonly journal: Journal;
  readonly site: Site;
  /** Calls once the current turn of the event loop is over. */
  readonly defer: (act: () => void) => void;
  /** Ends a session in an orderly way; its end is told through {@link Engine.sessionEnded}. */
  readonly closeSession: (session: SessionNo) => void;
  /** The journal cannot be written any more: the process must end, and the next one recovers. */
  readonly onFatal: (why: AppError) => void;
}

export interface EngineOptions {
  readonly roster: Omit<RosterOptions, "journalId" | "hostBootId">;
}

const tickMs = 500;

/** Effects whose one answer the attempt waits for; without it, it would stay where it is for ever. */
function isAwaited({ kind }: AttemptEffect): boolean {
  return kind === "declare-never" || kind === "kill" || kind === "sweep" || kind === "measure";
}

export class Engine {
  readonly #deps: EngineDeps;
  readonly #roster: Roster;
  readonly #executions = new Map<AttemptId, AttemptExecution>();
  readonly #outboxes = new Map<SessionNo, Outbox>();
  /** Through which session and under which number an attempt's log flows now. */
  readonly #homes = new Map<AttemptId, { readonly session: SessionNo; readonly homeNo: number }>();
  readonly #secrets: SecretKeeping;
  readonly #progress: ProgressTeller;
  /** Being stepped (the first) and waiting to be: emptied before the call that filled it returns. */
  readonly #events: RosterEvent[] = [];
  #ticker: Timer | undefined;
  #aliveAtMs: number;
  readonly #stopping = new AbortController();
  #stage: "running" | "stopped" = "running";

  constructor(deps: EngineDeps, options: EngineOptions) {
    this.#deps = deps;
    const { journal, site } = deps;
    this.#aliveAtMs = site.bootMs();
    this.#roster = new Roster(
      { closed: journal.state.closed },
      { ...options.roster, journalId: journal.id, hostBootId: site.hostBootId },
    );
    if (journal.corruption !== undefined) this.#roster.quarantine();
    const offered = (session: SessionNo, offer: AdmittedOffer): void =>
      this.#step({ kind: "offers", session, offers: [offer] });
    this.#progress = new ProgressTeller(deps);
    this.#secrets = new SecretKeeping({ ...deps, offered });
  }

  get size(): Roster["size"] {
    return this.#roster.size;
  }

  get workSlots(): number {
    return this.#roster.workSlots;
  }

  reports(): AttemptReport[] {
    return this.#roster.reports();
  }

  /** Recovers what earlier processes left, then begins to tick. */
  async start(): Promise<void> {
    await this.#deps.site.prepare();
    await this.#recoverAll();
    this.#ticker = this.#deps.clock.every(tickMs, () => this.#tick());
  }

  /** Stops following; scripts go on. */
  async stop(): Promise<void> {
    this.#stage = "stopped";
    this.#stopping.abort(new AppError("aborted", "the agent stops"));
    this.#ticker?.cancel();
    for (const execution of this.#executions.values()) await execution.stop();
    this.#executions.clear();
    this.#deps.site.close();
  }

  drain(): void {
    this.#step({ kind: "drain" });
    for (const outbox of this.#outboxes.values()) outbox.flush();
  }

  sessionOpened({ no, link, welcome }: Session): void {
    const { node, verdicts, slots, capabilities } = welcome;
    this.#outboxes.set(no, new Outbox({ link, capabilities, defer: this.#deps.defer }));
    // Before the session has its first credit. A node that says nothing knows nothing of it.
    if (slots !== undefined) this.#step({ kind: "slots", slots });
    this.#step({ kind: "session-opened", session: no, node: node.id, verdicts });
  }

  sessionEnded(session: SessionNo): void {
    this.#outboxes.delete(session);
    this.#step({ kind: "session-ended", session });
  }

  roundTrip(session: SessionNo, roundTripMs: number): void {
    this.#step({ kind: "round-trip", session, roundTripMs });
  }

  /** Messages about attempts; the others are connections.ts's and renewal.ts's. */
  receive(session: SessionNo, message: FromNode): void {
    switch (message.type) {
      case "offer": {
        const { site } = this.#deps;
        // Looked at now: what a disk had free half a second ago says nothing about a flood.
        const now = { freeBytes: site.freeBytes(), stoodMs: site.bootMs() - this.#aliveAtMs };
        const offers = message.items.map((offer) => ({ offer, admission: site.admit(offer, now) }));
        this.#step({ kind: "offers", session, offers: this.#secrets.defer(session, offers) });
        return;
      }
      case "cancel":
        this.#step({ kind: "cancels", session, items: message.items });
        return;
      case "inquire":
        this.#step({ kind: "inquiries", session, attempts: message.items });
        return;
      case "result-ack":
        for (const { attempt, verdict } of message.items) this.#step({ kind: "result-ack", attempt, verdict });
        return;
      case "settings":
        this.#step({ kind: "slots", slots: message.slots });
        return;
      case "go-away":
        this.#step({ kind: "go-away", session });
        return;
      case "log-ack":
        if (this.#homes.get(message.attempt)?.session !== session) return;
        this.#executions.get(message.attempt)?.shipper(message.stream).acknowledged(message.offset, message.window);
        return;
      case "resume-from": {
        const home = this.#homes.get(message.attempt);
        if (home?.session !== session) return;
        if (message.homeNo > home.homeNo) {
          this.#step({ kind: "home-superseded", session, attempt: message.attempt, homeNo: message.homeNo });
          return;
        }
        this.#step({ kind: "log-rewound", attempt: message.attempt });
        this.#executions.get(message.attempt)?.shipper(message.stream).resumeFrom(message.offset, message.window);
        return;
      }
      default:
        return;
    }
  }

  #step(event: RosterEvent): void {
    this.#events.push(event);
    if (this.#events.length > 1) return;
    const { clock } = this.#deps;
    // An effect may cause an event at once; it waits until the effects before it have been begun.
    for (let next = this.#events[0]; next !== undefined; next = this.#events[0]) {
      try {
        if (this.#stage === "running")
          this.#carryOut(this.#roster.step(next, { monotonicMs: clock.monotonicMs(), wallMs: clock.wallMs() }));
      } catch (cause) {
        // Half of its effects may be begun: what this process believes and what it did differ. The next one recovers.
        this.#stage = "stopped";
        this.#deps.onFatal(AppError.from(cause));
      }
      this.#events.shift();
    }
  }

  #carryOut(effects: readonly RosterEffect[]): void {
    for (const effect of effects) this.#perform(effect);
  }

  #perform(effect: RosterEffect): void {
    const { journal } = this.#deps;
    switch (effect.kind) {
      case "send":
        this.#outboxes.get(effect.session)?.put(effect.message);
        return;
      case "ready":
        this.#outboxes.get(effect.session)?.send({ type: "ready", work: effect.work, system: effect.system });
        return;
      case "note":
        journal.note(effect.record);
        // One that still has its slot is swept on, by the same execution.
        if (effect.record.kind === "acknowledged" && !this.#roster.holds(effect.record.attempt))
          this.#release(effect.record.attempt);
        return;
      case "append-refusal": {
        const { session, item, refusal } = effect;
        this.#durably(journal.append({ kind: "tombstone", attempt: item.attempt, refusal }), {
          kind: "refusal-durable",
          session,
          item,
        });
        return;
      }
      case "attach-log":
        this.#attach(effect);
        return;
      case "detach-log":
        this.#homes.delete(effect.attempt);
        this.#progress.detach(effect.attempt);
        this.#executions.get(effect.attempt)?.detach();
        return;
      case "forget": {
        this.#release(effect.attempt);
        const { background, site } = this.#deps;
        background.run("remove an attempt's folder", () => site.removeFolder(effect.attempt));
        return;
      }
      case "close-session":
        this.#outboxes.get(effect.session)?.flush();
        this.#deps.closeSession(effect.session);
        return;
      case "attempt":
        this.#performAttempt(effect.attempt, effect.effect);
    }
  }

  #performAttempt(attempt: AttemptId, effect: AttemptEffect): void {
    const { journal } = this.#deps;
    if (effect.kind === "append") {
      this.#durably(journal.append(effect.record), {
        kind: "attempt",
        attempt,
        event: { kind: "durable", mark: effect.mark },
      });
    } else if (effect.kind === "note") {
      journal.note(effect.record);
    } else {
      this.#carryOutExecution(attempt, effect);
    }
  }

  #carryOutExecution(attempt: AttemptId, effect: AttemptEffect): void {
    const { background, clock, logger } = this.#deps;
    const execution = this.#execution(attempt);
    if (execution === undefined) return;
    const name = `${effect.kind} of attempt ${attempt}`;
    const perform = async (): Promise<void> => {
      reached("performing", effect.kind);
      await execution.perform(effect);
      reached("performed", effect.kind);
    };
    if (!isAwaited(effect)) {
      background.run(name, () =>
        perform().catch((cause: unknown) => {
          if (this.#stage === "running") throw cause;
        }),
      );
      return;
    }
    const onFailure = (cause: unknown): void =>
      logger.error({ err: cause, attempt }, `${name} failed and is repeated: ${describeError(cause)}`);
    background.run(name, () => repeatUntilDone(perform, { clock, signal: this.#stopping.signal, onFailure }));
  }

  #durably(written: Promise<void>, then: RosterEvent): void {
    written.then(
      () => this.#step(then),
      (cause: unknown) => {
        if (this.#stage === "running" && this.#deps.journal.corruption === undefined)
          this.#deps.onFatal(AppError.from(cause));
      },
    );
  }

  /** The driver of an attempt that runs a script; made from the journal when there is none yet. */
  #execution(attempt: AttemptId): AttemptExecution | undefined {
    const known = this.#executions.get(attempt);
    if (known !== undefined) return known;
    const { state } = this.#deps.journal;
    const journaled = state.open.get(attempt) ?? state.acknowledged.get(attempt);
    const { facts, result } = journaled ?? { facts: undefined, result: undefined };
    const isScript =
      facts === undefined ? (result?.out.length ?? 0) + (result?.err.length ?? 0) > 0 : facts.spec.kind === "script";
    if (!isScript) return undefined;
    const post = (event: AttemptEvent): void => this.#step({ kind: "attempt", attempt, event });
    const execution = this.#deps.site.execution(
      {
        clock: this.#deps.clock,
        logger: this.#deps.logger.child({ attempt }),
        onEvent: post,
        onDrained: () => {
          const home = this.#homes.get(attempt);
          if (home !== undefined) this.#step({ kind: "log-drained", attempt, homeNo: home.homeNo });
        },
      },
      { attempt, facts },
    );
    if (result !== undefined) execution.seal({ out: result.out.length, err: result.err.length });
    this.#executions.set(attempt, execution);
    return execution;
  }

  #release(attempt: AttemptId): void {
    this.#homes.delete(attempt);
    this.#progress.detach(attempt);
    const execution = this.#executions.get(attempt);
    if (execution === undefined) return;
    this.#executions.delete(attempt);
    this.#deps.background.run("let go of an attempt", () => execution.stop());
  }

  #attach(effect: Extract<RosterEffect, { kind: "attach-log" }>): void {
    const { attempt, session, homeNo } = effect;
    const outbox = this.#outboxes.get(session);
    if (outbox === undefined) return;
    this.#homes.set(attempt, { session, homeNo });
    const execution = this.#execution(attempt);
    if (execution === undefined) return;
    execution.attach(logOutlets(outbox, { attempt, homeNo }), effect.from);
    if (!outbox.knows(nodeCapability.progress)) return;
    this.#progress.attach(attempt, { outlet: outbox, homeNo, script: execution });
  }

  #tick(): void {
    this.#aliveAtMs = this.#deps.site.bootMs();
    this.#step({ kind: "tick" });
    if (this.#stage === "running") this.#progress.look();
  }

  async #recoverAll(): Promise<void> {
    const { journal, logger, clock, site } = this.#deps;
    const { open, acknowledged, closed } = journal.state;
    const acknowledgedAtMs = clock.monotonicMs();
    for (const [attempt, { facts, homeNo, result }] of acknowledged) {
      if (result !== undefined)
        this.#roster.restoreResult(attempt, facts, { homeNo, record: result, acknowledgedAtMs });
    }
    for (const [attempt, journaled] of open) {
      if (journaled.result !== undefined) {
        this.#roster.restoreResult(attempt, journaled.facts, { homeNo: journaled.homeNo, record: journaled.result });
      } else if (journaled.facts !== undefined && journal.corruption === undefined) {
        const action = recover(site.evidence(attempt, journaled));
        logger.info({ attempt, action: action.kind }, "recovered an attempt of an earlier process");
        if (action.kind === "orphan" || action.kind === "ignore") continue;
        const { facts, homeNo, cancelGraceMs: graceMs = 0 } = journaled;
        this.#carryOut(
          this.#roster.restore(facts, action, {
            homeNo,
            graceMs,
            wallMs: clock.wallMs(),
            monotonicMs: clock.monotonicMs(),
          }),
        );
      }
    }
    if (journal.corruption !== undefined) return;
    for (const attempt of await site.folders()) {
      if (open.has(attempt) || acknowledged.has(attempt)) continue;
      if (recover(site.evidence(attempt, undefined)).kind === "orphan") {
        logger.warn({ attempt }, "a script runs that this journal does not know; it is left running");
      } else {
        logger.info({ attempt, wasClosed: closed.has(attempt) }, "removed the folder of an attempt that is not open");
        await site.removeFolder(attempt);
      }
    }
    this.#step({ kind: "tick" });
  }
}
