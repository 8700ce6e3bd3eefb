// The database dies, changes its place, or is hard to reach. A cut line holds bytes back and loses none of them, as TCP does
// over packets that vanish: what was sent arrives when it is healed, or the connection is given up.
import type { ConnectionPlan } from "../../harness/fault-proxy.ts";
import type { Fault } from "../fault.ts";
import type { Site } from "../site.ts";

type DatabaseFault = Extract<
  Fault,
  { readonly kind: "cut-database" | "slow-database" | "kill-database" | "promote-standby" }
>;

export async function harmDatabase(site: Site, fault: DatabaseFault): Promise<() => Promise<void> | void> {
  switch (fault.kind) {
    case "cut-database":
    case "slow-database": {
      const { databaseLine } = site.node(fault.node);
      databaseLine.change(planOf(fault));
      return () => databaseLine.change({});
    }
    case "kill-database":
      await site.database.kill();
      return () => site.database.comeBack();
    case "promote-standby":
      await site.database.promote();
      // The forwarders ask where it is for each connection; what leads to the old one is over.
      for (const { databaseLine } of site.nodes) databaseLine.reset();
      return () => site.database.addStandby();
  }
}

function planOf(fault: Extract<Fault, { readonly kind: "cut-database" | "slow-database" }>): ConnectionPlan {
  if (fault.kind === "slow-database") {
    const lane = { delayMs: fault.delayMs, jitterMs: fault.delayMs / 2 };
    return { toTarget: lane, toClient: lane };
  }
  const held = { flow: "pause" } as const;
  return {
    ...(fault.direction === "incoming" ? {} : { toTarget: held }),
    ...(fault.direction === "outgoing" ? {} : { toClient: held }),
  };
}
