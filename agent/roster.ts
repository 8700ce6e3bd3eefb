// The pure core of the agent as a whole: its attempts, slots, sessions, credit, homes and resends (DESIGN 4 and 5).
// Works in place on its own state, without clock, disk, network or randomness; engine.ts carries its effects out.
// Invariant: a node is told only what is durable in the journal, and each attempt has at most one home at a time.
import type { AttemptId, NodeId } from "../shared/ids.ts";
import type { Lane } from "../shared/task.ts";
import type { AttemptReport } from "../shared/wire/attempt-report.ts";
import type { CancelItem } from "../shared/wire/cancel.ts";
import { attemptsPerHello } from "../shared/wire/hello.ts";
import type { OfferItem } from "../shared/wire/offer.ts";
import type { RefuseItem } from "../shared/wire/refuse.ts";
import type { ResultRecord } from "../shared/wire/result.ts";
import type { Verdict } from "../shared/wire/welcome.ts";
import type { AttemptEvent, AttemptState, AttemptStep, ResumeAction } from "./attempt.ts";
import { beginAttempt, neverStartedRecord, resumeAttempt, stepAttempt } from "./attempt.ts";
import type { Credits } from "./credit.ts";
import { noCredit, shareOf, spend, topUp } from "./credit.ts";
import type { AttemptFacts, Refusal } from "./journal-record.ts";
import type { AdmittedOffer, RosterEffect, RosterEvent, RosterItem, RosterOptions, SessionNo } from "./roster-event.ts";

interface Session {
  readonly node: NodeId;
  readonly credits: Credits;
  readonly standing: "welcome" | "going-away";
  readonly roundTripMs: number;
}

interface Entry {
  readonly attempt: AttemptId;
  /** Missing for an attempt that was cancelled before it was offered. */
  readonly facts: AttemptFacts | undefined;
  state: AttemptState;
  slot: Lane | undefined;
  home: SessionNo | undefined;
  homeNo: number;
  log: "flowing" | "drained";
  resend: { readonly atMs: number; readonly delayMs: number } | undefined;
  acknowledgedAtMs: number | undefined;
}

const longResendMs = 600_000;

export class Roster {
  readonly #options: RosterOptions;
  readonly #entries = new Map<AttemptId, Entry>();
  readonly #closed: Map<AttemptId, Refusal | undefined>;
  readonly #sessions = new Map<SessionNo, Session>();
  readonly #waiting = new Set<AttemptId>();
  /** Entries whose result is not acknowledged, and acknowledged ones, each oldest first: what ticks look at. */
  readonly #resending = new Set<AttemptId>();
  readonly #kept = new Set<AttemptId>();
  readonly #held: Record<Lane, number> = { work: 0, system: 0 };
  #mode: "open" | "draining" | "quarantined" = "open";
  #effects: RosterEffect[] = [];
  #nowMs = 0;
  #wallMs = 0;

  /** `closed` is the journal's own map and only read here: the journal adds to it when a record is appended. */
  constructor(deps: { readonly closed: Map<AttemptId, Refusal | undefined> }, options: RosterOptions) {
    this.#closed = deps.closed;
    this.#options = options;
  }

  /** A damaged journal: results go out, no work comes in. */
  quarantine(): void {
    this.#mode = "quarantined";
  }

