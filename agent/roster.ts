// The pure core of the agent as a whole: its attempts and what nodes say and hear of them (DESIGN 4 and 5). Who may run is
// turns.ts's, sessions, credit, homes and resends are homes.ts's.
// Works in place on its own state, without clock, disk, network or randomness; engine.ts carries its effects out.
// Invariant: a node is told only what is durable in the journal, and each attempt has at most one home at a time.
import type { AttemptId } from "../shared/ids.ts";
import type { AttemptReport } from "../shared/wire/attempt-report.ts";
import type { CancelItem } from "../shared/wire/cancel.ts";
import { attemptsPerHello } from "../shared/wire/hello.ts";
import type { OfferItem } from "../shared/wire/offer.ts";
import type { RefuseItem } from "../shared/wire/refuse.ts";
import type { ResultRecord } from "../shared/wire/result.ts";
import type { Verdict } from "../shared/wire/welcome.ts";
import type { AttemptEvent, AttemptState, AttemptStep, ResumeAction } from "./attempt.ts";
import { beginAttempt, concludeNoOp, mayHaveLeft, neverStartedRecord, resumeAttempt, stepAttempt } from "./attempt.ts";
import { Homes } from "./homes.ts";
import type { AttemptFacts, Refusal } from "./journal-record.ts";
import type { Entry } from "./roster-entry.ts";
import { hasLog, isDurable, newEntry, reportOf } from "./roster-entry.ts";
import type { AdmittedOffer, RosterEffect, RosterEvent, RosterOptions, RosterSize, SessionNo } from "./roster-event.ts";
import { Turns } from "./turns.ts";

export class Roster {
  readonly #options: RosterOptions;
  readonly #entries = new Map<AttemptId, Entry>();
  readonly #closed: Map<AttemptId, Refusal | undefined>;
  readonly #homes: Homes;
  readonly #turns: Turns;
  /** Refused for good while the tombstone is on its way to the disk, and the session that asked last. */
  readonly #refusing = new Map<AttemptId, SessionNo>();
  #mode: "open" | "draining" | "quarantined" = "open";
  #effects: RosterEffect[] = [];
  #now = { monotonicMs: 0, wallMs: 0 };

  /** `closed` is the journal's own map and only read here: the journal adds to it when a record is appended. */
  constructor(deps: { readonly closed: Map<AttemptId, Refusal | undefined> }, options: RosterOptions) {
    this.#closed = deps.closed;
    this.#options = options;
    this.#turns = new Turns(options);
    const emit = (effect: RosterEffect): void => void this.#effects.push(effect);
    this.#homes = new Homes({ entries: this.#entries, emit, holds: (attempt) => this.#turns.holds(attempt) }, options);
  }

  /** A damaged journal: results go out, no work comes in. */
  quarantine(): void {
    this.#mode = "quarantined";
  }

  get size(): RosterSize {
    const open = this.#entries.size - this.#homes.kept;
    return {
      attempts: this.#entries.size,
      open,
      running: this.#turns.running,
      waiting: this.#turns.waiting,
      kept: this.#homes.kept,
    };
  }

  /** How many attempts run at once in the work lane, as set now. */
  get workSlots(): number {
    return this.#turns.workSlots;
  }

  /** Whether the attempt, finished or not, still has its slot and its lock. */
  holds(attempt: AttemptId): boolean {
    return this.#turns.holds(attempt);
  }

  /** Takes over one attempt from the journal at start. All are, before the first step lets any that waits begin. */
  restore(
    facts: AttemptFacts,
    action: ResumeAction,
    options: {
      readonly homeNo: number;
      readonly graceMs: number;
      readonly wallMs: number;
      readonly monotonicMs: number;
    },
  ): RosterEffect[] {
    const next =
      facts.spec.kind === "no-op"
        ? concludeNoOp(facts.attempt, options.wallMs)
        : resumeAttempt(action, options.graceMs);
    const entry = this.#add(facts.attempt, facts, next.state, options.homeNo);
    // Whatever may have begun has its lock, also what only is being swept or may lose the gate to an older shim.
    if (next.state.kind === "waiting") this.#turns.queueAgain(entry.attempt, facts, options.monotonicMs);
    else if (facts.spec.kind === "script") this.#turns.retake(entry.attempt, facts);
    for (const effect of next.effects) this.#effects.push({ kind: "attempt", attempt: entry.attempt, effect });
    return this.#flush();
  }

