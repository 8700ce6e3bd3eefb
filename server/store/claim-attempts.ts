// Claims work for agents with credit here: queued attempts oldest first per band, and offers to the same journal whose
// window has passed (DESIGN 4, "Claiming stays cheap"). Per agent, through two partial indexes; never scans a backlog.
// The index of offered rows is looked at only when asked: every attempt passes through it and leaves a dead entry, and
// under load these were most of a claim's cost (21 ms of 28, measured with 20 agents and 80,000 submitted).
import { z } from "zod";
import {
  agentIdSchema,
  attemptIdSchema,
  journalIdSchema,
  taskIdSchema,
  type AgentId,
  type BootId,
  type JournalId,
  type NodeId,
} from "../../shared/ids.ts";
import { laneSchema, type Lane } from "../../shared/task.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

export interface ClaimCredit {
  readonly agent: AgentId;
  readonly bootId: BootId;
  readonly journalId: JournalId;
  readonly lane: Lane;
  readonly credit: number;
  /** False when no offer to this agent can have gone unanswered: spares the look at rows that are offered. Default true. */
  readonly again?: boolean;
}

export interface ClaimInput {
  readonly node: NodeId;
  readonly credits: readonly ClaimCredit[];
  readonly most: number;
}

const claimedRow = z.object({
  attempt: attemptIdSchema,
  task: taskIdSchema,
  agent: agentIdSchema,
  attemptNumber: z.int(),
  offerNo: z.int(),
  lane: laneSchema,
  /** The journal the offer is bound to: it is never made to another one. */
  journalId: journalIdSchema.optional(),
  spec: z.string(),
  secretNames: z.array(z.string()).nullable(),
  /** Since its submission, by the database's clock; 0 when it never queued. */
  waitedMs: z.number().optional(),
});
/** `held`: others held some of what the claim's bytes allow, and there is more behind it. A claim of nothing has one row. */
const answerRow = z.union([
  claimedRow.extend({ held: z.boolean() }),
  z.object({ attempt: z.null(), held: z.boolean() }),
]);
export interface ClaimedAttempt extends Omit<z.infer<typeof claimedRow>, "secretNames"> {
  /** Missing when it has none. */
  readonly secretNames?: readonly string[] | undefined;
  /** Missing when it has no secrets, or when they are kept no longer. */
  readonly sealedSecrets?: Uint8Array | undefined;
}

/**
 * What one claim brings of specs, in bytes: the first of each agent and lane, and further ones while those before it are
 * less than `lane`; and so of the whole claim. 500 of the largest would be 375 MiB in the node's memory at once. The size is
 * octet_length's, which PostgreSQL reads off a stored value's pointer without fetching it.
 */
export const claimBytes = { lane: 4 * 1024 * 1024, all: 16 * 1024 * 1024 } as const;

/** First window 3 s, doubling with each unanswered offer to 30 s. */
export const offerWindowMs = { first: 3_000, most: 30_000 } as const;

/**
 * What is beyond the bytes of a claim is left out before rows are locked: another node takes it meanwhile, and it waits for
 * nobody if this one dies. What others hold has taken room in that and is not had (`held`): the answer would say of what
 * is behind it that it is not there. So there is a second run for the rest of the credit, cut only after rows are locked ($13).
 */
