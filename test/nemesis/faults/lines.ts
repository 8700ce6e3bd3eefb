// Lines between agents and nodes that are cut, lose packets or are slow.
import type { Fault } from "../fault.ts";
import type { Site } from "../site.ts";

type LineFault = Extract<Fault, { readonly kind: "cut" | "lose" | "slow-line" }>;

export async function harmLines(site: Site, fault: LineFault): Promise<() => Promise<void>> {
  // All at once, and all of them also when one fails: what was begun is to be healed.
  const begun = await Promise.allSettled(fault.agents.map((agent) => harmLine(site, fault, agent)));
  const heal = async (): Promise<void> => {
    await Promise.all(begun.flatMap((one) => (one.status === "fulfilled" ? [one.value()] : [])));
  };
  const failed = begun.find((one) => one.status === "rejected");
  if (failed === undefined) return heal;
  await heal();
  throw failed.reason;
}

function harmLine(site: Site, fault: LineFault, agent: string): Promise<() => Promise<void>> {
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
}
