// How much a node may take of what waits, so that loads stay even (DESIGN 5, as documented for Octopus HA): the node's
// ratio is active ÷ cap; the prospective ratio is (active in the cluster + pending) ÷ total cap; a node takes nothing when
// its ratio is above the prospective one, looked at again after each pick. Pure; whole numbers only, so no rounding.
// Invariant: only nodes that can take something count, so a drained or capless node never makes the others look idle.

export interface NodeLoad {
  /** Unanswered offers and attempts whose home is there. */
  readonly active: number;
  /** Most it takes; 0 serves users only. */
  readonly cap: number;
  readonly draining: boolean;
}

export interface Balance {
  readonly own: NodeLoad;
  /** The other live nodes. */
  readonly others: readonly NodeLoad[];
  /** Attempts that wait for agents within reach. */
  readonly pending: number;
}

/** How many attempts this node may take now; fewer may be there. */
export function picks({ own, others, pending }: Balance): number {
  const room = roomOf(own);
  if (room === 0) return 0;
  const { active, cap } = totals([own, ...others]);
  // The last pick before which (own.active + picked) ÷ own.cap is not above (active + pending) ÷ cap.
  const last = Math.floor(((active + pending) * own.cap) / cap) - own.active;
  return Math.max(0, Math.min(last + 1, room));
}

/** How many it may take whatever the others do: what has waited for a while is taken by whoever has room. */
export function roomOf({ active, cap, draining }: NodeLoad): number {
  return draining ? 0 : Math.max(0, cap - active);
}

/** Whether a submission may be offered here at once: up to half full always, above that as the balance says. */
export function mayOfferAtOnce(balance: Balance): boolean {
  const { own } = balance;
  return roomOf(own) > 0 && (own.active * 2 <= own.cap || picks({ ...balance, pending: balance.pending + 1 }) > 0);
}

function totals(nodes: readonly NodeLoad[]): { readonly active: number; readonly cap: number } {
  return nodes
    .filter(({ draining, cap }) => !draining && cap > 0)
    .reduce((sum, node) => ({ active: sum.active + node.active, cap: sum.cap + node.cap }), { active: 0, cap: 0 });
}
