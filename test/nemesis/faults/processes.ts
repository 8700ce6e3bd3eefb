// Nodes and agents that die or stand still.
import type { Fault } from "../fault.ts";
import type { Site } from "../site.ts";

type ProcessFault = Extract<Fault, { readonly kind: "kill-node" | "stop-node" | "kill-agent" | "stop-agent" }>;

export async function harmProcess(site: Site, fault: ProcessFault): Promise<() => void> {
  const name = "node" in fault ? fault.node : fault.agent;
  return fault.kind === "kill-node" || fault.kind === "kill-agent" ? site.killProcess(name) : site.stopProcess(name);
}
