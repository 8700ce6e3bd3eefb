// The lines of the agents: one network namespace each, and what is wrong with each line now. Invariant: several faults on
// one line hold together, and each goes by itself.
import type { Dropped } from "../harness/separate-network.ts";
import { SeparateNetwork } from "../harness/separate-network.ts";

interface Line {
  readonly network: SeparateNetwork;
  readonly dropped: Set<Dropped>;
}

export class AgentLines implements AsyncDisposable {
  readonly #lines = new Map<string, Line>();

  static create(agents: readonly string[]): AgentLines {
    const made = new AgentLines();
    try {
      for (const agent of agents)
        made.#lines.set(agent, { network: SeparateNetwork.create(), dropped: new Set<Dropped>() });
    } catch (cause) {
      made.#removeAll();
      throw cause;
    }
    return made;
  }

  /** Where the nodes listen: every agent reaches the machine's end of any line. */
  get host(): string {
    const [first] = this.#lines.values();
    if (first === undefined) throw new Error("there is no line");
    return first.network.host;
  }

  wrapperOf(agent: string): readonly string[] {
    return this.#line(agent).network.wrapper;
  }

  /** Until the returned act. */
  drop(agent: string, what: Dropped): () => void {
    const { network, dropped } = this.#line(agent);
    dropped.add(what);
    network.drop([...dropped]);
    return () => {
      dropped.delete(what);
      network.drop([...dropped]);
    };
  }

  /** Until the returned act. */
  slow(agent: string, kbitPerSecond: number): () => void {
    const { network } = this.#line(agent);
    network.limit(kbitPerSecond);
    return () => network.limit(undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#removeAll();
    return Promise.resolve();
  }

  #line(agent: string): Line {
    const found = this.#lines.get(agent);
    if (found === undefined) throw new Error(`no line of ${agent}`);
    return found;
  }

  #removeAll(): void {
    for (const { network } of this.#lines.values()) network.remove();
  }
}