  restoreResult(
    attempt: AttemptId,
    facts: AttemptFacts | undefined,
    kept: { readonly homeNo: number; readonly record: ResultRecord; readonly acknowledgedAtMs?: number },
  ): void {
    const entry = this.#add(attempt, facts, { kind: "finished", record: kept.record }, kept.homeNo);
    entry.acknowledgedAtMs = kept.acknowledgedAtMs;
    if (kept.acknowledgedAtMs === undefined) this.#homes.awaitAcknowledgement(attempt);
    else this.#homes.keep(attempt);
    if (facts === undefined || !mayHaveLeft(kept.record)) return;
    this.#turns.retake(attempt, facts);
    this.#effects.push({ kind: "attempt", attempt, effect: { kind: "sweep" } });
  }

  /** What `hello` lists: everything open that is durable. */
  reports(): AttemptReport[] {
    const reports: AttemptReport[] = [];
    for (const entry of this.#entries.values()) {
      if (reports.length === attemptsPerHello) break;
      const report = entry.acknowledgedAtMs === undefined ? reportOf(entry, undefined) : undefined;
      if (report !== undefined) reports.push(report);
    }
    return reports;
  }

  step(event: RosterEvent, now: { readonly monotonicMs: number; readonly wallMs: number }): RosterEffect[] {
    this.#homes.nowMs = now.monotonicMs;
    this.#now = now;
    switch (event.kind) {
      case "session-opened":
        this.#turns.prove();
        this.#homes.opened(event.session, event.node);
        this.#heed(event.session, event.verdicts);
        this.#homes.settle(event.session);
        break;
      case "session-ended":
        this.#homes.ended(event.session);
        break;
      case "round-trip":
        this.#homes.roundTrip(event.session, event.roundTripMs);
        break;
      case "go-away":
        this.#homes.goAway(event.session);
        break;
      case "offers":
        for (const offer of event.offers) this.#offered(event.session, offer);
        break;
      case "cancels":
        for (const item of event.items) this.#cancel(event.session, item);
        break;
      case "inquiries":
        for (const attempt of event.attempts) this.#answer(event.session, attempt);
        break;
      case "result-ack":
        this.#homes.acknowledged(event.attempt, event.verdict);
        break;
      case "home-superseded":
        this.#homes.superseded(event.session, event.attempt, event.homeNo);
        break;
      case "log-drained":
        this.#homes.drained(event.attempt, event.homeNo);
        break;
      case "log-rewound": {
        const entry = this.#entries.get(event.attempt);
        if (entry !== undefined) entry.log = "flowing";
        break;
      }
      case "attempt":
        this.#stepKnown(event.attempt, event.event);
        break;
      case "refusal-durable":
        for (const session of new Set([event.session, this.#refusing.get(event.item.attempt)]))
          this.#homes.send(session, { type: "refuse", item: event.item });
        this.#refusing.delete(event.item.attempt);
        break;
      case "drain":
        this.#mode = this.#mode === "quarantined" ? "quarantined" : "draining";
        break;
      case "slots":
        this.#turns.setWorkSlots(event.slots ?? this.#options.workSlots);
        break;
      case "tick":
        for (const attempt of this.#turns.overdue(now.monotonicMs)) this.#stepKnown(attempt, { kind: "lock-overdue" });
        this.#homes.tick();
        break;
    }
    if (this.#mode === "open") {
      this.#grantTurns();
      this.#homes.grantCredit({ work: this.#turns.room("work"), system: this.#turns.room("system") });
    }
    return this.#flush();
  }

  #flush(): RosterEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  #add(attempt: AttemptId, facts: AttemptFacts | undefined, state: AttemptState, homeNo: number): Entry {
    const entry = newEntry({ attempt, facts, state, homeNo });
    this.#entries.set(attempt, entry);
    return entry;
  }

  #heed(session: SessionNo, verdicts: readonly { readonly attempt: AttemptId; readonly verdict: Verdict }[]): void {
    for (const { attempt, verdict } of verdicts) {
      const entry = this.#entries.get(attempt);
      if (entry === undefined || verdict === "keep") continue;
      const graceMs = entry.facts?.spec.kind === "script" ? entry.facts.spec.graceMs : 0;
      if (verdict === "cancel") this.#cancel(session, { attempt, graceMs });
      else this.#homes.acknowledged(attempt, verdict);
    }
  }

  // ── offers, cancels, inquiries ──────────────────────────────────────────────────────────────────────────────────

  #offered(session: SessionNo, { offer, admission }: AdmittedOffer): void {
    if (!this.#homes.has(session)) return;
    this.#homes.spend(session, offer.lane);
    const { attempt, offerNo } = offer;
    const later = (reason: Extract<RefuseItem, { class: "later" }>["reason"], detail?: string): void =>
      this.#homes.send(session, { type: "refuse", item: { attempt, offerNo, class: "later", reason, detail } });
    if (this.#entries.has(attempt) || this.#closed.has(attempt)) return this.#answerOffer(session, offer);
    if (offer.journalId !== this.#options.journalId) return later("other-journal");
    if (this.#mode !== "open")
      return later("stopping", this.#mode === "quarantined" ? "the agent's journal is damaged" : undefined);
    if (admission.kind === "later") return later(admission.reason, admission.detail);
    if (admission.kind === "never") {
      const { refusal } = admission;
      this.#refusing.set(attempt, session);
      this.#effects.push({
        kind: "append-refusal",
        session,
        refusal,
        item: { attempt, offerNo, class: "never", ...refusal },
      });
      return;
    }
    const { task, attemptNumber, lane, spec } = offer;
    const facts: AttemptFacts = { attempt, task, attemptNumber, offerNo, lane, spec, secrets: offer.secrets?.length };
    const slot = this.#turns.enter(attempt, facts, this.#now.monotonicMs);
    if (slot === "full") return later("busy", this.#turns.workSlots === 0 ? "its slots are set to 0" : undefined);
    const next = beginAttempt({ facts, hostBootId: this.#options.hostBootId, wallMs: this.#now.wallMs }, { slot });
    const entry = this.#add(attempt, facts, next.state, 1);
    entry.home = session;
    this.#perform(entry, next);
  }

  #answerOffer(session: SessionNo, offer: OfferItem): void {
    const refusal = this.#closed.get(offer.attempt);
    if (refusal === undefined) this.#answer(session, offer.attempt);
    else this.#refuse(session, offer, refusal);
  }

  /** Until its tombstone is durable nothing is said; then `refusal-durable` says it. */
  #refuse(session: SessionNo, of: Pick<OfferItem, "attempt" | "offerNo">, refusal: Refusal): void {
    const { attempt, offerNo } = of;
    if (this.#refusing.has(attempt)) this.#refusing.set(attempt, session);
    else this.#homes.send(session, { type: "refuse", item: { attempt, offerNo, class: "never", ...refusal } });
  }

  /** What we know of an attempt, to a node that asked. A result moves here, for this node says it lacks it. */
  #answer(session: SessionNo, attempt: AttemptId): void {
    const entry = this.#entries.get(attempt);
    if (entry === undefined) {
      const refusal = this.#closed.get(attempt);
      if (refusal !== undefined) return this.#refuse(session, { attempt, offerNo: 0 }, refusal);
      const state = this.#closed.has(attempt) ? "collected" : this.#mode === "quarantined" ? undefined : "unknown";
      // A damaged journal may have lost the record of this very attempt: it must not be declared unknown.
      if (state !== undefined)
        this.#homes.send(session, { type: "state", item: { attempt, state, homeNo: 0, homeHere: false } });
      return;
    }
    if (entry.state.kind === "finished") {
      entry.acknowledgedAtMs = undefined;
      this.#homes.awaitAcknowledgement(attempt);
      if (entry.home !== session) {
        if (entry.home !== undefined) this.#effects.push({ kind: "detach-log", attempt });
        this.#homes.move(entry, session);
      } else {
        this.#homes.attach(entry, "node");
      }
      return;
    }
    const item = reportOf(entry, session);
    if (item !== undefined) this.#homes.send(session, { type: "state", item });
  }

  #cancel(session: SessionNo, item: CancelItem): void {
    const entry = this.#entries.get(item.attempt);
    if (entry !== undefined) {
      if (item.abandoned === true && this.#abandon(entry) === "released") return;
      // A result on its way here is the answer; asked again every 2 s, its log would begin anew each time and never end.
      const isOnItsWay = entry.home === session && entry.acknowledgedAtMs === undefined;
      if (entry.state.kind === "finished") {
        if (!isOnItsWay) this.#answer(session, item.attempt);
      } else this.#stepAttempt(entry, { kind: "cancel", graceMs: item.graceMs });
      return;
    }
    if (this.#closed.has(item.attempt)) {
      this.#answer(session, item.attempt);
      return;
    }
    if (this.#mode === "quarantined") return;
    // The cancel overtook its offer: the tombstone makes sure that the offer finds it cancelled.
    const record = neverStartedRecord(
      { outcome: "cancelled", reason: "never-started", exitCode: null, signal: null },
      this.#now.wallMs,
    );
    const tombstone = this.#add(item.attempt, undefined, { kind: "concluding", record }, 1);
    tombstone.home = session;
    this.#effects.push({
      kind: "attempt",
      attempt: item.attempt,
      effect: { kind: "append", record: { kind: "result", attempt: item.attempt, record }, mark: "result" },
    });
  }

  /**
   * A person's word that what cannot be killed holds nothing any more. What runs is ended first, like by any cancel: that
   * takes its grace and 30 s at most, and the next script under its lock would not like its company.
   */
  #abandon(entry: Entry): "released" | "marked" {
    entry.standing = "abandoned";
    if (entry.state.kind !== "finished" || !this.#turns.holds(entry.attempt)) return "marked";
    this.#turns.release(entry.attempt);
    return "released";
  }

  // ── attempts ────────────────────────────────────────────────────────────────────────────────────────────────────

  #stepKnown(attempt: AttemptId, event: AttemptEvent): void {
    const entry = this.#entries.get(attempt);
    if (entry !== undefined) this.#stepAttempt(entry, event);
  }

  #stepAttempt(entry: Entry, event: AttemptEvent): void {
    const { facts } = entry;
    if (facts === undefined) {
      if (entry.state.kind !== "concluding" || event.kind !== "durable") return;
      entry.state = { kind: "finished", record: entry.state.record };
      this.#finished(entry);
      return;
    }
    const wasDurable = isDurable(entry);
    const next = stepAttempt(entry.state, event, {
      facts,
      hostBootId: this.#options.hostBootId,
      wallMs: this.#now.wallMs,
    });
    this.#perform(entry, next);
    if (!wasDurable && this.#homes.isHomeless(entry)) this.#homes.move(entry, this.#homes.choose(undefined));
  }

  #perform(entry: Entry, next: AttemptStep): void {
    entry.state = next.state;
    if (next.state.kind !== "waiting" && next.state.kind !== "recording") this.#turns.leave(entry.attempt);
    for (const effect of next.effects) {
      switch (effect.kind) {
        case "accept":
          this.#accept(entry);
          break;
        case "announce-start":
          this.#homes.send(entry.home, {
            type: "started",
            item: { attempt: entry.attempt, homeNo: entry.homeNo, startedAtMs: effect.startedAtMs },
          });
          break;
        case "release-slot":
          this.#turns.release(entry.attempt);
          break;
        case "sweep":
          if (next.state.kind === "finished" && entry.standing === "abandoned") this.#turns.release(entry.attempt);
          if (next.state.kind !== "finished" || this.#turns.holds(entry.attempt))
            this.#effects.push({ kind: "attempt", attempt: entry.attempt, effect });
          break;
        case "finished":
          this.#finished(entry);
          break;
        default:
          this.#effects.push({ kind: "attempt", attempt: entry.attempt, effect });
      }
    }
  }

  #accept(entry: Entry): void {
    if (entry.facts === undefined || entry.homeNo !== 1 || entry.home === undefined) return;
    this.#homes.send(entry.home, {
      type: "accept",
      item: { attempt: entry.attempt, offerNo: entry.facts.offerNo, homeNo: 1 },
    });
    if (hasLog(entry)) this.#homes.attach(entry, "start");
  }

  #finished(entry: Entry): void {
    this.#homes.awaitAcknowledgement(entry.attempt);
    if (!hasLog(entry)) entry.log = "drained";
    this.#homes.sendResult(entry);
  }

  #grantTurns(): void {
    const isReady = (attempt: AttemptId): boolean => this.#entries.get(attempt)?.state.kind === "waiting";
    for (const attempt of this.#turns.grant(isReady)) this.#stepKnown(attempt, { kind: "slot-granted" });
  }
}
