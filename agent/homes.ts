// Which session each attempt's log and result flow through, when results are sent again, and how much each session may
// offer. A part of roster.ts's pure core, working in place. Invariant: an attempt has at most one home, its number only
// grows, and a home is announced only for what is durable in the journal.
import type { AttemptId, NodeId } from "../shared/ids.ts";
import type { Lane } from "../shared/task.ts";
import type { Credits } from "./credit.ts";
import { noCredit, shareOf, spend, topUp } from "./credit.ts";
import type { Entry } from "./roster-entry.ts";
import { hasLog, isDurable } from "./roster-entry.ts";
import type { RosterEffect, RosterItem, RosterOptions, SessionNo } from "./roster-event.ts";

interface SessionState {
  readonly node: NodeId;
  readonly credits: Credits;
  readonly standing: "welcome" | "going-away";
  readonly roundTripMs: number;
}

export interface HomesDeps {
  readonly entries: Map<AttemptId, Entry>;
  readonly emit: (effect: RosterEffect) => void;
  /** Whether the attempt, though finished, still has its slot: what is left of it is looked for. */
  readonly holds: (attempt: AttemptId) => boolean;
}

/** A result whose row the node does not know is asked about this rarely: a database may be restored. */
const longResendMs = 600_000;

export class Homes {
  readonly #entries: Map<AttemptId, Entry>;
  readonly #emit: (effect: RosterEffect) => void;
  readonly #holds: HomesDeps["holds"];
  readonly #options: RosterOptions;
  readonly #sessions = new Map<SessionNo, SessionState>();
  /** Entries whose result is not acknowledged, and acknowledged ones, each oldest first: what ticks look at. */
  readonly #resending = new Set<AttemptId>();
  readonly #kept = new Set<AttemptId>();
  /** Monotonic time of the event that is being stepped; the owner sets it before each. */
  nowMs = 0;

  constructor(deps: HomesDeps, options: RosterOptions) {
    this.#entries = deps.entries;
    this.#emit = deps.emit;
    this.#holds = deps.holds;
    this.#options = options;
  }

  get kept(): number {
    return this.#kept.size;
  }

  has(session: SessionNo): boolean {
    return this.#sessions.has(session);
  }

  send(session: SessionNo | undefined, message: RosterItem): void {
    if (session !== undefined && this.#sessions.has(session)) this.#emit({ kind: "send", session, message });
  }

  opened(session: SessionNo, node: NodeId): void {
    this.#sessions.set(session, { node, credits: noCredit, standing: "welcome", roundTripMs: 0 });
  }

  /** After the greeting's verdicts were heeded: what has no home moves in. */
  settle(session: SessionNo): void {
    this.obeyGoAways();
    for (const entry of this.#entries.values()) if (this.isHomeless(entry)) this.move(entry, session);
  }

  ended(session: SessionNo): void {
    this.#sessions.delete(session);
    this.#leave(session);
  }

  roundTrip(session: SessionNo, roundTripMs: number): void {
    this.#change(session, { roundTripMs });
  }

  goAway(session: SessionNo): void {
    this.#change(session, { standing: "going-away" });
    this.obeyGoAways();
  }

  /** One offer of the session's credit was used. */
  spend(session: SessionNo, lane: Lane): void {
    const known = this.#sessions.get(session);
    if (known !== undefined)
      this.#change(session, { credits: { ...known.credits, [lane]: spend(known.credits[lane]) } });
  }

  awaitAcknowledgement(attempt: AttemptId): void {
    this.#kept.delete(attempt);
    this.#resending.add(attempt);
  }

  keep(attempt: AttemptId): void {
    this.#resending.delete(attempt);
    this.#kept.add(attempt);
  }

  #change(session: SessionNo, change: Partial<SessionState>): void {
    const known = this.#sessions.get(session);
    if (known !== undefined) this.#sessions.set(session, { ...known, ...change });
  }

  isHomeless(entry: Entry): boolean {
    return entry.home === undefined && entry.acknowledgedAtMs === undefined && isDurable(entry);
  }

  #leave(session: SessionNo): void {
    for (const entry of this.#entries.values()) {
      if (entry.home !== session) continue;
      entry.home = undefined;
      this.#emit({ kind: "detach-log", attempt: entry.attempt });
      if (this.isHomeless(entry)) this.move(entry, this.choose(session));
    }
  }

  /** Another session than `not` when there is one: those that stay before those that go, then the quickest. */
  choose(not: SessionNo | undefined): SessionNo | undefined {
    let best: { readonly session: SessionNo; readonly cost: number } | undefined;
    for (const [session, { standing, roundTripMs }] of this.#sessions) {
      const cost = (session === not ? 2e9 : 0) + (standing === "going-away" ? 1e9 : 0) + roundTripMs;
      if (best === undefined || cost < best.cost) best = { session, cost };
    }
    return best?.session;
  }

  move(entry: Entry, session: SessionNo | undefined): void {
    if (session === undefined) return;
    entry.home = session;
    entry.homeNo += 1;
    entry.log = "flowing";
    entry.resend = undefined;
    this.#emit({ kind: "note", record: { kind: "home", attempt: entry.attempt, homeNo: entry.homeNo } });
    this.send(session, { type: "resume", item: { attempt: entry.attempt, homeNo: entry.homeNo } });
    this.attach(entry, "node");
  }

