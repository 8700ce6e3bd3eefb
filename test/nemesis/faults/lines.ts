// Lines between agents and nodes that are cut, lose packets or are slow.
import type { Fault } from "../fault.ts";
import type { Site } from "../site.ts";

type LineFault = Extract<Fault, { readonly kind: "cut" | "lose" | "slow-line" }>;

export function harmLines(site: Site, fault: LineFault): () => void {
  const heals = fault.agents.map((agent) => {
    switch (fault.kind) {
      case "cut": {
        const ports = fault.nodes.map((name) => site.node(name).agentPort);
        return site.lines.drop(agent, { ports, direction: fault.direction });
      }
      case "lose": {
        const ports = site.nodes.map(({ agentPort }) => agentPort);
        return site.lines.drop(agent, { ports, percent: fault.percent });
      }
      case "slow-line":
        return site.lines.slow(agent, fault.kbitPerSecond);
    }
  });
  return () => {
    for (const heal of heals) heal();
  };
}
