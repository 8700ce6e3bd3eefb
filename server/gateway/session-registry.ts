// Sessions open on this node, one per agent: the newest wins and the older one is closed. Knows nothing of work.
import type { AgentId, BootId } from "../../shared/ids.ts";
import { closeCode } from "../../shared/wire/close-code.ts";
import type { AgentSession } from "./agent-session.ts";

export class SessionRegistry {
  readonly #open = new Map<AgentId, AgentSession>();

  get size(): number {
    return this.#open.size;
  }

  get(agent: AgentId): AgentSession | undefined {
    return this.#open.get(agent);
  }

  all(): IterableIterator<AgentSession> {
    return this.#open.values();
  }

  agents(): AgentId[] {
    return [...this.#open.keys()];
  }

  credentials(): { readonly agent: AgentId; readonly thumbprint: string; readonly bootId: BootId }[] {
    return [...this.#open.values()].flatMap(({ agent, thumbprint, identity }) =>
      identity === undefined ? [] : [{ agent, thumbprint, bootId: identity.bootId }],
    );
  }

  /** What the agents were told last of their slots. */
  toldSlots(): { readonly agent: AgentId; readonly slots: number | null }[] {
    return [...this.#open.values()].map(({ agent, slots }) => ({ agent, slots }));
  }

  add(session: AgentSession): void {
    const older = this.#open.get(session.agent);
    this.#open.set(session.agent, session);
    older?.close(closeCode.replaced, "a newer session of this agent took over");
  }

  /** False when a newer session has taken its place already. */
  remove(session: AgentSession): boolean {
    return this.#open.get(session.agent) === session && this.#open.delete(session.agent);
  }
}
