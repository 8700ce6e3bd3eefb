// `holdfast agent doctor`: has agent/doctor examine the agent of a data directory and shows what it found (doctor-report.ts).
import type { Command } from "commander";
import { command, type CommandContext } from "../command.ts";
import { exitCodeOfExamination, printExamination } from "../doctor-report.ts";
import { durationOption, jsonOption } from "../option.ts";
import { stateDirectory } from "../state-directory.ts";
import { agentDataDirectory } from "./register.ts";

interface DoctorFlags {
  readonly dataDir?: string;
  readonly dialTimeout: number;
  readonly json?: boolean;
}

export function doctorCommand({ shell, finish }: CommandContext): Command {
  return command("doctor", {
    summary: "say why an agent does not connect or takes no work; changes nothing, also beside a running agent",
    options: [
      agentDataDirectory(),
      durationOption({
        flags: "--dial-timeout <duration>",
        description: "for DNS, TCP, TLS and greeting of each address, up to 14s",
        kind: "act",
        fallback: { value: 10_000, shown: "10s" },
      }),
      jsonOption(),
    ],
    examples: [
      ["holdfast agent doctor", "as the agent's user or root: a table, each failure with its mend"],
      ["holdfast agent doctor --json --data-dir /var/lib/holdfast/agent", "for programs"],
    ],
  }).action(async ({ dataDir, dialTimeout, json }: DoctorFlags) => {
    const { examineAgent } = await import("../../agent/doctor/doctor.ts");
    const dataPath = dataDir ?? stateDirectory(shell, "agent");
    const found = await examineAgent({ dataPath, dialMs: Math.min(dialTimeout, longestDialMs) });
    await printExamination(shell, found, json === true ? "json" : "text");
    finish(exitCodeOfExamination(found));
  });
}

/** The dial's own limit is 15 s; the stage it came to is known only before that. */
const longestDialMs = 14_000;
