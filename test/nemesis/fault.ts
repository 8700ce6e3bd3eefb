// What the nemesis may do to a cluster, as data: one kind per tool, each with whom it hits. Pure; faults/ carries them out.
// Invariant: two faults that hold the same subject never overlap, so that healing one never undoes half of another.

export type Direction = "both" | "incoming" | "outgoing";

export type Fault =
  | { readonly kind: "kill-node"; readonly node: string }
  | { readonly kind: "stop-node"; readonly node: string }
  | { readonly kind: "kill-agent"; readonly agent: string }
  | { readonly kind: "stop-agent"; readonly agent: string }
  /** Packets between these agents and nodes vanish; `incoming` are those to the agents. */
  | {
      readonly kind: "cut";
      readonly agents: readonly string[];
      readonly nodes: readonly string[];
      readonly direction: Direction;
    }
  | { readonly kind: "lose"; readonly agents: readonly string[]; readonly percent: number }
  | { readonly kind: "slow-line"; readonly agents: readonly string[]; readonly kbitPerSecond: number }
  /** Nothing arrives between this node and the database, and nothing is refused; `incoming` is what comes to the node. */
  | { readonly kind: "cut-database"; readonly node: string; readonly direction: Direction }
  | { readonly kind: "slow-database"; readonly node: string; readonly delayMs: number }
  /** kill -9 of the primary, which comes back when it is healed. */
  | { readonly kind: "kill-database" }
  /** The primary dies for good, the standby takes its place at once; healing brings a new standby. */
  | { readonly kind: "promote-standby" }
  | { readonly kind: "fill-disk"; readonly agent: string };

export type FaultKind = Fault["kind"];

export const faultKinds = [
  "kill-node",
  "stop-node",
  "kill-agent",
  "stop-agent",
  "cut",
  "lose",
  "slow-line",
  "cut-database",
  "slow-database",
  "kill-database",
  "promote-standby",
  "fill-disk",
] as const satisfies readonly FaultKind[];

/** What a fault holds for itself while it lasts. */
export function subjectsOf(fault: Fault): readonly string[] {
  switch (fault.kind) {
    case "kill-node":
    case "stop-node":
      return [`process ${fault.node}`];
    case "kill-agent":
    case "stop-agent":
      return [`process ${fault.agent}`];
    case "cut":
      return fault.agents.map((agent) => `line of ${agent}`);
    case "lose":
      return fault.agents.map((agent) => `losses of ${agent}`);
    case "slow-line":
      return fault.agents.map((agent) => `speed of ${agent}`);
    case "cut-database":
    case "slow-database":
      return [`database line of ${fault.node}`];
    case "kill-database":
    case "promote-standby":
      return ["database"];
    case "fill-disk":
      return [`disk of ${fault.agent}`];
  }
}

export function describeFault(fault: Fault): string {
  const { kind, ...rest } = fault;
  const details = Object.values(rest).map((value) => (Array.isArray(value) ? value.join("+") : String(value)));
  return [kind, ...details].join(" ");
}
