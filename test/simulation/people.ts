// What people set while the cluster works: pauses, drains, task caps and slots, each stored through one node and hinted like the
// shipped acts, and lifted after a while. Everything is lifted when the run is healed.
import type { AgentId } from "../../shared/ids.ts";
import type { HintKind } from "../../server/cluster/hints.ts";
import type { SeededRandom } from "./kernel/random.ts";
import { setAgentPaused, setAgentSlots, setClusterPaused, setNode } from "./model/administer.ts";
import type { ModelDatabase } from "./model/database.ts";
import type { Simulation } from "./simulation.ts";

export const peopleActs = ["cluster-paused", "agent-held", "node-set-draining", "node-capped"] as const;
export type PeopleAct = (typeof peopleActs)[number] | "agent-slots-set";

const defaultTaskCap = 1_000;

export class People {
  readonly #sim: Simulation;
  readonly #random: SeededRandom;

  constructor(sim: Simulation) {
    this.#sim = sim;
    this.#random = sim.world.random("people");
  }

  /** Sets something; `later` lifts it, if the run is not healed by then. */
  act(kind: PeopleAct, later: (act: () => void) => void): void {
    const { nodes, agents } = this.#sim;
    const random = this.#random;
    const { id: node } = random.pick(nodes);
    const nameOrId = random.pick(agents).options.agent;
    switch (kind) {
      case "cluster-paused":
        this.#set("the cluster is paused", (db) => setClusterPaused(db, true));
        later(() => this.#set("the cluster is resumed", (db) => setClusterPaused(db, false)));
        return;
      case "agent-held":
        this.#set(`agent ${nameOrId} is paused`, (db) => void setAgentPaused(db, { nameOrId, paused: true }));
        later(() =>
          this.#set(`agent ${nameOrId} is resumed`, (db) => void setAgentPaused(db, { nameOrId, paused: false })),
        );
        return;
      case "agent-slots-set": {
        const slots = random.below(4);
        this.#set(`agent ${nameOrId} is given ${slots} slots`, (db) => setAgentSlots(db, nameOrId, slots));
        this.#hint("agents", [nameOrId]);
        later(() => {
          this.#set(`agent ${nameOrId} has its own slots`, (db) => setAgentSlots(db, nameOrId, null));
          this.#hint("agents", [nameOrId]);
        });
        return;
      }
      case "node-set-draining": {
        const drain = random.chance(0.5) ? "hand-over" : "finish";
        this.#set(`node ${node} is set to ${drain}`, (db) => void setNode(db, { node, drain }));
        later(() => this.#set(`node ${node} is resumed`, (db) => void setNode(db, { node, drain: "none" })));
        return;
      }
      case "node-capped": {
        const taskCap = random.below(3);
        this.#set(`node ${node} is capped at ${taskCap}`, (db) => void setNode(db, { node, taskCap }));
        later(() =>
          this.#set(`node ${node} is not capped`, (db) => void setNode(db, { node, taskCap: defaultTaskCap })),
        );
      }
    }
  }

  heal(): void {
    const { nodes, agents } = this.#sim;
    this.#set("people lift what they set", (db) => {
      setClusterPaused(db, false);
      for (const { id } of nodes) setNode(db, { node: id, drain: "none", taskCap: defaultTaskCap });
      for (const { options } of agents) {
        setAgentPaused(db, { nameOrId: options.agent, paused: false });
        setAgentSlots(db, options.agent, null);
      }
    });
    for (const { options } of agents) this.#hint("agents", [options.agent]);
  }

  #set(what: string, change: (db: ModelDatabase) => void): void {
    const { world, database } = this.#sim;
    world.note(`people: ${what}`);
    database.model.transaction("durable", "administer", () => change(database.model));
    for (const kind of ["nodes", "work"] as const) this.#hint(kind, []);
  }

  #hint(kind: HintKind, agents: readonly AgentId[]): void {
    const { world, nodes, database, hintLoss } = this.#sim;
    for (const node of nodes) {
      if (this.#random.chance(hintLoss) || database.state === "down") continue;
      world.schedule(this.#random.between(0, 20), () => node.hint(kind, agents));
    }
  }
}
