// `holdfast agent update`: reads what is asked, finds how the agent is restarted, has agent/update/entry.ts do it.
import type { Command } from "commander";
import type { UpdateReport, UpdateRequest } from "../../agent/update/entry.ts";
import { AppError } from "../../shared/errors.ts";
import { command, type CommandContext } from "../command.ts";
import { exitCodes } from "../exit-code.ts";
import { durationOption, jsonOption, option } from "../option.ts";
import { note, printJson } from "../output.ts";
import type { Shell } from "../shell.ts";
import { stateDirectory } from "../state-directory.ts";
import { agentDataDirectory } from "./register.ts";

interface UpdateFlags {
  readonly server?: readonly string[];
  readonly sha256?: string;
  readonly dataDir?: string;
  readonly instance?: string;
  readonly restart: boolean;
  readonly restartCommand?: string;
  readonly greetWithin: number;
  readonly json?: boolean;
}

export function updateCommand({ shell, finish }: CommandContext): Command {
  return command("update", {
    summary: "replace the agent's executable by the one a node serves; back to this one when it does not connect",
    options: [
      option({
        flags: "--server <url>",
        description: "API address of the cluster (repeatable: tried in order)",
        kind: "setting",
        repeatable: "repeatable",
      }),
      option({
        flags: "--sha256 <hex>",
        description: "of the executable; needed where the server is not https",
        kind: "act",
      }),
      option({ flags: "--instance <name>", description: "one of several agents of this host", kind: "act" }),
      agentDataDirectory(),
      option({
        flags: "--restart-command <line>",
        description: "shell command that restarts the agent (else its systemd service is)",
        kind: "act",
      }),
      option({
        flags: "--no-restart",
        description: "only put it in place: the next start runs it, and nothing brings the earlier one back",
        kind: "act",
      }),
      durationOption({
        flags: "--greet-within <duration>",
        description: "time for the new version to have a session with a node",
        kind: "act",
        fallback: { value: 60_000, shown: "1m" },
      }),
      jsonOption(),
    ],
    examples: [
      ["holdfast agent update --server https://holdfast.example", "as root, of the agent that runs as a service"],
      ["holdfast agent update --server http://holdfast:8080 --sha256 3b6f…", "where nobody else vouches for it"],
    ],
  }).action(async (flags: UpdateFlags) => {
    const [server, ...others] = (flags.server ?? []).flatMap((text) => text.split(",")).map((text) => text.trim());
    if (server === undefined) throw new AppError("config.invalid", "update needs --server");
    const { updateAgent } = await import("../../agent/update/entry.ts");
    const { dataPath, restart } = await target(shell, flags);
    const stop = new AbortController();
    const request: Omit<UpdateRequest, "server"> = {
      signal: stop.signal,
      sha256: flags.sha256,
      dataPath,
      restart,
      greetMs: flags.greetWithin,
      environment: shell.environment,
    };
    const ask = (url: string): Promise<UpdateReport> =>
      updateAgent({ ...request, server: url.replace(/\/+$/, "") }, (line) => note(shell, line));
    let asked = ask(server);
    for (const other of others) {
      asked = asked.catch((cause: unknown) => {
        if (AppError.from(cause).code === "cluster.unreachable") return ask(other);
        throw cause;
      });
    }
    // A switch that is left halfway would be nobody's to take back.
    const release = shell.onInterrupt((signal) => {
      stop.abort(new AppError("aborted", `stopped by ${signal}`));
      void note(shell, `${signal}: what was switched already is watched to its end, at most twice --greet-within`);
    });
    const report = await asked.finally(release);
    if (flags.json === true) await printJson(shell.out, report);
    finish(await conclude(shell, report, flags.json === true ? "json" : "text"));
  });
}

async function conclude(shell: Shell, report: UpdateReport, form: "json" | "text"): Promise<number> {
  const { kind, version } = report;
  if (kind === "rolled-back" || kind === "stranded") {
    const end = kind === "rolled-back" ? "runs again" : "was put back, and is not connected either";
    if (form === "json") return exitCodes.failed;
    throw new AppError("update.rolled-back", `the new version was not kept: ${report.why}; ${version} ${end}`);
  }
  const words = {
    updated: "runs and is connected",
    "up-to-date": "runs already",
    switched: "is what the next start runs",
  };
  if (form === "text") await shell.out.write(`${version} ${words[kind]}\n`);
  return exitCodes.done;
}

/** Whose health line counts and what restarts it. */
async function target(shell: Shell, flags: UpdateFlags): Promise<Pick<UpdateRequest, "dataPath" | "restart">> {
  const { serviceStatus } = await import("../../agent/service/entry.ts");
  const status = await serviceStatus({ instance: flags.instance, dataPath: flags.dataDir });
  const isInstalled = status.unit !== "absent";
  const dataPath =
    flags.dataDir ?? (isInstalled || flags.instance ? status.dataDirectory : stateDirectory(shell, "agent"));
  if (!flags.restart) return { dataPath, restart: { kind: "none" } };
  if (flags.restartCommand !== undefined) return { dataPath, restart: { kind: "command", line: flags.restartCommand } };
  if (status.systemd === null) {
    throw new AppError("service.unsupported", `systemd runs no ${status.service} here`, {
      mend: "Say how the agent is restarted with --restart-command, or use --no-restart.",
    });
  }
  // A restart that waits would wait for the first greeting, which is what is watched here.
  return { dataPath, restart: { kind: "command", line: `systemctl restart --no-block ${status.service}.service` } };
}
