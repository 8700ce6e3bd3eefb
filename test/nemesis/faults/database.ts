// The database dies, changes its place, or is hard to reach. A cut line holds bytes back and loses none of them, as TCP does
// over packets that vanish: what was sent arrives when it is healed, or the connection is given up.
import type { Fault } from "../fault.ts";
import { wholeLine, type LinePlan } from "../forwarder-order.ts";
import type { Site } from "../site.ts";

type DatabaseFault = Extract<
  Fault,
  { readonly kind: "cut-database" | "slow-database" | "kill-database" | "promote-standby" }
>;

export async function harmDatabase(site: Site, fault: DatabaseFault): Promise<() => Promise<void> | void> {
  switch (fault.kind) {
    case "cut-database":
    case "slow-database": {
      const { databasePort } = site.node(fault.node);
      await site.databaseLines.change(databasePort, planOf(fault));
      return () => site.databaseLines.change(databasePort, wholeLine);
    }
    case "kill-database":
      return await site.killDatabase("comes back");
    case "promote-standby":
      return await site.killDatabase("standby takes over");
  }
}

function planOf(fault: Extract<Fault, { readonly kind: "cut-database" | "slow-database" }>): LinePlan {
  if (fault.kind === "slow-database") {
    const lane = { flow: "pass", delayMs: fault.delayMs, jitterMs: fault.delayMs / 2 } as const;
    return { toTarget: lane, toClient: lane };
  }
  const { toTarget, toClient } = wholeLine;
  return {
    toTarget: { ...toTarget, flow: fault.direction === "incoming" ? "pass" : "pause" },
    toClient: { ...toClient, flow: fault.direction === "outgoing" ? "pass" : "pause" },
  };
}
