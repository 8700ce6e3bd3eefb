// One named transaction with its arguments, as SQL carries it out and as the model does, and their answers in one form.
import { isDeepStrictEqual } from "node:util";
import type { Database } from "../../../server/store/connection.ts";
import { createPostgresClusterStore } from "../../../server/store/postgres-cluster.ts";
import { createPostgresStore } from "../../../server/store/postgres-store.ts";
import type { ClusterStore, CourierStore } from "../../../server/store/store.ts";
import type { ModelDatabase } from "../../simulation/model/database.ts";
import { createModelStore } from "../../simulation/model/store.ts";

export type Store = CourierStore & ClusterStore;

export interface Operation {
  readonly name: string;
  /** The arguments, for the report. */
  readonly given: unknown;
  ask(database: Database): Promise<unknown>;
  /**
   * One for each of its transactions, in order. Given SQL's answer, for where a statement is free to choose; `alone` says
   * that nothing else ran meanwhile.
   */
  readonly parts: readonly Part[];
  /** The answer that those of the parts come to. */
  join(answers: readonly unknown[]): unknown;
  /** Whether the answer's order means something. */
  readonly order: "kept" | "free";
}

export interface Circumstances {
  readonly answer: unknown;
  readonly alone: boolean;
}

export type Part = (db: ModelDatabase, seen: Circumstances) => unknown;

/** A verb of both stores. */
export function verb(
  name: string,
  given: unknown,
  act: (store: Store) => Promise<unknown>,
  order: Operation["order"] = "kept",
): Operation {
  return {
    name,
    given,
    order,
    ask: (database) => act({ ...createPostgresStore(database), ...createPostgresClusterStore(database) }),
    parts: [(db) => act(createModelStore(db))],
    join: first,
  };
}

/** Items of one turn for a grouped verb: those of one key go one after the other, each in a transaction of its own. */
export function batch<Item>(
  name: string,
  items: readonly Item[],
  verbs: { readonly keyOf: (item: Item) => string; readonly act: (store: Store, item: Item) => Promise<unknown> },
): Operation {
  const waves: number[][] = [];
  const seen = new Map<string, number>();
  for (const [at, item] of items.entries()) {
    const wave = seen.get(verbs.keyOf(item)) ?? 0;
    seen.set(verbs.keyOf(item), wave + 1);
    (waves[wave] ??= []).push(at);
  }
  const all = (store: Store, places: readonly number[]) =>
    Promise.all(items.filter((_, at) => places.includes(at)).map((item) => verbs.act(store, item)));
  return {
    ...verb(name, items, (store) => all(store, [...items.keys()])),
    parts: waves.map((places) => (db) => all(createModelStore(db), places)),
    join(answers) {
      const placed = waves.flatMap((places, wave) =>
        places.map((at, index) => [at, (answers[wave] as readonly unknown[])[index]] as const),
      );
      return placed.toSorted(([a], [b]) => a - b).map(([, answer]) => answer);
    },
  };
}

const first = (answers: readonly unknown[]): unknown => answers[0];

/** What happens to the rows otherwise: the same change on both sides. */
export function change(
  name: string,
  given: unknown,
  sides: {
    readonly ask: (database: Database) => Promise<unknown>;
    readonly tell: (db: ModelDatabase, seen: Circumstances) => unknown;
  },
): Operation {
  return {
    name,
    given,
    order: "free",
    ask: sides.ask,
    parts: [(db, seen) => db.transaction("durable", name, () => sides.tell(db, seen))],
    join: first,
  };
}

/** An answer without what means nothing: sets and free orders sorted, absent fields left out. */
export function shown(answer: unknown, order: Operation["order"] = "kept"): unknown {
  const plain: unknown = JSON.parse(
    JSON.stringify(answer ?? null, (_key, value: unknown) => (value instanceof Set ? byText([...value]) : value)),
  );
  return order === "free" ? sorted(plain) : plain;
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return byText(value.map((item) => sorted(item)));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, item]) => [name, sorted(item)]),
  );
}

function byText(items: readonly unknown[]): unknown[] {
  const texts = items.map((item) => ({ item, text: JSON.stringify(item) }));
  return texts.toSorted((a, b) => (a.text < b.text ? -1 : 1)).map(({ item }) => item);
}

export async function tell(operation: Operation, db: ModelDatabase, seen: Circumstances): Promise<unknown> {
  const answers: unknown[] = [];
  for (const part of operation.parts) answers.push(await part(db, seen));
  return operation.join(answers);
}

export function isSame(operation: Operation, sql: unknown, model: unknown): boolean {
  return isDeepStrictEqual(shown(sql, operation.order), shown(model, operation.order));
}
