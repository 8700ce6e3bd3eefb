// Admission of a hello by boot pair and journal (DESIGN 4.7):
//   equal pair                     admitted without a write or a lock, read together with others
//   greater counter, same journal  admitted, the pair replaced, if the known boot is in the journal's past
//   another journal, never seen    admitted, the old journal retired and its open attempts lost: journal-missing
//   anything else                  superseded; the same boot refused again after 10 s is a clone: quarantined
// All but the first lock the agent's row and are one transaction each.
import { z } from "zod";
import {
  agentIdSchema,
  bootIdSchema,
  journalIdSchema,
  type AgentId,
  type BootId,
  type JournalId,
} from "../../shared/ids.ts";
import type { Database, Sql } from "./connection.ts";
import { GroupCommit } from "./group-commit.ts";
import { rowsOf, timeMsOrNull } from "./rows.ts";

export interface Greeting {
  readonly agent: AgentId;
  readonly bootCounter: number;
  readonly bootId: BootId;
  readonly journalId: JournalId;
  /** Boots of this journal; missing from agents that do not tell. */
  readonly lineage?: readonly BootId[] | undefined;
  readonly version: string;
  readonly capabilities: readonly string[];
  readonly host: object;
  /** A probe is judged like any hello and changes nothing. */
  readonly intent: "session" | "probe";
}

export type GreetOutcome =
  /** `slots` is what people set for it; missing when nobody did. */
  | { readonly kind: "admitted"; readonly slots?: number }
  | { readonly kind: "superseded"; readonly expected: string }
  | { readonly kind: "quarantined" | "revoked" | "removed"; readonly reason: string };

const agentRow = z.object({
  status: z.enum(["active", "quarantined", "revoked", "removed"]),
  status_reason: z.string(),
  boot_counter: z.number().nullable(),
  boot_id: bootIdSchema.nullable(),
  journal_id: journalIdSchema.nullable(),
  retired: z.boolean(),
  refused_boot_id: bootIdSchema.nullable(),
  refused_at: timeMsOrNull,
  now: z.date(),
  slots: z.int().nullable(),
});

const cloneAfterMs = 10_000;

const read = (lock: boolean) => ({
  name: lock ? "greet-lock" : "greet-read",
  text: `select status, status_reason, boot_counter, boot_id, journal_id, $2 = any(retired_journals) as retired,
    refused_boot_id, refused_at, clock_timestamp() as now, slots from agent where id = $1${lock ? " for update" : ""}`,
});
const lockAgent = read(true);
const readAgent = read(false);

const admit = {
  name: "greet-admit",
  text: `update agent set boot_counter = $2, boot_id = $3,
    retired_journals = case when journal_id is not null and journal_id <> $4 then (array_append(retired_journals, journal_id))[greatest(1, cardinality(retired_journals) - 98):] else retired_journals end,
    journal_id = $4, version = $5, capabilities = $6, host = $7, last_seen_at = clock_timestamp(), refused_boot_id = null, refused_at = null
    where id = $1`,
};

const loseOthers = {
  name: "greet-lose",
  text: `with locked as (
    select id from attempt where agent_id = $1 and rank in (1, 2, 3) and journal_id <> $2 order by id for update),
  ended as (
    update attempt a set rank = 9, state = 'lost', reason = 'journal-missing', finished_at = clock_timestamp()
    from locked l where a.id = l.id returning a.id),
  locked_log as (select attempt_id from attempt_log where attempt_id in (select id from ended) order by attempt_id for update)
  update attempt_log g set closed = true from locked_log k where g.attempt_id = k.attempt_id`,
};

const refuse = {
  name: "greet-refuse",
  text: `update agent set refused_boot_id = $2, refused_at = clock_timestamp() where id = $1 and refused_boot_id is distinct from $2`,
};

const quarantine = {
  name: "greet-quarantine",
  text: `with changed as (
    update agent set status = 'quarantined', status_reason = $2 where id = $1 and status = 'active' returning id, name)
  insert into audit (actor, address, action, target, detail)
  select 'system', '', 'agent-quarantined', id::text, jsonb_build_object('name', name, 'reason', $2::text) from changed`,
};

type Row = z.infer<typeof agentRow>;
type Judgement = "same" | "newer" | "new-journal" | "superseded";

/** The rule alone, without the database. */
export function judgeBoot(
  stored: Pick<Row, "boot_counter" | "boot_id" | "journal_id" | "retired">,
  hello: Pick<Greeting, "bootCounter" | "bootId" | "journalId" | "lineage">,
): Judgement {
  if (stored.retired) return "superseded";
  if (stored.boot_counter === null || stored.journal_id === null) return "newer";
  if (stored.journal_id !== hello.journalId) return "new-journal";
  if (hello.bootCounter > stored.boot_counter) {
    // A journal that was rolled back counts its starts as well, and would pass for the newest one day.
    const isDescendant = stored.boot_id === null || (hello.lineage?.includes(stored.boot_id) ?? true);
    return isDescendant ? "newer" : "superseded";
  }
  return hello.bootCounter === stored.boot_counter && hello.bootId === stored.boot_id ? "same" : "superseded";
}

