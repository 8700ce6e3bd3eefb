// What PostgreSQL makes of the product's own statements: EXPLAIN (ANALYZE, BUFFERS) of one run, rolled back, as a list of
// nodes and the buffers they touched. The statement comes from the product's code at the moment it is asked.
import type { Client } from "pg";
import { z } from "zod";
import type { Sql, Statement } from "../server/store/connection.ts";

interface PlanNode {
  readonly "Node Type": string;
  readonly "Relation Name"?: string | undefined;
  readonly "Index Name"?: string | undefined;
  readonly "Actual Rows": number;
  readonly "Actual Loops": number;
  readonly Plans?: readonly PlanNode[] | undefined;
}

const nodeSchema: z.ZodType<PlanNode> = z.lazy(() =>
  z.object({
    "Node Type": z.string(),
    "Relation Name": z.string().optional(),
    "Index Name": z.string().optional(),
    "Actual Rows": z.number(),
    "Actual Loops": z.number(),
    Plans: z.array(nodeSchema).optional(),
  }),
);
const explainSchema = z.tuple([
  z.object({
    Plan: z.intersection(
      nodeSchema,
      z.object({
        "Shared Hit Blocks": z.number(),
        "Shared Read Blocks": z.number(),
        "Shared Dirtied Blocks": z.number(),
      }),
    ),
    "Planning Time": z.number(),
    "Execution Time": z.number(),
  }),
]);

export interface Plan {
  /** One a line, a plan's child after it: `Index Scan attempt_queue rows=1 loops=20`. */
  readonly nodes: Readonly<Record<string, string>>;
  readonly buffers: { readonly hit: number; readonly read: number; readonly dirtied: number };
  readonly planningMs: number;
  readonly executionMs: number;
}

/** Explains the statements that `act` makes, in place of running them; each answers no row. */
export async function explained(client: Client, act: (sql: Sql) => Promise<unknown>): Promise<Record<string, Plan>> {
  const plans: Record<string, Plan> = {};
  const query = async ({ name, text }: Statement, values: readonly unknown[]): Promise<unknown[]> => {
    await client.query("begin; set local enable_seqscan = off");
    try {
      const { rows } = await client.query<{ "QUERY PLAN": unknown }>(
        `explain (analyze, buffers, format json) ${text}`,
        [...values],
      );
      const [found] = explainSchema.parse(rows[0]?.["QUERY PLAN"]);
      const { Plan: top } = found;
      plans[name] = {
        nodes: Object.fromEntries(linesOf(top).map((line, index) => [String(index + 1), line])),
        buffers: {
          hit: top["Shared Hit Blocks"],
          read: top["Shared Read Blocks"],
          dirtied: top["Shared Dirtied Blocks"],
        },
        planningMs: found["Planning Time"],
        executionMs: found["Execution Time"],
      };
    } finally {
      await client.query("rollback");
    }
    return [];
  };
  await act({ query });
  return plans;
}

function linesOf(node: PlanNode): string[] {
  const where = node["Index Name"] ?? node["Relation Name"];
  const line = `${node["Node Type"]}${where === undefined ? "" : ` ${where}`} rows=${node["Actual Rows"]} loops=${node["Actual Loops"]}`;
  return [line, ...(node.Plans ?? []).flatMap(linesOf)];
}
