// The pure core of the agent as a whole: its attempts, slots, sessions, credit, homes and resends (DESIGN 4 and 5).
// Works in place on its own state, without clock, disk, network or randomness; engine.ts carries its effects out.
// Invariant: a node is told only what is durable in the journal, and each attempt has at most one home at a time.
import type { AttemptId } from "../shared/ids.ts";
import type { Lane } from "../shared/task.ts";
import type { AttemptReport } from "../shared/wire/attempt-report.ts";
import type { CancelItem } from "../shared/wire/cancel.ts";
import { attemptsPerHello } from "../shared/wire/hello.ts";
import type { OfferItem } from "../shared/wire/offer.ts";
import type { RefuseItem } from "../shared/wire/refuse.ts";
import type { ResultRecord } from "../shared/wire/result.ts";
import type { Verdict } from "../shared/wire/welcome.ts";
import type { AttemptEvent, AttemptState, AttemptStep, ResumeAction } from "./attempt.ts";
import { beginAttempt, concludeNoOp, neverStartedRecord, resumeAttempt, stepAttempt } from "./attempt.ts";
import { Homes } from "./homes.ts";
import type { AttemptFacts, Refusal } from "./journal-record.ts";
import type { Entry } from "./roster-entry.ts";
import { hasLog, isDurable, reportedState } from "./roster-entry.ts";
import type { AdmittedOffer, RosterEffect, RosterEvent, RosterOptions, SessionNo } from "./roster-event.ts";

export class Roster {
  readonly #options: RosterOptions;
  readonly #entries = new Map<AttemptId, Entry>();
  readonly #closed: Map<AttemptId, Refusal | undefined>;
  readonly #homes: Homes;
  readonly #waiting = new Set<AttemptId>();
  /** Refused for good while the tombstone is on its way to the disk, and the session that asked last. */
  readonly #refusing = new Map<AttemptId, SessionNo>();
  readonly #held: Record<Lane, number> = { work: 0, system: 0 };
  #mode: "open" | "draining" | "quarantined" = "open";
  #effects: RosterEffect[] = [];
  #wallMs = 0;

  /** `closed` is the journal's own map and only read here: the journal adds to it when a record is appended. */
  constructor(deps: { readonly closed: Map<AttemptId, Refusal | undefined> }, options: RosterOptions) {
    this.#closed = deps.closed;
    this.#options = options;
    this.#homes = new Homes({ entries: this.#entries, emit: (effect) => this.#effects.push(effect) }, options);
  }

  /** A damaged journal: results go out, no work comes in. */
  quarantine(): void {
    this.#mode = "quarantined";
  }

  get size(): {
    readonly attempts: number;
    readonly open: number;
    readonly running: number;
    readonly waiting: number;
    readonly kept: number;
  } {
    const open = this.#entries.size - this.#homes.kept;
    return {
      attempts: this.#entries.size,
      open,
      running: this.#held.work + this.#held.system,
      waiting: this.#waiting.size,
      kept: this.#homes.kept,
    };
  }

  /** Takes over one attempt from the journal at start. */
  restore(
    facts: AttemptFacts,
    action: ResumeAction,
    options: { readonly homeNo: number; readonly graceMs: number; readonly wallMs: number },
  ): RosterEffect[] {
    const next =
      facts.spec.kind === "no-op"
        ? concludeNoOp(facts.attempt, options.wallMs)
        : resumeAttempt(action, options.graceMs);
    const entry = this.#add(facts.attempt, facts, next.state, options.homeNo);
    const holds = next.state.kind === "starting" || next.state.kind === "ending";
    if (holds) this.#hold(entry, facts.lane);
    if (next.state.kind === "waiting") this.#waiting.add(entry.attempt);
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
  }

  /** What `hello` lists: everything open that is durable. */
  reports(): AttemptReport[] {
    const reports: AttemptReport[] = [];
    for (const entry of this.#entries.values()) {
      if (reports.length === attemptsPerHello) break;
      const report = entry.acknowledgedAtMs === undefined ? this.#report(entry, undefined) : undefined;
      if (report !== undefined) reports.push(report);
    }
    return reports;
  }

