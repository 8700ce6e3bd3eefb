// A session ended with offers unanswered: their windows are cleared so that any node may offer them again at once,
// to the same journal. Nothing is moved and no rank changes.
import type { AttemptId, NodeId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";

export interface ReleasedOffer {
  readonly attempt: AttemptId;
  readonly offerNo: number;
}

const statement = {
  name: "release-offers",
  text: `
with item as (select * from unnest($1::uuid[], $2::int[]) i(id, offer_no)),
locked as (select a.id from attempt a where a.id in (select id from item) order by a.id for update)
update attempt a set offer_until = clock_timestamp() from item i, locked l
where a.id = i.id and l.id = a.id and a.rank = 1 and a.offer_no = i.offer_no and a.offered_by = $3`,
};

export async function releaseOffers(sql: Sql, node: NodeId, offers: readonly ReleasedOffer[]): Promise<void> {
  if (offers.length === 0) return;
  await sql.query(statement, [offers.map((offer) => offer.attempt), offers.map((offer) => offer.offerNo), node]);
}
