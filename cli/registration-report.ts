// What `agent register` says when it is done, for people and for programs, and how it exits. Dials nothing itself.
// Invariant: a node that was not reached is shown with its reason and its mend, whatever the exit code.
import type { Registration } from "../agent/register.ts";
import { exitCodes } from "./exit-code.ts";
import { note, printJson, printTable } from "./output.ts";
import type { Shell } from "./shell.ts";

export interface ReportForm {
  readonly json: boolean;
  /** What starts the agent, for the last line. */
  readonly runCommand: string;
}

/** Off by less than this is no news: certificates allow an hour. */
const clockNewsMs = 60_000;

export async function printRegistration(shell: Shell, registration: Registration, form: ReportForm): Promise<void> {
  if (form.json) {
    await printJson(shell.out, registration);
    return;
  }
  const { name, nodes, keepsTo, serverAheadMs } = registration;
  await note(shell, `${name} ${enrolmentWords[registration.enrolment]}; start it with: ${form.runCommand}`);
  if (keepsTo !== null) {
    const kept = [...keepsTo.nodes, ...keepsTo.addresses].join(", ");
    await note(shell, `it keeps to ${kept}, also when the cluster lists others; register without --node lifts that`);
  }
  if (serverAheadMs !== null && Math.abs(serverAheadMs) >= clockNewsMs) {
    const minutes = Math.round(Math.abs(serverAheadMs) / 60_000);
    await note(
      shell,
      `this machine's clock is about ${minutes} min ${serverAheadMs > 0 ? "behind" : "ahead of"} the server's: set it`,
    );
  }
  await printTable(shell.out, nodes, [
    { title: "NODE", cell: (node) => node.name },
    { title: "ADDRESS", cell: (node) => node.address },
    { title: "REACHED", cell: (node) => (node.ok ? "yes" : "no") },
    { title: "ROUND TRIP", cell: (node) => (node.roundTripMs === null ? null : `${node.roundTripMs} ms`) },
    // One column: long texts in the middle of a table would push all that follows off the screen.
    { title: "REASON AND MEND", cell: (node) => (node.ok ? null : `${node.reason}. ${node.mend}`) },
  ]);
  await note(shell, reachedWords(registration));
}

const enrolmentWords = {
  new: "is enrolled",
  kept: "was enrolled already: identity and journal are kept, the token was not used",
  renewed: "has a new certificate: identity and journal are kept",
} as const satisfies Record<Registration["enrolment"], string>;

function reachedWords({ reached, nodes }: Registration): string {
  const good = nodes.filter((node) => node.ok).length;
  switch (reached) {
    case "all":
      return "every node was reached";
    case "some":
      return `reached only partly: ${good} of ${nodes.length} addresses lead to their node; the agent works through those, with less redundancy`;
    case "none":
      return "no node was reached: the agent is enrolled, but nothing can be run on it until one of the rows above is mended";
  }
}

export interface Asked {
  /** `every`: a node that is not reached is a failure; `any`: one node is enough. */
  readonly nodes: "every" | "any";
}

/** 0 reached as asked; 69 only partly, or none; 77 none, because the cluster refuses this agent. */
export function exitCodeOfRegistration({ reached, nodes }: Registration, asked: Asked): number {
  if (reached === "all" || (reached === "some" && asked.nodes === "any")) return exitCodes.done;
  const isRefused = reached === "none" && nodes.length > 0 && nodes.every((node) => refusals.has(node.finding));
  return isRefused ? exitCodes.denied : exitCodes.unreachable;
}

const refusals: ReadonlySet<string> = new Set(["agent-refused", "agent-expired"]);