  attach(entry: Entry, from: "start" | "node"): void {
    if (entry.home === undefined) return;
    if (hasLog(entry)) {
      this.#emit({ kind: "attach-log", attempt: entry.attempt, session: entry.home, homeNo: entry.homeNo, from });
    } else {
      entry.log = "drained";
      this.sendResult(entry);
    }
  }

  /** A node that goes away loses homes and credit once some other session stays; while all go, none is obeyed. */
  obeyGoAways(): void {
    const sessions = [...this.#sessions];
    if (!sessions.some(([, { standing }]) => standing === "welcome")) return;
    for (const [session, { standing }] of sessions) {
      if (standing === "welcome") continue;
      this.#sessions.delete(session);
      this.#leave(session);
      this.#emit({ kind: "close-session", session });
    }
  }

  superseded(session: SessionNo, attempt: AttemptId, homeNo: number): void {
    const entry = this.#entries.get(attempt);
    if (entry === undefined || entry.home !== session || homeNo <= entry.homeNo) return;
    entry.homeNo = homeNo;
    this.move(entry, session);
  }

  drained(attempt: AttemptId, homeNo: number): void {
    const entry = this.#entries.get(attempt);
    if (entry === undefined || entry.homeNo !== homeNo) return;
    entry.log = "drained";
    this.sendResult(entry);
  }

  sendResult(entry: Entry): void {
    if (
      entry.state.kind !== "finished" ||
      entry.log !== "drained" ||
      entry.home === undefined ||
      entry.acknowledgedAtMs !== undefined
    )
      return;
    this.send(entry.home, {
      type: "result",
      item: { attempt: entry.attempt, homeNo: entry.homeNo, record: entry.state.record },
    });
    const firstMs = Math.max(this.#options.resendFirstMs, 4 * (this.#sessions.get(entry.home)?.roundTripMs ?? 0));
    const delayMs =
      entry.resend === undefined
        ? firstMs
        : Math.min(entry.resend.delayMs * 2, Math.max(this.#options.resendCapMs, firstMs));
    entry.resend = { atMs: this.nowMs + delayMs, delayMs };
  }

  acknowledged(attempt: AttemptId, verdict: "acknowledged" | "unknown"): void {
    const entry = this.#entries.get(attempt);
    if (entry?.state.kind !== "finished") return;
    if (verdict === "unknown") {
      // No such row: result and files stay for a person to look at; ask again rarely, a database may be restored.
      entry.resend = { atMs: this.nowMs + longResendMs, delayMs: longResendMs };
      return;
    }
    if (entry.acknowledgedAtMs !== undefined) return;
    entry.acknowledgedAtMs = this.nowMs;
    // The result says all that may still be asked; ten minutes of scripts would not fit into memory.
    if (!this.#holds(attempt)) entry.facts = undefined;
    entry.resend = undefined;
    entry.home = undefined;
    this.keep(attempt);
    this.#emit({ kind: "detach-log", attempt });
    this.#emit({ kind: "note", record: { kind: "acknowledged", attempt } });
    if (this.#kept.size > this.#options.keptAtMost) this.#closeOldest();
  }

  tick(): void {
    for (const attempt of this.#resending) {
      const entry = this.#entries.get(attempt);
      if (entry?.resend === undefined || entry.resend.atMs > this.nowMs || entry.home === undefined) continue;
      const other = this.choose(entry.home);
      if (other === undefined || other === entry.home) {
        this.sendResult(entry);
        continue;
      }
      const { resend } = entry;
      this.#emit({ kind: "detach-log", attempt });
      this.move(entry, other);
      // The move sends it at once when there is no log; either way the delay goes on doubling from where it was.
      const delayMs = Math.min(resend.delayMs * 2, this.#options.resendCapMs);
      entry.resend = { atMs: this.nowMs + delayMs, delayMs };
    }
    for (const attempt of this.#kept) {
      const entry = this.#entries.get(attempt);
      if (
        entry?.acknowledgedAtMs === undefined ||
        entry.acknowledgedAtMs + this.#options.keepAcknowledgedMs > this.nowMs
      )
        break;
      if (!this.#holds(attempt)) this.#close(attempt);
    }
  }

  #closeOldest(): void {
    for (const attempt of this.#kept) if (!this.#holds(attempt)) return this.#close(attempt);
  }

  #close(attempt: AttemptId): void {
    this.#kept.delete(attempt);
    this.#entries.delete(attempt);
    // Never synced: forgetting it only means that the result is kept once more.
    this.#emit({ kind: "note", record: { kind: "closed", attempts: [attempt] } });
    this.#emit({ kind: "forget", attempt });
  }

  /** Tells each session what it may offer now that `free` slots are free. */
  grantCredit(free: Readonly<Record<Lane, number>>): void {
    const staying = [...this.#sessions.values()].filter(({ standing }) => standing === "welcome").length;
    // While every session goes away, go-aways are ignored.
    const count = staying === 0 ? this.#sessions.size : staying;
    const work = shareOf(free.work, count);
    const system = shareOf(free.system, count);
    for (const [session, known] of this.#sessions) {
      if (staying > 0 && known.standing !== "welcome") continue;
      const credits: Credits = { work: topUp(known.credits.work, work), system: topUp(known.credits.system, system) };
      if (credits.work === known.credits.work && credits.system === known.credits.system) continue;
      this.#sessions.set(session, { ...known, credits });
      this.#emit({ kind: "ready", session, work: credits.work.granted, system: credits.system.granted });
    }
  }
}
