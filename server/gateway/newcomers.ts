// Sessions of an agent that are not open: each may be a greeting that never comes, or one that a transaction judges. An honest
// agent has one. Invariant: at most `perAgent` of an agent at once; the oldest of them goes for the next.
import type { AgentId } from "../../shared/ids.ts";

export const newcomersDefaults = { perAgent: 8 } as const;

export interface Newcomer {
  readonly agent: AgentId;
  /** Undefined until its greeting is judged. */
  readonly identity: object | undefined;
}

export class Newcomers<Session extends Newcomer> {
  readonly #onSurplus: (session: Session) => void;
  readonly #perAgent: number;
  /** With those that have opened since the last one came: they are left out when the next one comes. */
  readonly #byAgent = new Map<AgentId, Set<Session>>();

  constructor(onSurplus: (session: Session) => void, { perAgent }: { readonly perAgent: number } = newcomersDefaults) {
    this.#onSurplus = onSurplus;
    this.#perAgent = perAgent;
  }

  arrive(session: Session): void {
    const there = [...(this.#byAgent.get(session.agent) ?? [])].filter(({ identity }) => identity === undefined);
    const surplus = there.length >= this.#perAgent ? there.shift() : undefined;
    this.#byAgent.set(session.agent, new Set([...there, session]));
    if (surplus !== undefined) this.#onSurplus(surplus);
  }

  leave(session: Session): void {
    const there = this.#byAgent.get(session.agent);
    if (there?.delete(session) === true && there.size === 0) this.#byAgent.delete(session.agent);
  }
}
