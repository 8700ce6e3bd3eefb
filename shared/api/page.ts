// Listings: `{items, next}`, newest first. `next` goes back as `cursor`; it is null on the last page.
import { z } from "zod";

export const pageLimits = { default: 50, most: 200 } as const;

export interface Page<Item> {
  readonly items: readonly Item[];
  readonly next: string | null;
}

export function pageOf<Item extends z.ZodType>(item: Item) {
  return z.object({
    items: z.array(item),
    next: z.string().nullable().describe("Send it as `cursor` for the following page"),
  });
}

/** The query fields every listing takes; they arrive as text. */
export const pageQuery = {
  limit: z.coerce.number().int().min(1).max(pageLimits.most).default(pageLimits.default),
  cursor: z.string().max(128).optional(),
};

export interface PageRequest {
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
}
