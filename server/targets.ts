// Agents as submissions choose them. Names are remembered for a second, so that a burst of submissions to one agent
// costs one look; the insert itself checks again that the agent is active before it offers.
import type { Clock } from "../shared/clock.ts";
import type { AgentId } from "../shared/ids.ts";
import { agentNames, listTargets, namedTargets, type Target } from "./store/agents.ts";
import type { Sql } from "./store/connection.ts";
import type { TargetSource } from "./tasks/submit.ts";

const freshMs = 1_000;
const remembered = 10_000;

export class Targets implements TargetSource {
  readonly #deps: { readonly sql: Sql; readonly clock: Clock };
  readonly #known = new Map<string, { readonly target: Target; readonly untilMs: number }>();

  constructor(deps: { readonly sql: Sql; readonly clock: Clock }) {
    this.#deps = deps;
  }

  all(): Promise<readonly Target[]> {
    return listTargets(this.#deps.sql);
  }

  async named(names: readonly string[]): Promise<readonly Target[]> {
    const nowMs = this.#deps.clock.monotonicMs();
    const fresh = names.flatMap((name) => {
      const entry = this.#known.get(name);
      return entry !== undefined && entry.untilMs > nowMs ? [entry.target] : [];
    });
    if (fresh.length === names.length) return fresh;
    const found = await namedTargets(this.#deps.sql, names);
    if (this.#known.size > remembered) this.#known.clear();
    for (const target of found) {
      const entry = { target, untilMs: nowMs + freshMs };
      this.#known.set(target.name, entry);
      this.#known.set(target.id, entry);
    }
    return found;
  }

  nameOf(agents: readonly AgentId[]): Promise<ReadonlyMap<AgentId, string>> {
    return agentNames(this.#deps.sql, agents);
  }

  forget(): void {
    this.#known.clear();
  }
}