  get size(): { readonly attempts: number; readonly open: number; readonly running: number; readonly waiting: number; readonly kept: number } {
    const open = this.#entries.size - this.#kept.size;
    return { attempts: this.#entries.size, open, running: this.#held.work + this.#held.system, waiting: this.#waiting.size, kept: this.#kept.size };
  }

  /** Takes over one attempt from the journal at start. */
  restore(facts: AttemptFacts, action: ResumeAction, options: { readonly homeNo: number; readonly graceMs: number }): RosterEffect[] {
    const next = resumeAttempt(action, options.graceMs);
    const entry = this.#add(facts.attempt, facts, next.state, options.homeNo);
    const holds = next.state.kind === "starting" || next.state.kind === "ending";
    if (holds) this.#hold(entry, facts.lane);
    if (next.state.kind === "waiting") this.#waiting.add(entry.attempt);
    for (const effect of next.effects) this.#effects.push({ kind: "attempt", attempt: entry.attempt, effect });
    return this.#flush();
  }

  restoreResult(attempt: AttemptId, facts: AttemptFacts | undefined, kept: { readonly homeNo: number; readonly record: ResultRecord; readonly acknowledgedAtMs?: number }): void {
    const entry = this.#add(attempt, facts, { kind: "finished", record: kept.record }, kept.homeNo);
    entry.acknowledgedAtMs = kept.acknowledgedAtMs;
    (kept.acknowledgedAtMs === undefined ? this.#resending : this.#kept).add(attempt);
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
    this.#nowMs = now.monotonicMs;
    this.#wallMs = now.wallMs;
    switch (event.kind) {
      case "session-opened":
        this.#opened(event.session, event.node, event.verdicts);
        break;
      case "session-ended":
        this.#sessions.delete(event.session);
        this.#leave(event.session);
        break;
      case "round-trip":
        this.#change(event.session, { roundTripMs: event.roundTripMs });
        break;
      case "go-away":
        this.#change(event.session, { standing: "going-away" });
        this.#obeyGoAways();
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
        this.#acknowledged(event.attempt, event.verdict);
        break;
      case "home-superseded":
        this.#superseded(event.session, event.attempt, event.homeNo);
        break;
      case "log-drained":
        this.#drained(event.attempt, event.homeNo);
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
        this.#send(event.session, { type: "refuse", item: event.item });
        break;
      case "drain":
        this.#mode = this.#mode === "quarantined" ? "quarantined" : "draining";
        break;
      case "tick":
        this.#tick();
        break;
    }
    this.#grantSlots();
    this.#grantCredit();
    return this.#flush();
  }

  #flush(): RosterEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  #add(attempt: AttemptId, facts: AttemptFacts | undefined, state: AttemptState, homeNo: number): Entry {
    const entry: Entry = { attempt, facts, state, slot: undefined, home: undefined, homeNo, log: "flowing", resend: undefined, acknowledgedAtMs: undefined };
    this.#entries.set(attempt, entry);
    return entry;
  }

  #change(session: SessionNo, change: Partial<Session>): void {
    const known = this.#sessions.get(session);
    if (known !== undefined) this.#sessions.set(session, { ...known, ...change });
  }

  #send(session: SessionNo | undefined, message: RosterItem): void {
    if (session !== undefined && this.#sessions.has(session)) this.#effects.push({ kind: "send", session, message });
  }

  // ── sessions and homes ──────────────────────────────────────────────────────────────────────────────────────────

  #opened(session: SessionNo, node: NodeId, verdicts: readonly { readonly attempt: AttemptId; readonly verdict: Verdict }[]): void {
    this.#sessions.set(session, { node, credits: noCredit, standing: "welcome", roundTripMs: 0 });
    for (const { attempt, verdict } of verdicts) {
      const entry = this.#entries.get(attempt);
      if (entry === undefined || verdict === "keep") continue;
      if (verdict === "cancel") this.#cancel(session, { attempt, graceMs: entry.facts?.spec.kind === "script" ? entry.facts.spec.graceMs : 0 });
      else this.#acknowledged(attempt, verdict);
    }
    this.#obeyGoAways();
    for (const entry of this.#entries.values()) if (this.#isHomeless(entry)) this.#move(entry, session);
  }

