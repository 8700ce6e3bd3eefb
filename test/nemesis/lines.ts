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

  static async create(agents: readonly string[]): Promise<AgentLines> {
    const made = new AgentLines();
    try {
      for (const agent of agents)
        made.#lines.set(agent, { network: await SeparateNetwork.create(), dropped: new Set<Dropped>() });
    } catch (cause) {
      await made[Symbol.asyncDispose]();
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
  async drop(agent: string, what: Dropped): Promise<() => Promise<void>> {
    const { network, dropped } = this.#line(agent);
    dropped.add(what);
    await network.drop([...dropped]);
    return async () => {
      dropped.delete(what);
      await network.drop([...dropped]);
    };
  }

  /** Until the returned act. */
  async slow(agent: string, kbitPerSecond: number): Promise<() => Promise<void>> {
    const { network } = this.#line(agent);
    await network.limit(kbitPerSecond);
    return () => network.limit(undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#lines.values()].map(({ network }) => network.remove()));
  }

  #line(agent: string): Line {
    const found = this.#lines.get(agent);
    if (found === undefined) throw new Error(`no line of ${agent}`);
    return found;
  }
}