const known = {
  name: "greet-known",
  text: `select g.id, g.status, g.boot_counter, g.boot_id, g.journal_id, i.journal_id = any(g.retired_journals) as retired, g.slots
    from unnest($1::uuid[], $2::uuid[]) i(agent_id, journal_id) join agent g on g.id = i.agent_id`,
};
const knownRow = agentRow
  .pick({ status: true, boot_counter: true, boot_id: true, journal_id: true, retired: true, slots: true })
  .extend({ id: agentIdSchema });

type KnownOutcome = Extract<GreetOutcome, { kind: "admitted" }> | { readonly kind: "unknown" };

/** Each that is active under the very boot and journal it names is admitted. */
async function readKnown(sql: Sql, greetings: readonly Greeting[]): Promise<KnownOutcome[]> {
  const ids = [greetings.map(({ agent }) => agent), greetings.map(({ journalId }) => journalId)];
  const rows = new Map((await rowsOf(sql, known, ids, knownRow)).map((row) => [row.id, row]));
  return greetings.map((greeting) => {
    const stored = rows.get(greeting.agent);
    return stored?.status === "active" && judgeBoot(stored, greeting) === "same"
      ? admitted(stored)
      : { kind: "unknown" };
  });
}

function admitted({ slots }: Pick<Row, "slots">): Extract<GreetOutcome, { kind: "admitted" }> {
  return slots === null ? { kind: "admitted" } : { kind: "admitted", slots };
}

/**
 * As {@link greetAgent}. After a node's restart its agents come back as they were, all at once: those who greet while
 * others are being read share the next statement.
 */
export function createGreeter(database: Database): (greeting: Greeting) => Promise<GreetOutcome> {
  const reads = new GroupCommit<Greeting, KnownOutcome>(
    { commit: (greetings) => readKnown(database.durable, greetings), keyOf: ({ agent }) => agent },
    { largestBatch: 256, capacity: 20_000 },
  );
  return async (greeting) => {
    const outcome = greeting.intent === "session" ? await reads.add(greeting) : ({ kind: "unknown" } as const);
    return outcome.kind === "admitted" ? outcome : await greetAgent(database, greeting);
  };
}

export function greetAgent(database: Database, greeting: Greeting): Promise<GreetOutcome> {
  if (greeting.intent === "probe") return greet(database.durable, greeting, readAgent);
  return database.transaction((sql) => greet(sql, greeting, lockAgent));
}

async function greet(sql: Sql, greeting: Greeting, statement: typeof lockAgent): Promise<GreetOutcome> {
  const [stored] = await rowsOf(sql, statement, [greeting.agent, greeting.journalId], agentRow);
  if (stored === undefined) return { kind: "removed", reason: "no such agent" };
  if (stored.status !== "active") return { kind: stored.status, reason: stored.status_reason };
  const judgement = judgeBoot(stored, greeting);
  if (greeting.intent === "probe" && judgement !== "superseded") return { kind: "admitted" };
  switch (judgement) {
    case "same":
      return admitted(stored);
    case "newer":
    case "new-journal": {
      const { agent, bootCounter, bootId, journalId, version } = greeting;
      await sql.query(admit, [
        agent,
        bootCounter,
        bootId,
        journalId,
        version,
        JSON.stringify(greeting.capabilities),
        JSON.stringify(greeting.host),
      ]);
      if (judgement === "new-journal") await sql.query(loseOthers, [agent, journalId]);
      return admitted(stored);
    }
    case "superseded":
      return greeting.intent === "probe" ? superseded(greeting, stored) : await refuseBoot(sql, greeting, stored);
  }
}

async function refuseBoot(sql: Sql, greeting: Greeting, stored: Row): Promise<GreetOutcome> {
  const refusedAtMs = stored.refused_boot_id === greeting.bootId ? stored.refused_at : null;
  if (refusedAtMs !== null && stored.now.getTime() - refusedAtMs > cloneAfterMs) {
    const reason = "two processes run with this identity: boot pairs alternate";
    await sql.query(quarantine, [greeting.agent, reason]);
    return { kind: "quarantined", reason };
  }
  await sql.query(refuse, [greeting.agent, greeting.bootId]);
  return superseded(greeting, stored);
}

function superseded(greeting: Greeting, stored: Row): GreetOutcome {
  return { kind: "superseded", expected: expectedBoot(greeting, stored) };
}

/** What would have been admitted, in words. */
export function expectedBoot(
  { bootCounter }: Pick<Greeting, "bootCounter">,
  stored: Pick<Row, "boot_counter" | "boot_id" | "retired">,
): string {
  if (stored.retired) return "the journal was replaced by a newer one";
  return bootCounter > (stored.boot_counter ?? 0)
    ? `a journal that knows boot ${stored.boot_id}`
    : `boot counter ${stored.boot_counter} or later`;
}
