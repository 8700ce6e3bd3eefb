// Carries one fault out on a site; answers what heals it.
import type { Fault } from "../fault.ts";
import type { Site } from "../site.ts";
import { harmDatabase } from "./database.ts";
import { harmLines } from "./lines.ts";
import { harmProcess } from "./processes.ts";

export type Heal = () => Promise<void> | void;

export async function inject(site: Site, fault: Fault): Promise<Heal> {
  switch (fault.kind) {
    case "kill-node":
    case "stop-node":
    case "kill-agent":
    case "stop-agent":
      return await harmProcess(site, fault);
    case "cut":
    case "lose":
    case "slow-line":
      return await harmLines(site, fault);
    case "cut-database":
    case "slow-database":
    case "kill-database":
    case "promote-standby":
      return await harmDatabase(site, fault);
    case "fill-disk": {
      const disk = site.disks.get(fault.agent);
      if (disk === undefined) throw new Error(`${fault.agent} has no small disk`);
      return disk.fill();
    }
  }
}
