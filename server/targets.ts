// Agents as submissions choose them. Names are remembered for a second, so that a burst of submissions to one agent
// costs one look; the insert itself checks again that the agent is active before it offers.
import type { Clock } from "../shared/clock.ts";
import type { AgentId } from "../shared/ids.ts";
import { Recent } from "../shared/recent.ts";
import { agentNames, listTargets, namedTargets, type Target } from "./store/agents.ts";
import type { Sql } from "./store/connection.ts";
import type { TargetSource } from "./tasks/submit.ts";

const recent = { freshMs: 1_000, capacity: 10_000 } as const;
/** Up to this many names are looked up one by one and remembered; more in one query of their own. */
const fewNames = 4;

export class Targets implements TargetSource {
  readonly #sql: Sql;
  readonly #known: Recent<Target | undefined>;

  constructor(deps: { readonly sql: Sql; readonly clock: Clock }) {
    this.#sql = deps.sql;
    const load = async (name: string): Promise<Target | undefined> => (await namedTargets(deps.sql, [name]))[0];
    this.#known = new Recent({ clock: deps.clock, load }, recent);
  }

  all(): Promise<readonly Target[]> {
    return listTargets(this.#sql);
  }

  async named(names: readonly string[]): Promise<readonly Target[]> {
    if (names.length > fewNames) return await namedTargets(this.#sql, names);
    const found = await Promise.all(names.map((name) => this.#known.get(name)));
    return found.filter((target) => target !== undefined);
  }

  /** An agent was revoked or removed: what was remembered of names may be wrong. */
  forget(): void {
    this.#known.forget();
  }

  nameOf(agents: readonly AgentId[]): Promise<ReadonlyMap<AgentId, string>> {
    return agentNames(this.#sql, agents);
  }
}
