// Installs an agent as a systemd service and takes it away again: looks, plans (plan.ts), and does what is left to do.
// Repeating either is safe: what is already so is left alone.
import { dirname, join, resolve } from "node:path";
import { existsSync } from "node:fs";
import { AppError } from "../../shared/errors.ts";
import { listAttemptFolders, AttemptFolder } from "../attempt-folder.ts";
import { hostBootId } from "../host.ts";
import { isAlive } from "../process-table.ts";
import { readLockHolder } from "../data-lock.ts";
import { removeUserPlaces } from "../user-places.ts";
import { dataFolders, defaultServiceDataPath, serviceName, type ServiceDefinition } from "./definition.ts";
import { describeStep, planInstall, planUninstall, type Account, type Seen, type Step } from "./plan.ts";
import type { ServiceHost } from "./service-host.ts";
import { readUnit, unitPath } from "./systemd-unit.ts";

export interface InstallPlan {
  readonly steps: readonly Step[];
  /** What the service needs before it can run, besides the steps. */
  readonly enrolment: Seen["enrolment"];
}

/** Looks only, and needs no rights for it but to see. Throws as planInstall does. */
export async function surveyInstall(
  host: ServiceHost,
  definition: ServiceDefinition,
  wish: { readonly edited: "keep" | "replace" },
): Promise<InstallPlan> {
  const { name, dataPath, user } = definition;
  const seen: Seen = {
    ...(await surveyUnit(host, name)),
    account: await host.account(user),
    folder: await host.folder(dataPath),
    above: dirname(dataPath) === dataFolders ? await host.folder(dataFolders) : undefined,
    enrolment: await enrolmentIn(host, dataPath),
  };
  return { steps: planInstall(definition, seen, wish), enrolment: seen.enrolment };
}

/** A folder that is closed to us, who only show what would be done, is somebody's. */
async function enrolmentIn(host: ServiceHost, dataPath: string): Promise<Seen["enrolment"]> {
  try {
    return (await host.readText(join(dataPath, "identity.json"))) === undefined ? "absent" : "present";
  } catch (cause) {
    if (AppError.from(cause).code === "host.forbidden") return "present";
    throw cause;
  }
}

/** Throws `host.forbidden` or `service.unsupported` where nothing can be installed. */
export function refuseUnfit(host: ServiceHost): void {
  if (host.platform !== "linux") {
    throw new AppError("service.unsupported", `on ${host.platform} the service is not installed by this command`, {
      mend: "Take the definition that --print shows, and install it with the system's own tools.",
    });
  }
  if (host.manager === "offline") return;
  if (!host.isRoot) throw new AppError("host.forbidden", "a service of the system is installed by root");
  if (host.manager === "none") {
    throw new AppError("service.unsupported", "no systemd runs here (there is no /run/systemd/system)");
  }
}

/** Does the steps in order, telling each before it is done. Throws `service.failed` at the first that fails. */
export async function carryOut(
  host: ServiceHost,
  steps: readonly Step[],
  tell: (line: string) => Promise<void>,
): Promise<void> {
  for (const step of steps) {
    await tell(describeStep(step));
    await act(host, step);
  }
}

async function act(host: ServiceHost, step: Step): Promise<void> {
  switch (step.kind) {
    case "make-user": {
      const { user, home } = step;
      const words = [
        "--system",
        "--user-group",
        "--no-create-home",
        "--home-dir",
        home,
        "--shell",
        "/usr/sbin/nologin",
      ];
      return demand(host, "useradd", [...words, user]);
    }
    case "make-folder":
      return host.makeFolder(step.path, await accountOf(host, step.user));
    case "own-folder": {
      const { userId, groupId } = await accountOf(host, step.user);
      return demand(host, "chown", ["-hR", `${userId}:${groupId}`, "--", host.at(step.path)]);
    }
    case "close-folder":
      return host.changeMode(step.path, 0o700);
    case "open-folder":
      return host.changeMode(step.path, step.mode);
    case "write-unit":
      return host.writeText(step.path, step.text);
    case "reload":
      return demand(host, "systemctl", ["daemon-reload"]);
    case "enable":
    case "start":
    case "restart":
    case "stop":
    case "disable":
      return demand(host, "systemctl", [step.kind, `${step.name}.service`]);
    case "remove-unit":
      return host.remove(step.path);
    case "remove-folder":
      await refuseUsed(host.at(step.path));
      await removeUserPlaces(host.at(step.path));
      return host.remove(step.path);
  }
}

