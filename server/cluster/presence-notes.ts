// Gathers who came and went, so that thousands of agents that return together do not become as many transactions: the first
// change is written at once, what comes within the next 100 ms together when they are over. Group commit alone does not
// gather them: agents arrive more slowly than single rows are stored. Invariant: an agent's changes keep their order.
import type { Background } from "../../shared/background.ts";
import type { Clock, Timer } from "../../shared/clock.ts";
import type { PresenceChange } from "../store/presence.ts";

export interface PresenceNotesDeps {
  readonly clock: Clock;
  readonly background: Background;
  /** Changes handed over in one turn share a transaction. One that fails is settled by the next look at all sessions. */
  readonly write: (change: PresenceChange) => Promise<void>;
}

/** What a reader may be behind. A storm of 12 s costs some 240 transactions, however many agents it has. */
const gatherMs = 100;

type State =
  | { readonly kind: "idle" }
  /** Held changes are bounded by sessions: each comes, is measured and goes once. */
  | { readonly kind: "gathering"; readonly held: PresenceChange[]; readonly timer: Timer }
  | { readonly kind: "stopped" };

export class PresenceNotes {
  readonly #deps: PresenceNotesDeps;
  #state: State = { kind: "idle" };

  constructor(deps: PresenceNotesDeps) {
    this.#deps = deps;
  }

  note(change: PresenceChange): void {
    switch (this.#state.kind) {
      case "gathering":
        this.#state.held.push(change);
        return;
      case "idle":
        this.#write([change]);
        this.#gather();
        return;
      case "stopped":
        this.#write([change]);
        return;
    }
  }

  /** What is held is written now, and what still comes at once: nobody waits for a timer of a node that stops. */
  stop(): void {
    const { held, timer } = this.#state.kind === "gathering" ? this.#state : { held: [], timer: undefined };
    this.#state = { kind: "stopped" };
    timer?.cancel();
    this.#write(held);
  }

  #gather(): void {
    const held: PresenceChange[] = [];
    const timer = this.#deps.clock.after(gatherMs, () => {
      if (held.length === 0) {
        this.#state = { kind: "idle" };
        return;
      }
      this.#gather();
      this.#write(held);
    });
    this.#state = { kind: "gathering", held, timer };
  }

  #write(changes: readonly PresenceChange[]): void {
    const { background, write } = this.#deps;
    for (const change of changes) background.run("presence", () => write(change));
  }
}
