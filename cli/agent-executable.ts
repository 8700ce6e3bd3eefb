// The agent as a single executable (scripts/build-agent.ts): its commands and nothing of server or client, so that a target
// gets no more than it needs. Started by itself, never through a launcher: what one said in the environment is not about it.
import { isPacked } from "../shared/packed.ts";
import { agentCommand } from "./commands/agent.ts";
import { processShell } from "./process-shell.ts";
import { runWords } from "./run-words.ts";
import { plantTree } from "./tree.ts";

if (isPacked()) delete process.env["HOLDFAST_COMMAND"];

async function run(): Promise<void> {
  process.exitCode = await runWords(process.argv.slice(2), processShell(), (context) =>
    plantTree(context, {
      summary: "The agent of Holdfast: enrols this machine with a cluster and runs the scripts it is given.",
      examples: [
        ["holdfast agent register --server URL --token T --all-nodes", "once"],
        ["holdfast agent install", "as a service from then on"],
      ],
      commands: [agentCommand],
    }),
  );
}

// Not awaited: the build makes a CommonJS file of it, whose top level waits for nothing.
void run();
