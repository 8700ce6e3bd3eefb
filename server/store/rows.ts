// Rows become checked values here, once: every query names the schema of the rows it returns.
import { z } from "zod";
import { AppError } from "../../shared/errors.ts";
import type { Sql, Statement } from "./connection.ts";

/** Runs `statement` and checks each row. Throws `internal` when the database answers in another shape. */
export async function rowsOf<Row extends z.ZodType>(
  sql: Sql,
  statement: Statement,
  values: readonly unknown[],
  row: Row,
): Promise<z.infer<Row>[]> {
  const answer = await sql.query(statement, values);
  return answer.map((found) => {
    const parsed = row.safeParse(found);
    if (parsed.success) return parsed.data;
    throw new AppError(
      "internal",
      `${statement.name}: a row has another shape: ${parsed.error.message.replaceAll(/\s+/g, " ")}`,
    );
  });
}

/** `timestamptz` as milliseconds since 1970. */
export const timeMs = z.date().transform((date) => date.getTime());
export const timeMsOrNull = z
  .date()
  .nullable()
  .transform((date) => date?.getTime() ?? null);

/** Text of a stranger as PostgreSQL can keep it: it has no NUL. Without this one agent's NUL would fail a whole batch. */
export function storable(text: string): string {
  return text.replaceAll("\0", "\u{FFFD}");
}

/** Outcomes in the order of the items they answer; `missing` makes one for an item without a row. */
export function inOrder<Item, Outcome>(
  items: readonly Item[],
  outcomes: ReadonlyMap<string, Outcome>,
  keyOf: (item: Item) => string,
  missing: (item: Item) => Outcome,
): Outcome[] {
  return items.map((item) => outcomes.get(keyOf(item)) ?? missing(item));
}
