// `holdfast agent install|uninstall|status`: reads what is asked, has agent/service/entry.ts do it, and shows the outcome.
import type { Command, Option } from "commander";
import { AppError } from "../../shared/errors.ts";
import { command, type CommandContext } from "../command.ts";
import { exitCodes } from "../exit-code.ts";
import { jsonOption, option } from "../option.ts";
import { note, printFields, printJson } from "../output.ts";
import type { Shell } from "../shell.ts";
import { stateDirectory } from "../state-directory.ts";

interface TargetFlags {
  readonly instance?: string;
  readonly dataDir?: string;
  readonly root?: string;
  readonly json?: boolean;
}

type Platform = "linux" | "darwin" | "win32";

interface InstallFlags extends TargetFlags {
  readonly user?: string;
  readonly force?: boolean;
  readonly print?: boolean;
  readonly platform?: Platform;
}

const targetOptions = (): Option[] => [
  option({ flags: "--instance <name>", description: "one of several agents of this host", kind: "act" }),
  option({
    flags: "--data-dir <dir>",
    description: "identity and journal (else what the unit says, or /var/lib/holdfast/agent, or …/agent-INSTANCE)",
    kind: "setting",
  }),
  option({
    flags: "--root <dir>",
    description: "the folder that is / (an image, a chroot), not this host",
    kind: "act",
  }),
  jsonOption(),
];

const forceOption = (): Option =>
  option({ flags: "--force", description: "even when the unit was changed by hand", kind: "act" });

export function installCommand({ shell }: CommandContext): Command {
  return command("install", {
    summary: "run the agent as a systemd service that starts with the host (as root); again: do what is missing",
    options: [
      ...targetOptions(),
      option({
        flags: "--user <name>",
        description: "who the agent and its scripts are; made if there is none (else root)",
        kind: "act",
      }),
      forceOption(),
      option({ flags: "--print", description: "show the unit and what would be done; touch nothing", kind: "act" }),
      option({
        flags: "--platform <name>",
        description: "with --print: launchd's or the Windows definition; never run by our tests",
        kind: "act",
        choices: ["linux", "darwin", "win32"],
      }),
    ],
    examples: [
      ["holdfast agent install", "after `holdfast agent register`, as root"],
      ["holdfast agent install --print", "what it would do"],
      ["holdfast agent install --instance blue --user deploy", "a second agent, as user deploy"],
    ],
  }).action((flags: InstallFlags) => (flags.print === true ? print(shell, flags) : install(shell, flags)));
}

function requestOf(shell: Shell, flags: InstallFlags) {
  return {
    ...targetOf(flags),
    user: flags.user,
    environment: shell.environment,
    edited: flags.force === true ? ("replace" as const) : ("keep" as const),
  };
}

function targetOf({ instance, dataDir, root }: TargetFlags) {
  return { instance, dataPath: dataDir, root };
}

async function print(shell: Shell, flags: InstallFlags): Promise<void> {
  const { showService } = await import("../../agent/service/entry.ts");
  const { service, path, text, survey } = showService(requestOf(shell, flags), flags.platform ?? "linux");
  if (flags.json === true) {
    const steps = survey === undefined ? null : (await survey()).steps;
    await printJson(shell.out, { service, path, text, steps });
    return;
  }
  await shell.out.write(text);
  await note(shell, `this is ${path}; nothing was touched`);
  if (survey === undefined) return;
  const { steps, enrolment } = await survey();
  for (const step of steps) await note(shell, `would ${step}`);
  if (steps.length === 0) await note(shell, "everything is so already");
  if (enrolment === "absent")
    await note(shell, "not enrolled: it would not be started before `holdfast agent register`");
}