  #isHomeless(entry: Entry): boolean {
    return entry.home === undefined && entry.acknowledgedAtMs === undefined && isDurable(entry);
  }

  #leave(session: SessionNo): void {
    for (const entry of this.#entries.values()) {
      if (entry.home !== session) continue;
      entry.home = undefined;
      this.#effects.push({ kind: "detach-log", attempt: entry.attempt });
      if (this.#isHomeless(entry)) this.#move(entry, this.#choose(session));
    }
  }

  /** Another session than `not` when there is one: those that stay before those that go, then the quickest. */
  #choose(not: SessionNo | undefined): SessionNo | undefined {
    let best: { readonly session: SessionNo; readonly cost: number } | undefined;
    for (const [session, { standing, roundTripMs }] of this.#sessions) {
      const cost = (session === not ? 2e9 : 0) + (standing === "going-away" ? 1e9 : 0) + roundTripMs;
      if (best === undefined || cost < best.cost) best = { session, cost };
    }
    return best?.session;
  }

  #move(entry: Entry, session: SessionNo | undefined): void {
    if (session === undefined) return;
    entry.home = session;
    entry.homeNo += 1;
    entry.log = "flowing";
    entry.resend = undefined;
    this.#effects.push({ kind: "note", record: { kind: "home", attempt: entry.attempt, homeNo: entry.homeNo } });
    this.#send(session, { type: "resume", item: { attempt: entry.attempt, homeNo: entry.homeNo } });
    this.#attach(entry, "node");
  }

  #attach(entry: Entry, from: "start" | "node"): void {
    if (entry.home === undefined) return;
    if (hasLog(entry)) {
      this.#effects.push({ kind: "attach-log", attempt: entry.attempt, session: entry.home, homeNo: entry.homeNo, from });
    } else {
      entry.log = "drained";
      this.#sendResult(entry);
    }
  }

  /** A node that goes away loses homes and credit once some other session stays; while all go, none is obeyed. */
  #obeyGoAways(): void {
    const sessions = [...this.#sessions];
    if (!sessions.some(([, { standing }]) => standing === "welcome")) return;
    for (const [session, { standing }] of sessions) {
      if (standing === "welcome") continue;
      this.#sessions.delete(session);
      this.#leave(session);
      this.#effects.push({ kind: "close-session", session });
    }
  }

  #superseded(session: SessionNo, attempt: AttemptId, homeNo: number): void {
    const entry = this.#entries.get(attempt);
    if (entry === undefined || entry.home !== session || homeNo <= entry.homeNo) return;
    entry.homeNo = homeNo;
    this.#move(entry, session);
  }

  // ── offers, cancels, inquiries ──────────────────────────────────────────────────────────────────────────────────

  #offered(session: SessionNo, { offer, admission }: AdmittedOffer): void {
    const known = this.#sessions.get(session);
    if (known === undefined) return;
    this.#change(session, { credits: { ...known.credits, [offer.lane]: spend(known.credits[offer.lane]) } });
    const { attempt, offerNo } = offer;
    const later = (reason: Extract<RefuseItem, { class: "later" }>["reason"], detail?: string): void =>
      this.#send(session, { type: "refuse", item: { attempt, offerNo, class: "later", reason, detail } });
    if (this.#entries.has(attempt) || this.#closed.has(attempt)) return this.#answerOffer(session, offer);
    if (offer.journalId !== this.#options.journalId) return later("other-journal");
    if (this.#mode !== "open") return later("stopping", this.#mode === "quarantined" ? "the agent's journal is damaged" : undefined);
    if (admission.kind === "later") return later(admission.reason, admission.detail);
    if (admission.kind === "never") {
      const { refusal } = admission;
      this.#effects.push({ kind: "append-refusal", session, refusal, item: { attempt, offerNo, class: "never", ...refusal } });
      return;
    }
    const isFree = this.#free(offer.lane) > 0;
    if (!isFree && this.#waiting.size >= this.#options.waitingAtMost) return later("busy");
    const { task, attemptNumber, lane, spec } = offer;
    const facts: AttemptFacts = { attempt, task, attemptNumber, offerNo, lane, spec };
    const next = beginAttempt({ facts, hostBootId: this.#options.hostBootId, wallMs: this.#wallMs }, { slot: isFree ? "held" : "wanted" });
    const entry = this.#add(attempt, facts, next.state, 1);
    entry.home = session;
    if (isFree) this.#hold(entry, lane);
    else this.#waiting.add(attempt);
    this.#perform(entry, next);
  }

  #answerOffer(session: SessionNo, offer: OfferItem): void {
    const refusal = this.#closed.get(offer.attempt);
    if (refusal === undefined) this.#answer(session, offer.attempt);
    else this.#send(session, { type: "refuse", item: { attempt: offer.attempt, offerNo: offer.offerNo, class: "never", ...refusal } });
  }

  /** What we know of an attempt, to a node that asked. A result moves here, for this node says it lacks it. */
  #answer(session: SessionNo, attempt: AttemptId): void {
    const entry = this.#entries.get(attempt);
    if (entry === undefined) {
      const state = this.#closed.has(attempt) ? "collected" : this.#mode === "quarantined" ? undefined : "unknown";
      // A damaged journal may have lost the record of this very attempt: it must not be declared unknown.
      if (state !== undefined) this.#send(session, { type: "state", item: { attempt, state, homeNo: 0, homeHere: false } });
      return;
    }
    if (entry.state.kind === "finished") {
      entry.acknowledgedAtMs = undefined;
      this.#kept.delete(attempt);
      this.#resending.add(attempt);
      if (entry.home !== session) {
        if (entry.home !== undefined) this.#effects.push({ kind: "detach-log", attempt });
        this.#move(entry, session);
      } else {
        this.#attach(entry, "node");
      }
      return;
    }
    const item = this.#report(entry, session);
    if (item !== undefined) this.#send(session, { type: "state", item });
  }

  #report(entry: Entry, session: SessionNo | undefined): AttemptReport | undefined {
    if (!isDurable(entry)) return undefined;
    const homeHere = session !== undefined && entry.home === session;
    return { attempt: entry.attempt, state: reportedState(entry.state), homeNo: entry.homeNo, homeHere };
  }

  #cancel(session: SessionNo, item: CancelItem): void {
    const entry = this.#entries.get(item.attempt);
    if (entry !== undefined) {
      if (entry.state.kind === "finished") this.#answer(session, item.attempt);
      else this.#stepAttempt(entry, { kind: "cancel", graceMs: item.graceMs });
      return;
    }
    if (this.#closed.has(item.attempt)) {
      this.#answer(session, item.attempt);
      return;
    }
    if (this.#mode === "quarantined") return;
    // The cancel overtook its offer: the tombstone makes sure that the offer finds it cancelled.
    const record = neverStartedRecord({ outcome: "cancelled", reason: "never-started", exitCode: null, signal: null }, this.#wallMs);
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
    if (!wasDurable && this.#isHomeless(entry)) this.#move(entry, this.#choose(undefined));
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
          this.#send(entry.home, { type: "started", item: { attempt: entry.attempt, homeNo: entry.homeNo, startedAtMs: effect.startedAtMs } });
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
    this.#send(entry.home, { type: "accept", item: { attempt: entry.attempt, offerNo: entry.facts.offerNo, homeNo: 1 } });
    if (hasLog(entry)) this.#attach(entry, "start");
  }

  #finished(entry: Entry): void {
    this.#resending.add(entry.attempt);
    if (!hasLog(entry)) entry.log = "drained";
    this.#sendResult(entry);
  }

  #drained(attempt: AttemptId, homeNo: number): void {
    const entry = this.#entries.get(attempt);
    if (entry === undefined || entry.homeNo !== homeNo) return;
    entry.log = "drained";
    this.#sendResult(entry);
  }

  #sendResult(entry: Entry): void {
    if (entry.state.kind !== "finished" || entry.log !== "drained" || entry.home === undefined || entry.acknowledgedAtMs !== undefined) return;
    this.#send(entry.home, { type: "result", item: { attempt: entry.attempt, homeNo: entry.homeNo, record: entry.state.record } });
    const firstMs = Math.max(this.#options.resendFirstMs, 4 * (this.#sessions.get(entry.home)?.roundTripMs ?? 0));
    const delayMs = entry.resend === undefined ? firstMs : Math.min(entry.resend.delayMs * 2, Math.max(this.#options.resendCapMs, firstMs));
    entry.resend = { atMs: this.#nowMs + delayMs, delayMs };
  }

  #acknowledged(attempt: AttemptId, verdict: "acknowledged" | "unknown"): void {
    const entry = this.#entries.get(attempt);
    if (entry?.state.kind !== "finished") return;
    if (verdict === "unknown") {
      // No such row: result and files stay for a person to look at; ask again rarely, a database may be restored.
      entry.resend = { atMs: this.#nowMs + longResendMs, delayMs: longResendMs };
      return;
    }
    if (entry.acknowledgedAtMs !== undefined) return;
    entry.acknowledgedAtMs = this.#nowMs;
    entry.resend = undefined;
    entry.home = undefined;
    this.#resending.delete(attempt);
    this.#kept.add(attempt);
    this.#effects.push({ kind: "detach-log", attempt });
    this.#effects.push({ kind: "note", record: { kind: "acknowledged", attempt } });
    if (this.#kept.size > this.#options.keptAtMost) this.#closeOldest();
  }

  #tick(): void {
    for (const attempt of this.#resending) {
      const entry = this.#entries.get(attempt);
      if (entry?.resend === undefined || entry.resend.atMs > this.#nowMs || entry.home === undefined) continue;
      const other = this.#choose(entry.home);
      if (other === undefined || other === entry.home) {
        this.#sendResult(entry);
        continue;
      }
      const { resend } = entry;
      this.#effects.push({ kind: "detach-log", attempt });
      this.#move(entry, other);
      // The move sends it at once when there is no log; either way the delay goes on doubling from where it was.
      const delayMs = Math.min(resend.delayMs * 2, this.#options.resendCapMs);
      entry.resend = { atMs: this.#nowMs + delayMs, delayMs };
    }
    for (const attempt of this.#kept) {
      const entry = this.#entries.get(attempt);
      if (entry?.acknowledgedAtMs === undefined || entry.acknowledgedAtMs + this.#options.keepAcknowledgedMs > this.#nowMs) break;
      this.#closeOldest();
    }
  }

  #closeOldest(): void {
    const oldest = this.#kept.keys().next();
    if (oldest.done === true) return;
    const attempt = oldest.value;
    this.#kept.delete(attempt);
    this.#entries.delete(attempt);
    // Never synced: forgetting it only means that the result is kept once more.
    this.#effects.push({ kind: "note", record: { kind: "closed", attempts: [attempt] } });
    this.#effects.push({ kind: "forget", attempt });
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

  #grantCredit(): void {
    if (this.#mode !== "open") return;
    const staying = [...this.#sessions.values()].filter(({ standing }) => standing === "welcome").length;
    // While every session goes away, go-aways are ignored.
    const count = staying === 0 ? this.#sessions.size : staying;
    const work = shareOf(this.#free("work") - this.#waiting.size, count);
    const system = shareOf(this.#free("system"), count);
    for (const [session, known] of this.#sessions) {
      if (staying > 0 && known.standing !== "welcome") continue;
      const credits: Credits = { work: topUp(known.credits.work, work), system: topUp(known.credits.system, system) };
      if (credits.work === known.credits.work && credits.system === known.credits.system) continue;
      this.#sessions.set(session, { ...known, credits });
      this.#effects.push({ kind: "ready", session, work: credits.work.granted, system: credits.system.granted });
    }
  }
}

/** Whether the attempt is in the journal for certain, so that a node may be told of it. */
function isDurable({ state, facts }: Entry): boolean {
  if (state.kind === "concluding") return facts?.spec.kind === "script";
  return state.kind !== "recording";
}

function hasLog(entry: Entry): boolean {
  if (entry.state.kind === "finished") return entry.state.record.out.length + entry.state.record.err.length > 0;
  return entry.facts?.spec.kind === "script";
}

function reportedState(state: AttemptState): AttemptReport["state"] {
  switch (state.kind) {
    case "recording":
    case "waiting":
    case "committing":
      return "accepted";
    case "finished":
      return "finished";
    default:
      return "running";
  }
}
