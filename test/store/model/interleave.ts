// Transactions at once on several connections, and the question whether what came of it is what some order of them, one
// after the other, makes of the model.
import { isDeepStrictEqual } from "node:util";
import type { TaskId } from "../../../shared/ids.ts";
import type { Database } from "../../../server/store/connection.ts";
import { AppError } from "../../../shared/errors.ts";
import type { ModelDatabase } from "../../simulation/model/database.ts";
import { isSame, type Operation } from "./operation.ts";
import type { Row, Tables } from "./tables.ts";

/** One of the transactions with what SQL answered. */
export interface Answered {
  readonly operation: Operation;
  readonly answer: unknown;
}

const mostTries = 5;

/** All at once, each on the next of the databases; a conflict is tried again, as the store's callers do. */
export function atOnce(databases: readonly Database[], operations: readonly Operation[]): Promise<Answered[]> {
  return Promise.all(
    operations.map(async (operation, index): Promise<Answered> => {
      const database = databases[index % databases.length];
      if (database === undefined) throw new Error("no database");
      for (let tries = 1; ; tries += 1) {
        try {
          return { operation, answer: await operation.ask(database) };
        } catch (cause) {
          if (AppError.from(cause).code === "database.conflict" && tries < mostTries) continue;
          return { operation, answer: { thrown: String(cause) } };
        }
      }
    }),
  );
}

/** How far each of them is in an order being tried. */
interface Place {
  readonly db: ModelDatabase;
  readonly done: readonly (readonly unknown[])[];
}

/**
 * What `fits` makes of the rows that some order comes to, when the answers are the given ones; undefined when there is no
 * such order. Transactions of several parts may have others between them.
 */
export async function someOrder(
  db: ModelDatabase,
  answered: readonly Answered[],
  fits: (db: ModelDatabase) => Promise<ModelDatabase | undefined>,
): Promise<ModelDatabase | undefined> {
  const search = async ({ db: now, done }: Place): Promise<ModelDatabase | undefined> => {
    let isOver = true;
    for (const [index, { operation, answer }] of answered.entries()) {
      const parts = done[index] ?? [];
      const part = operation.parts[parts.length];
      if (part === undefined) continue;
      isOver = false;
      const next = now.copy();
      const told = [...parts, await part(next, { answer, alone: false })];
      if (told.length === operation.parts.length && !agrees({ operation, answer }, operation.join(told))) continue;
      const found = await search({ db: next, done: done.map((one, at) => (at === index ? told : one)) });
      if (found !== undefined) return found;
    }
    return isOver ? await fits(now) : undefined;
  };
  return search({ db, done: answered.map(() => []) });
}

function agrees({ operation, answer }: Answered, told: unknown): boolean {
  // What a removal could not see yet is ended by the next sweep: only together they have ended everything.
  if (operation.name === "remove-agent") return isPartOf(answer, told);
  return isSame(operation, answer, told);
}

interface Removed {
  readonly id: string;
  readonly tasks: readonly TaskId[];
}

function isPartOf(answer: unknown, told: unknown): boolean {
  if (answer === undefined || told === undefined) return answer === told;
  const [sql, model] = [answer as Removed, told as Removed];
  return sql.id === model.id && sql.tasks.every((task) => model.tasks.includes(task));
}

/** Queue numbers of submissions stored at once may alternate: what counts is their order within each submission. */
export function byOrder(tables: Tables): Tables {
  const tasks = new Map((tables["task"] ?? []).map((row) => [row["id"], row["submission_id"]]));
  const numbers = Map.groupBy(tables["attempt"] ?? [], (row) => tasks.get(row["task_id"]));
  const places = new Map<unknown, number>();
  for (const rows of numbers.values())
    for (const [place, row] of rows.toSorted((a, b) => Number(a["queue_no"]) - Number(b["queue_no"])).entries())
      places.set(row["id"], place);
  const attempt = (tables["attempt"] ?? []).map((row): Row => ({ ...row, queue_no: places.get(row["id"]) }));
  return { ...tables, attempt };
}

export function isEqual(sql: Tables, model: Tables): boolean {
  return isDeepStrictEqual(byOrder(sql), byOrder(model));
}