export interface UninstallPlan {
  readonly name: string;
  readonly steps: readonly Step[];
  /** What stays on purpose. */
  readonly dataPath: string;
}

export async function surveyUninstall(
  host: ServiceHost,
  wish: {
    readonly instance: string | undefined;
    readonly dataPath: string | undefined;
    readonly edited: "keep" | "remove";
    readonly data: "keep" | "purge";
  },
): Promise<UninstallPlan> {
  const name = serviceName(wish.instance);
  const seen = await surveyUnit(host, name);
  const written = seen.unit.kind === "absent" ? undefined : seen.unit.dataPath;
  const dataPath = resolve(wish.dataPath ?? written ?? defaultServiceDataPath(wish.instance));
  const folder = wish.data === "purge" ? await host.folder(dataPath) : undefined;
  if (folder !== undefined) {
    await refuseForeign(host, dataPath);
    if (seen.activity !== "active") await refuseUsed(host.at(dataPath));
    else await refuseRunning(host.at(dataPath));
  }
  const purge = wish.data === "purge" ? dataPath : undefined;
  return { steps: planUninstall(name, { ...seen, folder }, { edited: wish.edited, purge }), dataPath, name };
}

/** A mistyped --data-dir must not cost a folder that is no agent's. */
async function refuseForeign(host: ServiceHost, dataPath: string): Promise<void> {
  const known = ["identity.json", "journal", "attempts", "lock"];
  if (known.some((name) => existsSync(host.at(join(dataPath, name))))) return;
  throw new AppError("config.invalid", `${dataPath} does not look like an agent's data directory: nothing is removed`, {
    mend: "Name the right --data-dir, or remove the folder yourself.",
  });
}

/** An agent that no unit of ours started, or one that a stop did not end. */
async function refuseUsed(dataPath: string): Promise<void> {
  const holder = readLockHolder(join(dataPath, "lock"), hostBootId());
  if (holder !== undefined) {
    throw new AppError("data-directory.locked", `process ${holder.pid} runs an agent on ${dataPath}`);
  }
  await refuseRunning(dataPath);
}

/** Their output and exit code would have no place to go to. */
async function refuseRunning(dataPath: string): Promise<void> {
  const running = await listRunning(join(dataPath, "attempts"));
  if (running.length === 0) return;
  const count = running.length === 1 ? "1 script still runs" : `${running.length} scripts still run`;
  throw new AppError("data-directory.locked", `${count} (${running.slice(0, 3).join(", ")}): nothing is removed`, {
    mend: "Cancel or await what runs, then uninstall with --purge again.",
  });
}

async function listRunning(attemptsPath: string): Promise<string[]> {
  if (!existsSync(attemptsPath)) return [];
  const attempts = await listAttemptFolders(attemptsPath);
  return attempts.filter((attempt) => {
    const marker = new AttemptFolder({ attemptsPath, attempt }).marker();
    return marker.kind === "shim" && isAlive(marker.mark);
  });
}

async function surveyUnit(host: ServiceHost, name: string): Promise<Pick<Seen, "unit" | "enabling" | "activity">> {
  const unit = readUnit(await host.readText(unitPath(name)));
  const isManaged = host.manager !== "none" && unit.kind !== "absent";
  const enabled = isManaged ? (await host.run("systemctl", ["is-enabled", `${name}.service`])).out.trim() : "";
  const enabling = enabled === "enabled" ? "enabled" : "disabled";
  if (host.manager !== "live") return { unit, enabling, activity: "none" };
  const { out } = await host.run("systemctl", ["is-active", `${name}.service`]);
  // `activating` is one that systemd starts again and again.
  const activity = ["active", "activating", "reloading"].includes(out.trim()) ? "active" : "inactive";
  return { unit, enabling, activity };
}

async function accountOf(host: ServiceHost, user: string): Promise<Account> {
  const account = await host.account(user);
  if (account === undefined) throw new AppError("service.failed", `there is no user ${user}`);
  return account;
}

async function demand(
  host: ServiceHost,
  program: Parameters<ServiceHost["run"]>[0],
  words: readonly string[],
): Promise<void> {
  const { exitCode, err } = await host.run(program, words);
  if (exitCode === 0) return;
  throw new AppError("service.failed", `\`${program} ${words.join(" ")}\` ended with ${exitCode}: ${err}`);
}