async function install(shell: Shell, flags: InstallFlags): Promise<void> {
  if (flags.platform !== undefined) throw new AppError("config.invalid", "--platform is for --print");
  const { installService } = await import("../../agent/service/entry.ts");
  const report = await installService(requestOf(shell, flags), (step) => note(shell, step));
  for (const warning of report.warnings) await note(shell, `warning: ${warning}`);
  if (flags.json === true) {
    await printJson(shell.out, report);
    return;
  }
  const changed = report.done.length === 0 ? "was installed already: nothing changed" : "is installed";
  await shell.out.write(`${report.service} ${changed}\n`);
  if (report.enrolment === "present") return;
  const register = `holdfast agent register --server URL --token T --all-nodes --data-dir ${report.dataDirectory}`;
  await note(shell, `it is not enrolled yet and was not started: run \`${register}\`, then install again`);
}

export function uninstallCommand({ shell }: CommandContext): Command {
  return command("uninstall", {
    summary: "stop the agent's service and remove it; running scripts, identity and journal stay",
    options: [
      ...targetOptions(),
      forceOption(),
      option({
        flags: "--purge",
        description: "remove the data directory as well: identity, journal, attempts",
        kind: "act",
      }),
    ],
    examples: [
      ["holdfast agent uninstall", "the data directory stays"],
      ["holdfast agent uninstall --instance blue --purge", "nothing of it stays"],
    ],
  }).action(async (flags: TargetFlags & { readonly force?: boolean; readonly purge?: boolean }) => {
    const { uninstallService } = await import("../../agent/service/entry.ts");
    const edited = flags.force === true ? "remove" : "keep";
    const data = flags.purge === true ? "purge" : "keep";
    const report = await uninstallService({ ...targetOf(flags), edited, data }, (step) => note(shell, step));
    if (flags.json === true) {
      await printJson(shell.out, report);
      return;
    }
    await shell.out.write(`${report.service} ${report.done.length === 0 ? "was not installed" : "is uninstalled"}\n`);
    if (data === "keep") await note(shell, `${report.dataDirectory} was left as it is`);
    else await note(shell, "the cluster still knows the agent: `holdfast agents remove NAME`");
  });
}

export function statusCommand({ shell, finish }: CommandContext): Command {
  return command("status", {
    summary: "whether the agent of this host runs, and as whom; exit 1 when it does not run",
    options: targetOptions(),
    examples: [
      ["holdfast agent status", "works without systemd as well"],
      ["holdfast agent status --data-dir ./agent --json", "of an agent that was started by hand"],
    ],
  }).action(async (flags: TargetFlags) => {
    const { serviceStatus } = await import("../../agent/service/entry.ts");
    let status = await serviceStatus(targetOf(flags));
    // Without a unit, an agent of this user's own is meant, which lies where `agent run` puts it.
    if (status.unit === "absent" && [flags.dataDir, flags.instance, flags.root].every((flag) => flag === undefined)) {
      status = await serviceStatus({ dataPath: stateDirectory(shell, "agent") });
    }
    finish(status.running ? exitCodes.done : exitCodes.failed);
    if (flags.json === true) {
      await printJson(shell.out, status);
      return;
    }
    const { systemd, identity } = status;
    await printFields(shell.out, [
      ["agent", status.running ? `runs as process ${status.pid}` : "does not run"],
      ["service", `${status.service} (${unitWords[status.unit]})`],
      ["systemd", systemd === null ? "knows no such service, or does not run here" : describe(systemd)],
      ...(systemd?.says ? [["says", systemd.says] as const] : []),
      ["data directory", status.dataDirectory],
      ["identity", identity === null ? "none: not enrolled" : `${identity.name} (${identity.agentId})`],
      ["cluster", identity?.cluster ?? null],
      ["certificate until", identity?.certificateEnds ?? null],
      ["log", status.log],
    ]);
  });
}

const unitWords = { absent: "not installed", own: "installed", edited: "installed, unit changed by hand" } as const;

function describe(state: {
  readonly active: string;
  readonly enabled: string;
  readonly lastExitCode: number | null;
  readonly stale: boolean;
}): string {
  const last = state.active !== "active" && state.lastExitCode !== null ? `, last exit code ${state.lastExitCode}` : "";
  const stale = state.stale ? ", unit file changed: systemctl daemon-reload" : "";
  return `${state.active}, ${state.enabled}${last}${stale}`;
}
