// What the command line asks for: show, install, uninstall, status of an agent's service. Prints nothing.
import { resolve } from "node:path";
import { AppError } from "../../shared/errors.ts";
import { defineService, type ServiceDefinition } from "./definition.ts";
import { carryOut, refuseUnfit, surveyInstall, surveyUninstall, type InstallPlan } from "./install.ts";
import { plistPath, renderPlist } from "./launchd-plist.ts";
import { describeStep } from "./plan.ts";
import { ownProgram, SystemHost, type ServiceHost } from "./service-host.ts";
import { readServiceStatus, type ServiceStatus } from "./status.ts";
import { renderUnit, unitPath } from "./systemd-unit.ts";
import { renderWindowsService, windowsServicePath } from "./windows-service.ts";

export type ServicePlatform = "linux" | "darwin" | "win32";

export interface ServiceTarget {
  readonly instance?: string | undefined;
  readonly dataPath?: string | undefined;
  /** The folder that is `/`: of an image or a chroot. Undefined: this machine. */
  readonly root?: string | undefined;
}

export interface InstallRequest extends ServiceTarget {
  readonly user?: string | undefined;
  /** How this program was called, to find the path the service is to run. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Whether a unit that was changed by hand is replaced. */
  readonly edited: "keep" | "replace";
}

export interface Definition {
  readonly service: string;
  readonly path: string;
  readonly text: string;
}

export interface Shown extends Definition {
  /** What `install` would do here; undefined for another system's definition. */
  readonly survey: (() => Promise<{ readonly steps: readonly string[] } & Pick<InstallPlan, "enrolment">>) | undefined;
}

/** The definition of any platform; nothing is touched. Throws `config.invalid`. */
export function showService(request: InstallRequest, platform: ServicePlatform, host = openHost(request)): Shown {
  const isOwn = platform === host.platform;
  const definition = define(request, isOwn ? "own" : platform);
  switch (platform) {
    case "darwin":
      return {
        service: definition.name,
        path: plistPath(definition),
        text: renderPlist(definition),
        survey: undefined,
      };
    case "win32": {
      const path = windowsServicePath(definition);
      return { service: definition.name, path, text: renderWindowsService(definition), survey: undefined };
    }
    case "linux": {
      const survey = async (): Promise<{ steps: string[]; enrolment: InstallPlan["enrolment"] }> => {
        const { steps, enrolment } = await surveyInstall(host, definition, request);
        return { steps: steps.map(describeStep), enrolment };
      };
      const path = unitPath(definition.name);
      return { service: definition.name, path, text: renderUnit(definition), survey: isOwn ? survey : undefined };
    }
  }
}

export interface InstallReport {
  readonly service: string;
  readonly unit: string;
  readonly dataDirectory: string;
  /** What was done, in order; empty when everything was so already. */
  readonly done: readonly string[];
  readonly enrolment: InstallPlan["enrolment"];
  /** `offline`: files of another root, where nothing is started. */
  readonly started: "started" | "not-enrolled" | "offline";
  readonly warnings: readonly string[];
}

export async function installService(
  request: InstallRequest,
  tell: (line: string) => Promise<void>,
  host: ServiceHost = openHost(request),
): Promise<InstallReport> {
  const definition = define(request, "own");
  refuseUnfit(host);
  const plan = await surveyInstall(host, definition, request);
  const warnings = await programWarnings(host, definition);
  await carryOut(host, plan.steps, tell);
  return {
    service: definition.name,
    unit: unitPath(definition.name),
    dataDirectory: definition.dataPath,
    done: plan.steps.map(describeStep),
    enrolment: plan.enrolment,
    started: host.manager === "offline" ? "offline" : plan.enrolment === "absent" ? "not-enrolled" : "started",
    warnings,
  };
}

export interface UninstallReport {
  readonly service: string;
  readonly done: readonly string[];
  readonly dataDirectory: string;
}

export async function uninstallService(
  request: ServiceTarget & { readonly edited: "keep" | "remove"; readonly data: "keep" | "purge" },
  tell: (line: string) => Promise<void>,
  host: ServiceHost = openHost(request),
): Promise<UninstallReport> {
  refuseUnfit(host);
  const { name, steps, dataPath } = await surveyUninstall(host, {
    instance: request.instance,
    dataPath: absolute(request.dataPath),
    edited: request.edited,
    data: request.data,
  });
  await carryOut(host, steps, tell);
  return { service: name, done: steps.map(describeStep), dataDirectory: dataPath };
}

export function serviceStatus(target: ServiceTarget, host: ServiceHost = openHost(target)): Promise<ServiceStatus> {
  return readServiceStatus(host, { instance: target.instance, dataPath: absolute(target.dataPath) });
}

function openHost({ root }: ServiceTarget): ServiceHost {
  return new SystemHost({ root });
}

/** Where this program is not, the paths are the usual ones of that system, to be corrected by who installs it. */
const foreignPrograms = {
  linux: ["/usr/local/bin/holdfast"],
  darwin: ["/usr/local/bin/holdfast"],
  win32: [String.raw`C:\Program Files\nodejs\node.exe`, String.raw`C:\Program Files\Holdfast\bin\holdfast.js`],
} as const;

function define(request: InstallRequest, of: ServicePlatform | "own"): ServiceDefinition {
  const { instance, user, dataPath } = request;
  if (of === "own") {
    return defineService({ instance, user, dataPath: absolute(dataPath), program: ownProgram(request.environment) });
  }
  const folder = String.raw`C:\ProgramData\Holdfast\agent` + (instance === undefined ? "" : `-${instance}`);
  const fallback = of === "win32" ? folder : undefined;
  return defineService({ instance, user, dataPath: dataPath ?? fallback, program: foreignPrograms[of] });
}

/** A program that others may replace makes them root, or the service's user. */
async function programWarnings(host: ServiceHost, { program, user }: ServiceDefinition): Promise<string[]> {
  if (host.manager === "offline") return [];
  const warnings: string[] = [];
  for (const path of program) {
    const loose = await host.changeableBy(path);
    if (loose === "missing") {
      throw new AppError("config.invalid", `${path} does not exist, and the service would run it`, {
        mend: "Start this command by the path of the program that the service is to run.",
      });
    }
    if (loose !== undefined)
      warnings.push(`${loose} may be changed by others than root, and the service runs it as ${user}`);
  }
  return warnings;
}

function absolute(path: string | undefined): string | undefined {
  return path === undefined ? undefined : resolve(path);
}
