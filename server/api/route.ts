// The shapes every routes file shares: the fastify instance with zod types, ids out of paths, and pages out of rows.
import type {
  FastifyBaseLogger,
  FastifyInstance,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { z } from "zod";
import type { Page } from "../../shared/api/page.ts";
import { AppError, type ErrorCode } from "../../shared/errors.ts";
import type { PageOf } from "./backend.ts";

export type ApiInstance = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  ZodTypeProvider
>;

/** An id out of a path. What has not the form of an id cannot exist, so it is answered like an unknown one. */
export function idFrom<Schema extends z.ZodType>(schema: Schema, text: string, code: ErrorCode): z.output<Schema> {
  const parsed = schema.safeParse(text);
  if (!parsed.success) throw unknownOf(code, text);
  return parsed.data;
}

export function found<Row>(row: Row | null, code: ErrorCode, text: string): Row {
  if (row === null) throw unknownOf(code, text);
  return row;
}

function unknownOf(code: ErrorCode, text: string): AppError {
  const noun = code.split(".")[0] ?? "row";
  return new AppError(code, `there is no ${noun} "${text.slice(0, 128)}"`);
}

/** The two routes of everything that can be paused, and what each sets. */
export const pauseVerbs = [
  ["pause", true],
  ["resume", false],
] as const;

export interface PageQuery {
  readonly limit: number;
  readonly cursor?: string | undefined;
}

/** Asks for one row more than the page holds: its presence is what `next` says. The cursor is the id of the page's last row. */
export async function page<Schema extends z.ZodType, Row extends { readonly id: string }>(
  query: PageQuery,
  schema: Schema,
  list: (page: PageOf<z.output<Schema>>) => Promise<readonly Row[]>,
): Promise<Page<Row> & { items: Row[] }> {
  const before = query.cursor === undefined ? null : schema.safeParse(query.cursor);
  if (before !== null && !before.success) {
    throw new AppError("request.invalid", "`cursor` is not the `next` of an earlier page");
  }
  const rows = await list({ limit: query.limit + 1, before: before?.data ?? null });
  const items = rows.slice(0, query.limit);
  return { items, next: rows.length > query.limit ? (items.at(-1)?.id ?? null) : null };
}