  step(event: RosterEvent, now: { readonly monotonicMs: number; readonly wallMs: number }): RosterEffect[] {
    this.#homes.nowMs = now.monotonicMs;
    this.#wallMs = now.wallMs;
    switch (event.kind) {
      case "session-opened":
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
      case "attempt": {
        const entry = this.#entries.get(event.attempt);
        if (entry !== undefined) this.#stepAttempt(entry, event.event);
        break;
      }
      case "refusal-durable":
        for (const session of new Set([event.session, this.#refusing.get(event.item.attempt)]))
          this.#homes.send(session, { type: "refuse", item: event.item });
        this.#refusing.delete(event.item.attempt);
        break;
      case "drain":
        this.#mode = this.#mode === "quarantined" ? "quarantined" : "draining";
        break;
      case "tick":
        this.#homes.tick();
        break;
    }
    this.#grantSlots();
    if (this.#mode === "open") {
      this.#homes.grantCredit({ work: this.#free("work") - this.#waiting.size, system: this.#free("system") });
    }
    return this.#flush();
  }

  #flush(): RosterEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  #add(attempt: AttemptId, facts: AttemptFacts | undefined, state: AttemptState, homeNo: number): Entry {
    const entry: Entry = {
      attempt,
      facts,
      state,
      slot: undefined,
      home: undefined,
      homeNo,
      log: "flowing",
      resend: undefined,
      acknowledgedAtMs: undefined,
    };
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
    const isFree = this.#free(offer.lane) > 0;
    if (!isFree && this.#waiting.size >= this.#options.waitingAtMost) return later("busy");
    const { task, attemptNumber, lane, spec } = offer;
    const facts: AttemptFacts = { attempt, task, attemptNumber, offerNo, lane, spec, secrets: offer.secrets?.length };
    const next = beginAttempt(
      { facts, hostBootId: this.#options.hostBootId, wallMs: this.#wallMs },
      { slot: isFree ? "held" : "wanted" },
    );
    const entry = this.#add(attempt, facts, next.state, 1);
    entry.home = session;
    if (isFree) this.#hold(entry, lane);
    else this.#waiting.add(attempt);
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
    const item = this.#report(entry, session);
    if (item !== undefined) this.#homes.send(session, { type: "state", item });
  }

  #report(entry: Entry, session: SessionNo | undefined): AttemptReport | undefined {
    if (!isDurable(entry)) return undefined;
    const homeHere = session !== undefined && entry.home === session;
    return { attempt: entry.attempt, state: reportedState(entry.state), homeNo: entry.homeNo, homeHere };
  }

  #cancel(session: SessionNo, item: CancelItem): void {
    const entry = this.#entries.get(item.attempt);
    if (entry !== undefined) {
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
      this.#wallMs,
    );
    const tombstone = this.#add(item.attempt, undefined, { kind: "concluding", record }, 1);
    tombstone.home = session;
    this.#effects.push({
      kind: "attempt",
      attempt: item.attempt,
      effect: { kind: "append", record: { kind: "result", attempt: item.attempt, record }, mark: "result" },
    });
  }

  // ── attempts ────────────────────────────────────────────────────────────────────────────────────────────────────

  #stepAttempt(entry: Entry, event: AttemptEvent): void {
    const { facts } = entry;
    if (facts === undefined) {
      if (entry.state.kind !== "concluding" || event.kind !== "durable") return;
      entry.state = { kind: "finished", record: entry.state.record };
      this.#finished(entry);
      return;
    }
    const wasDurable = isDurable(entry);
    const next = stepAttempt(entry.state, event, { facts, hostBootId: this.#options.hostBootId, wallMs: this.#wallMs });
    this.#perform(entry, next);
    if (!wasDurable && this.#homes.isHomeless(entry)) this.#homes.move(entry, this.#homes.choose(undefined));
  }

  #perform(entry: Entry, next: AttemptStep): void {
    entry.state = next.state;
    if (next.state.kind !== "waiting" && next.state.kind !== "recording") this.#waiting.delete(entry.attempt);
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
          this.#release(entry);
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

  // ── slots and credit ────────────────────────────────────────────────────────────────────────────────────────────

  #hold(entry: Entry, lane: Lane): void {
    entry.slot = lane;
    this.#held[lane] += 1;
  }

  #release(entry: Entry): void {
    this.#waiting.delete(entry.attempt);
    if (entry.slot === undefined) return;
    this.#held[entry.slot] -= 1;
    entry.slot = undefined;
  }

  #free(lane: Lane): number {
    const slots = lane === "work" ? this.#options.workSlots : this.#options.systemSlots;
    return slots - this.#held[lane];
  }

  #grantSlots(): void {
    if (this.#mode !== "open" || this.#waiting.size === 0) return;
    for (const attempt of this.#waiting) {
      const entry = this.#entries.get(attempt);
      if (entry?.facts === undefined || entry.state.kind !== "waiting" || this.#free(entry.facts.lane) <= 0) continue;
      this.#hold(entry, entry.facts.lane);
      this.#stepAttempt(entry, { kind: "slot-granted" });
    }
  }
}
