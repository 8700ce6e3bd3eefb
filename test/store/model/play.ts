// Plays a history on SQL and on the model, one transaction after the other, and holds answers and rows against each other
// after each.
import { isDeepStrictEqual, inspect } from "node:util";
import fc from "fast-check";
import { ModelDatabase } from "../../simulation/model/database.ts";
import type { ClockedLab } from "./clocked-lab.ts";
import { Dice } from "./dice.ts";
import { clusterVerbs } from "./draw-cluster.ts";
import { courierVerbs } from "./draw-courier.ts";
import { History } from "./history.ts";
import { isSame, shown, tell, type Operation } from "./operation.ts";
import { differences, modelTables, sqlTables } from "./tables.ts";

const verbs = { ...courierVerbs, ...clusterVerbs } as const;
export type VerbName = keyof typeof verbs;

export interface Step {
  readonly verb: VerbName | "time";
  readonly throws: readonly number[];
}

/** How often each is drawn; what moves attempts on comes most often. */
export const weights: Readonly<Record<Step["verb"], number>> = {
  submit: 6,
  claim: 7,
  progress: 7,
  append: 7,
  finish: 6,
  resume: 4,
  greet: 5,
  time: 6,
  noteProgress: 3,
  refuse: 3,
  release: 3,
  lose: 2,
  presence: 3,
  cancel: 3,
  sweep: 3,
  abandon: 1,
  remove: 1,
  enrol: 1,
  status: 1,
  pause: 1,
  pauseAgent: 1,
  slotsOf: 1,
  settings: 1,
  setOfNode: 1,
  removeOneNode: 1,
  retry: 2,
  moveToTop: 1,
  pending: 1,
  readOpen: 2,
  feed: 2,
  known: 2,
  cancels: 1,
  distrusted: 1,
  settle: 1,
  join: 2,
  beat: 2,
  nodeList: 1,
  clock: 1,
};

/** Two nodes, three agents that have greeted, a few tasks: where every history begins. */
const beginning: readonly Step[] = [
  { verb: "join", throws: [] },
  { verb: "join", throws: [1] },
  ...[0, 1, 2].map((): Step => ({ verb: "enrol", throws: [] })),
  ...[0, 1, 2].map((agent): Step => ({ verb: "greet", throws: [0, agent] })),
  ...[0, 1, 2].map((agent): Step => ({ verb: "submit", throws: [0, 0, 0, agent, 0, 0, 1, agent, 0, 0, 0, 0, agent] })),
];

/** Milliseconds, about every limit of the statements, and back. */
const passes = [
  1_000, 3_000, 2_999, 10_000, 10_001, 16_000, 30_001, 61_000, 90_000, 3_600_000, 86_400_000, -31_000,
] as const;

const manyThrows = 64;

/** A step of one of these verbs, drawn by weight. */
export function anyStep(of: readonly Step["verb"][]): fc.Arbitrary<Step> {
  const chosen = of.flatMap((name) => Array<Step["verb"]>(weights[name]).fill(name));
  return fc.record({
    verb: fc.constantFrom(...chosen),
    // Shrinking drops steps; what a step means changes with the rows anyway.
    throws: fc.noShrink(fc.noBias(fc.array(fc.nat(0xffff), { minLength: manyThrows, maxLength: manyThrows }))),
  });
}

interface Asked {
  readonly file: string;
  /** Histories when nothing is said. */
  readonly count: number;
}

/** Plays of a failing history with steps left out, to tell a shorter one. */
const mostShrinks = 150;

/** How many histories, by the environment, and what reports the first that differs: empty when none does. */
export function histories({ file, count }: Asked) {
  const runs = Number(process.env["HOLDFAST_HISTORIES"] ?? count);
  const seed = Number(process.env["HOLDFAST_SEED"] ?? Date.now() % 1_000_000_000);
  const path = process.env["HOLDFAST_PATH"];
  return {
    named: `${runs} histories of seed ${seed}`,
    async check<One>(arbitrary: fc.Arbitrary<One>, play: (one: One) => Promise<void>): Promise<string> {
      let tries = 0;
      const property = fc.asyncProperty(arbitrary, async (one) => {
        if (tries > mostShrinks) return;
        try {
          await play(one);
        } catch (cause) {
          tries += 1;
          throw cause;
        } finally {
          if (tries > 0) tries += 1;
        }
      });
      const ran = await fc.check(property, { seed, numRuns: runs, ...(path === undefined ? {} : { path }) });
      if (!ran.failed) return "";
      const again = `HOLDFAST_SEED=${seed} HOLDFAST_PATH=${ran.counterexamplePath ?? ""} npx vitest run ${file}`;
      const found = ran.errorInstance instanceof Error ? ran.errorInstance.message : String(ran.errorInstance);
      return `history ${ran.numRuns} differs; to play it again: ${again}\n${found}`;
    },
  };
}

export class Player {
  readonly #lab: ClockedLab;
  readonly history: History;
  readonly #told: string[] = [];

  constructor(lab: ClockedLab) {
    this.#lab = lab;
    this.history = new History(new ModelDatabase(() => lab.nowMs));
  }

  async begin(): Promise<void> {
    await this.#lab.reset();
    for (const step of beginning) await this.play(step);
  }

  draw(verb: VerbName, throws: readonly number[]): Operation {
    return verbs[verb](new Dice(throws), this.history);
  }

  async play({ verb, throws }: Step): Promise<void> {
    if (verb === "time") {
      const dice = new Dice(throws);
      const due = dice.once(2) ? dice.maybe(this.history.dueMs()) : undefined;
      // To the very millisecond, or the next one: a limit is behind it, not on it.
      const ms = due === undefined ? dice.oneOf(passes) : due - this.#lab.nowMs + dice.below(2);
      this.#told.push(`time ${ms}`);
      await this.#lab.pass(ms);
      return;
    }
    const operation = this.draw(verb, throws);
    this.#told.push(
      `${operation.name} ${inspect(operation.given, { depth: 6, breakLength: Infinity, compact: true })}`,
    );
    const answer = await operation.ask(this.#lab.database).catch((cause: unknown) => ({ thrown: String(cause) }));
    const told = await tell(operation, this.history.db, { answer, alone: true });
    if (!isSame(operation, answer, told)) {
      const both = { sql: shown(answer, operation.order), model: shown(told, operation.order) };
      throw this.difference([
        `the answers differ: ${inspect(both, { depth: 8, breakLength: Infinity, compact: true })}`,
      ]);
    }
    await this.compareRows();
    // Some share a millisecond, so that what is due just now is met; nodes that join do not, for nothing orders them then.
    if (verb === "join" || (throws.at(-1) ?? 1) % 3 > 0) await this.#lab.pass(1);
  }

  /** Throws when the rows differ. */
  async compareRows(): Promise<void> {
    const [sql, model] = [await sqlTables(this.#lab.database), modelTables(this.history.db)];
    if (!isDeepStrictEqual(sql, model)) throw this.difference(differences(sql, model));
  }

  /** For the story that is told of a difference. */
  note({ name, given }: Pick<Operation, "name" | "given">): void {
    this.#told.push(`${name} ${inspect(given, { depth: 6, breakLength: Infinity, compact: true })}`);
  }

  difference(found: readonly string[]): Error {
    const story = this.#told.map((line, index) => `${index + 1}. ${line}`).slice(-12);
    return new Error([...found, "the last steps were:", ...story].join("\n"));
  }
}
