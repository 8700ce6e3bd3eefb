// Indexes on tables that grow with the years, built beside the running cluster: in a migration, building one would hold back
// every write of the table meanwhile, and take longer than a statement may. What reads through them is right without them,
// only slower. Invariant: an index is whole or gone after the next start; a build that a crash cut short is made anew.
import { z } from "zod";
import { AppError } from "../../shared/errors.ts";
import type { Database } from "./connection.ts";

/** Entered by an attempt as it waits and as it is over; what happens in between does not touch them. */
const wanted = {
  // Pages of tasks by state (list-tasks.ts). The two states that every attempt passes have indexes of their own, which grow
  // at their end and fill their pages. In one index of all states the end of each lies in the middle: its pages split into
  // halves that nothing fills, 18.4 MB for 200,000 attempts in place of 6.8 (measured).
  attempt_state_queued: "attempt (task_id) where state = 'queued'",
  attempt_state_succeeded: "attempt (task_id) where state = 'succeeded'",
  attempt_state_other: "attempt (state, task_id) where rank in (0, 9) and state not in ('queued', 'succeeded')",
  // Of one agent, those that did not succeed: few.
  attempt_trouble: "attempt (agent_id, state, task_id) where rank = 9 and state <> 'succeeded'",
} as const;

/**
 * Built by earlier versions; what those read through them is read through the wanted ones by the same statements. A node of
 * such a version that starts builds them anew: they go with the next start of one of this version.
 */
const retired: readonly string[] = ["attempt_state"];

/**
 * Of the session: one that waited for it would be waited for by the build itself, for its snapshot. Behind a pooler it may
 * stay with a connection of the pooler's for a while: a build then waits for a later start.
 */
const lockKey = 7_305_511_902_007;
const lockSchema = z.tuple([z.object({ held: z.boolean() })]);

const standingSchema = z.array(z.object({ name: z.string(), whole: z.boolean() }));
const standing = `select c.relname as name, i.indisvalid as whole from pg_index i join pg_class c on c.oid = i.indexrelid
  where i.indrelid = 'attempt'::regclass and c.relname = any($1)`;

/**
 * Builds what is missing, one after the other, and answers their names; nothing while another node is at it. What is retired
 * goes when all others stand. An abort leaves the connection: PostgreSQL finishes the build that runs by itself.
 */
export async function buildIndexes(database: Database, signal?: AbortSignal): Promise<string[]> {
  const client = await database.dedicated({ limits: "none" });
  const leave = (): void => void client.end().catch(() => undefined);
  signal?.addEventListener("abort", leave, { once: true });
  try {
    const [{ held }] = lockSchema.parse((await client.query(`select pg_try_advisory_lock(${lockKey}) as held`)).rows);
    if (!held) return [];
    const { rows } = await client.query(standing, [[...Object.keys(wanted), ...retired]]);
    const there = new Map(standingSchema.parse(rows).map((row) => [row.name, row]));
    const built: string[] = [];
    for (const [name, on] of Object.entries(wanted)) {
      const found = there.get(name);
      if (found?.whole === true) continue;
      if (found !== undefined) await client.query(`drop index concurrently if exists ${name}`);
      await client.query(`create index concurrently if not exists ${name} on ${on}`);
      built.push(name);
    }
    for (const name of retired) if (there.has(name)) await client.query(`drop index concurrently if exists ${name}`);
    await client.query(`select pg_advisory_unlock(${lockKey})`);
    return built;
  } catch (cause) {
    if (signal?.aborted === true) return [];
    throw AppError.from(cause, "internal");
  } finally {
    signal?.removeEventListener("abort", leave);
    if (signal?.aborted !== true) await client.end();
  }
}