const statement = {
  name: "claim-attempts",
  plan: "each-time",
  text: `
with s as (
  select i.* from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::int[], $10::boolean[]) i(agent_id, boot_id, journal_id, lane, credit, again)
  join agent g on g.id = i.agent_id and g.status = 'active' and not g.paused and g.boot_id = i.boot_id and g.journal_id = i.journal_id
  join cluster c on not c.paused),
pick as (
  select p.id, p.task_id, p.band, p.queue_no, s.agent_id, s.lane, s.journal_id from s cross join lateral (
    (select id, task_id, band, queue_no from attempt
      where agent_id = s.agent_id and lane = s.lane and rank = 0 order by band, queue_no limit s.credit)
    union all
    (select id, task_id, -1::smallint, queue_no from attempt
      where s.again and agent_id = s.agent_id and lane = s.lane and rank = 1 and not cancel_requested and journal_id = s.journal_id
        and (offer_until < clock_timestamp() or offer_until > clock_timestamp() + interval '30 seconds') limit s.credit)
    order by band, queue_no limit s.credit) p
  order by p.band, p.queue_no limit $6),
sized as (
  select f.*, sum(f.bytes) over (order by f.band, f.queue_no, f.id rows between unbounded preceding and 1 preceding) as before
  from (select p.*, t.spec, t.secret_names, octet_length(t.spec) as bytes, sum(octet_length(t.spec)) over (partition by p.agent_id, p.lane order by p.band, p.queue_no, p.id
      rows between unbounded preceding and 1 preceding) as ahead from pick p join task t on t.id = p.task_id) f
  where $13 or f.ahead is null or f.ahead < $11),
near as (select * from sized where $13 or before is null or before < $12),
locked as (
  select a.id, a.agent_id, a.lane, p.journal_id, p.band, p.queue_no, p.spec, p.secret_names
  from near p join attempt a on a.id = p.id
  where a.rank < 2 and not a.cancel_requested
    and (a.rank = 0 or (a.journal_id = p.journal_id
      and (a.offer_until < clock_timestamp() or a.offer_until > clock_timestamp() + interval '30 seconds')))
  order by a.id for update of a skip locked),
fit as (
  select f.*, sum(octet_length(f.spec)) over (order by f.band, f.queue_no, f.id rows between unbounded preceding and 1 preceding) as before
  from (select l.*, sum(octet_length(l.spec)) over (partition by l.agent_id, l.lane order by l.band, l.queue_no, l.id
      rows between unbounded preceding and 1 preceding) as ahead from locked l) f
  where f.ahead is null or f.ahead < $11),
taken as (
  update attempt a set rank = 1, state = 'offered', offer_no = a.offer_no + 1, journal_id = l.journal_id, offered_by = $7, reason = '',
    unanswered = least(a.unanswered + 1, 10),
    offer_until = clock_timestamp() + least($9::int, $8::int * power(2, a.unanswered)) * interval '1 millisecond'
  from fit l
  where a.id = l.id and (l.before is null or l.before < $12)
  returning a.id as attempt, a.task_id as task, a.agent_id as agent, a.number as "attemptNumber", a.offer_no as "offerNo", a.lane, a.journal_id as "journalId", l.spec,
    nullif(l.secret_names, '{}') as "secretNames",
    (extract(epoch from clock_timestamp() - a.created_at) * 1000)::float8 as "waitedMs")
select taken.*, held from (
  select (select count(*) from near) < (select count(*) from pick) and (select count(*) from taken) < (select count(*) from near) as held) h
left join taken on true`,
} as const;

/** At or above a bound of {@link claimBytes}, a claim may have left some out. */
export function specBytes(claimed: readonly ClaimedAttempt[]): number {
  return claimed.reduce((sum, { spec }) => sum + Buffer.byteLength(spec), 0);
}

export async function claimAttempts(sql: Sql, input: ClaimInput): Promise<ClaimedAttempt[]> {
  const { claimed, isHeld } = await claimOnce(sql, input, { bytes: claimBytes.all, locks: "near" });
  const bytes = claimBytes.all - specBytes(claimed);
  if (!isHeld || bytes <= 0) return claimed;
  const rest = restOf(input, claimed);
  if (rest.credits.length === 0 || rest.most <= 0) return claimed;
  return [...claimed, ...(await claimOnce(sql, rest, { bytes, locks: "all" })).claimed];
}

function restOf(input: ClaimInput, claimed: readonly ClaimedAttempt[]): ClaimInput {
  const got = Map.groupBy(claimed, ({ agent, lane }) => `${agent}/${lane}`);
  const credits = input.credits.flatMap((one) => {
    const own = got.get(`${one.agent}/${one.lane}`) ?? [];
    const credit = specBytes(own) >= claimBytes.lane ? 0 : one.credit - own.length;
    return credit > 0 ? [{ ...one, credit }] : [];
  });
  return { ...input, credits, most: input.most - claimed.length };
}

async function claimOnce(
  sql: Sql,
  { node, credits, most }: ClaimInput,
  { bytes, locks }: { readonly bytes: number; readonly locks: "near" | "all" },
): Promise<{ readonly claimed: ClaimedAttempt[]; readonly isHeld: boolean }> {
  const rows = await rowsOf(
    sql,
    statement,
    [
      credits.map((credit) => credit.agent),
      credits.map((credit) => credit.bootId),
      credits.map((credit) => credit.journalId),
      credits.map((credit) => credit.lane),
      credits.map((credit) => credit.credit),
      most,
      node,
      offerWindowMs.first,
      offerWindowMs.most,
      credits.map((credit) => credit.again !== false),
      claimBytes.lane,
      bytes,
      locks === "all",
    ],
    answerRow,
  );
  const claimed = rows.flatMap((row): ClaimedAttempt[] => {
    if (row.attempt === null) return [];
    const { secretNames, held: _, ...attempt } = row;
    return [secretNames === null ? attempt : { ...attempt, secretNames }];
  });
  return { claimed, isHeld: rows[0]?.held === true };
}
