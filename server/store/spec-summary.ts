// What people are shown of a spec. Of a large one it is stored beside it at submission; of a small one, and of what an earlier
// version stored, it is made from the spec when the task is read.
// Invariant: however large specs are, and whoever stored them, a reader of many tasks holds `batchBytes` of them or one spec
// at once, and gives way to others between two batches.
import { z } from "zod";
import { specSummarySchema, summarise, summariseForeign, type SpecSummary } from "../../shared/api/tasks.ts";
import { taskIdSchema, type TaskId } from "../../shared/ids.ts";
import { taskSpecSchema } from "../../shared/task.ts";
import type { Sql } from "./connection.ts";
import { idArray } from "./id-array.ts";
import { rowsOf } from "./rows.ts";

/** The names of secrets have a column of their own. */
const shownSchema = specSummarySchema.omit({ secrets: true });
export type ShownSpec = z.infer<typeof shownSchema>;

/** Up to this a spec is read itself: most are that small, and cost no second text to store. */
const smallBytes = 1_024;
/** Of specs that are summarised in one go, which takes a node 1.5 ms. */
const batchBytes = 512 * 1024;

/** The column of a spec that is stored now; null where the spec says it as cheaply. `raw` is the spec parsed. */
export function summaryColumn(spec: string, raw: unknown): string | null {
  if (Buffer.byteLength(spec) <= smallBytes) return null;
  const { data } = taskSpecSchema.safeParse(raw);
  // Not understood here: a version that does shall say what it is.
  return data === undefined ? null : JSON.stringify(shown(summarise(data)));
}

/** Of `task t`: whatever is shown of its spec, unless that takes reading a large one. */
export const summaryColumns = `t.summary, octet_length(t.spec) as "specBytes",
  case when t.summary is null and octet_length(t.spec) <= ${smallBytes} then t.spec end as "smallSpec"`;

export const summaryRow = {
  summary: z.string().nullable(),
  specBytes: z.int(),
  smallSpec: z.string().nullable(),
};
type Row = Readonly<z.infer<z.ZodObject<typeof summaryRow>>> & { readonly id: TaskId };

const specRow = z.object({ id: taskIdSchema, spec: z.string() });
const readSpecs = { name: "read-specs", text: `select id, spec from task where id = any($1::uuid[])` };

/** Of each row what is shown of its spec; reads the large ones of which no summary is stored. */
export async function readSummaries(sql: Sql, rows: readonly Row[]): Promise<ReadonlyMap<TaskId, ShownSpec>> {
  const found = new Map<TaskId, ShownSpec>();
  const missing: Row[] = [];
  for (const row of rows) {
    const known = row.smallSpec === null ? storedIn(row) : summaryOf(row.smallSpec);
    if (known === undefined) missing.push(row);
    else found.set(row.id, known);
  }
  for (const batch of batchesOf(missing))
    for (const { id, spec } of await rowsOf(sql, readSpecs, [idArray(batch)], specRow)) found.set(id, summaryOf(spec));
  return found;
}

/** Of a task that retention took between two statements: a page that lost it could pass for the last one. */
export const goneSpec: ShownSpec = {
  kind: "unknown",
  title: "kept no longer",
  interpreter: null,
  scriptBytes: 0,
  timeoutMs: null,
};

/** Undefined as well when a later version stored it in a form of its own. */
function storedIn({ summary }: Row): ShownSpec | undefined {
  return summary === null ? undefined : shownSchema.safeParse(JSON.parse(summary)).data;
}

function summaryOf(spec: string): ShownSpec {
  const raw: unknown = JSON.parse(spec);
  const { data } = taskSpecSchema.safeParse(raw);
  return shown(data === undefined ? summariseForeign(raw, []) : summarise(data));
}

function shown({ kind, title, interpreter, scriptBytes, timeoutMs }: SpecSummary): ShownSpec {
  return { kind, title, interpreter, scriptBytes, timeoutMs };
}

function batchesOf(rows: readonly Row[]): TaskId[][] {
  const batches: { readonly ids: TaskId[]; bytes: number }[] = [];
  for (const { id, specBytes } of rows) {
    const last = batches.at(-1);
    if (last === undefined || last.bytes + specBytes > batchBytes) batches.push({ ids: [id], bytes: specBytes });
    else {
      last.ids.push(id);
      last.bytes += specBytes;
    }
  }
  return batches.map(({ ids }) => ids);
}
