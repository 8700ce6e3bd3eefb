// What an agent's service is doing, as far as this host says: unit, process, data directory, identity. Looks only, works
// without systemd, and disturbs no agent.
import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import { AppError } from "../../shared/errors.ts";
import { readLockHolder } from "../data-lock.ts";
import { hostBootId } from "../host.ts";
import { identityFileSchema } from "../identity.ts";
import { defaultServiceDataPath, serviceName } from "./definition.ts";
import type { ServiceHost } from "./service-host.ts";
import { readUnit, unitPath, type UnitText } from "./systemd-unit.ts";

export interface ServiceStatus {
  readonly service: string;
  /** Whether a process runs an agent on the data directory, whoever started it. */
  readonly running: boolean;
  /** The process that holds the data directory. */
  readonly pid: number | null;
  readonly unit: UnitText["kind"];
  readonly unitPath: string;
  /** What systemd says; null where none runs or it does not know the unit. */
  readonly systemd: SystemdState | null;
  readonly dataDirectory: string;
  readonly identity: {
    readonly agentId: string;
    readonly name: string;
    readonly cluster: string;
    readonly certificateEnds: string | null;
  } | null;
  /** How to read the log. */
  readonly log: string;
}

export interface SystemdState {
  /** Such as `active`, `activating`, `failed`. */
  readonly active: string;
  /** Such as `enabled`. */
  readonly enabled: string;
  readonly pid: number | null;
  /** The agent's own line: nodes it is connected to. */
  readonly says: string | null;
  /** Exit code of the last process that ended. */
  readonly lastExitCode: number | null;
  /** The unit file is newer than what systemd has read. */
  readonly stale: boolean;
}

export async function readServiceStatus(
  host: ServiceHost,
  asked: { readonly instance: string | undefined; readonly dataPath: string | undefined },
): Promise<ServiceStatus> {
  const name = serviceName(asked.instance);
  const unit = readUnit(await host.readText(unitPath(name)));
  const written = unit.kind === "absent" ? undefined : unit.dataPath;
  const dataDirectory = asked.dataPath ?? written ?? defaultServiceDataPath(asked.instance);
  const systemd = host.manager === "live" ? await readSystemd(host, name) : null;
  const holder = lockHolder(host.at(join(dataDirectory, "lock")));
  return {
    service: name,
    running: holder !== undefined,
    pid: holder?.pid ?? null,
    unit: unit.kind,
    unitPath: unitPath(name),
    systemd,
    dataDirectory,
    identity: await readIdentity(host, dataDirectory),
    log:
      host.manager === "live" && unit.kind !== "absent"
        ? `journalctl -u ${name} -n 50`
        : "standard error of the process, one JSON object per line",
  };
}

async function readSystemd(host: ServiceHost, name: string): Promise<SystemdState | null> {
  const wanted = "LoadState,ActiveState,UnitFileState,MainPID,StatusText,ExecMainStatus,ExecMainCode,NeedDaemonReload";
  const { exitCode, out } = await host.run("systemctl", ["show", `--property=${wanted}`, `${name}.service`]);
  const shown = new Map(
    out.split("\n").map((line): [string, string] => {
      const at = line.indexOf("=");
      return [line.slice(0, at), line.slice(at + 1)];
    }),
  );
  const text = (property: string): string => shown.get(property) ?? "";
  if (exitCode !== 0 || text("LoadState") !== "loaded") return null;
  return {
    active: text("ActiveState"),
    enabled: text("UnitFileState"),
    pid: Number(text("MainPID")) || null,
    says: text("StatusText") || null,
    // 1 is CLD_EXITED; 0: none has ended yet.
    lastExitCode: text("ExecMainCode") === "1" ? Number(text("ExecMainStatus")) : null,
    stale: text("NeedDaemonReload") === "yes",
  };
}

async function readIdentity(host: ServiceHost, dataPath: string): Promise<ServiceStatus["identity"]> {
  const text = await host.readText(join(dataPath, "identity.json"));
  if (text === undefined) return null;
  const { agentId, name, cluster } = parseIdentity(text, dataPath);
  const pem = await host.readText(join(dataPath, "certificate.pem"));
  const certificateEnds = pem === undefined ? null : new X509Certificate(pem).validToDate.toISOString();
  return { agentId, name, cluster, certificateEnds };
}

function parseIdentity(text: string, dataPath: string): ReturnType<typeof identityFileSchema.parse> {
  try {
    return identityFileSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new AppError("certificate.invalid", `${join(dataPath, "identity.json")} cannot be understood`, { cause });
  }
}

function lockHolder(path: string): { readonly pid: number } | undefined {
  try {
    return readLockHolder(path, hostBootId());
  } catch (cause) {
    throw new AppError("host.forbidden", `cannot read ${path}`, { cause });
  }
}
