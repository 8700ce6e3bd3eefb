// How a node gives its agents away and takes them back: it asks each session to go, spread over time so that the other
// nodes are not stormed. To hand over, all are asked; to finish, only those that hold nothing any more.
// Invariants: a session that was asked is closed when the node stays after all, for nothing takes a go-away back; once
// stopped, nothing begins again, whatever a heartbeat that was under way still brings.
import type { Clock, Timer } from "../shared/clock.ts";
import type { Random } from "../shared/random.ts";
import { closeCode } from "../shared/wire/close-code.ts";

export type LeavingMode = "hand-over" | "finish";

export interface LeavingSession {
  /** Unanswered offers and homes. */
  readonly load: number;
  apply(event: { readonly kind: "go-away"; readonly afterMs: number; readonly reason: string }): void;
  close(code: number, reason: string): void;
}

export interface LeavingDeps {
  readonly sessions: { all(): Iterable<LeavingSession>; readonly size: number };
  readonly clock: Clock;
  readonly random: Random;
}

/** So many sessions are asked in a second, and all within the longest spread. */
const perMs = 0.5;
const longestSpreadMs = 10_000;
const lookMs = 1_000;

type State =
  | { readonly kind: "staying" }
  | { readonly kind: "stopped" }
  | {
      readonly kind: "leaving";
      readonly mode: LeavingMode;
      /** Whose go-away has left. */
      readonly asked: WeakSet<LeavingSession>;
      /** Whose turn is still to come; a change of mode draws it anew. */
      readonly turns: Map<LeavingSession, Timer>;
      readonly look: Timer;
    };

export class Leaving {
  readonly #deps: LeavingDeps;
  #state: State = { kind: "staying" };

  constructor(deps: LeavingDeps) {
    this.#deps = deps;
  }

  get mode(): "staying" | LeavingMode | "stopped" {
    return this.#state.kind === "leaving" ? this.#state.mode : this.#state.kind;
  }

  leave(mode: LeavingMode): void {
    if (this.mode === mode || this.mode === "stopped") return;
    const asked = this.#state.kind === "leaving" ? this.#state.asked : new WeakSet<LeavingSession>();
    this.#enter({
      kind: "leaving",
      mode,
      asked,
      turns: new Map(),
      look: this.#deps.clock.every(lookMs, () => this.#ask()),
    });
    this.#ask();
  }

  stay(): void {
    const before = this.#state;
    if (before.kind !== "leaving") return;
    this.#enter({ kind: "staying" });
    for (const session of this.#deps.sessions.all())
      if (before.asked.has(session)) session.close(closeCode.goingAway, "the node stays after all; dial again");
  }

  stop(): void {
    this.#enter({ kind: "stopped" });
  }

  #enter(state: State): void {
    if (this.#state.kind === "leaving") {
      this.#state.look.cancel();
      for (const timer of this.#state.turns.values()) timer.cancel();
    }
    this.#state = state;
  }

  #ask(): void {
    const state = this.#state;
    if (state.kind !== "leaving") return;
    const { sessions, clock, random } = this.#deps;
    const spreadMs = Math.min(longestSpreadMs, sessions.size / perMs);
    for (const session of sessions.all()) {
      if (state.asked.has(session) || state.turns.has(session)) continue;
      if (state.mode === "finish" && session.load > 0) continue;
      const turn = clock.after(random.unit() * spreadMs, () => {
        state.turns.delete(session);
        state.asked.add(session);
        session.apply({ kind: "go-away", afterMs: 0, reason: "the node drains" });
      });
      state.turns.set(session, turn);
    }
  }
}
