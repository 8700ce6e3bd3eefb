// The agent's systemd unit: one of its own for each instance, for a template could not hold a user and a folder for each.
// Its last section, which systemd passes over, says what `install` wrote: whatever does not fit its sum was edited by hand.
import { AppError } from "../../shared/errors.ts";
import { sha256Hex } from "../../shared/thumbprint.ts";
import { agentSubgroup } from "../cgroups.ts";
import { serviceWords, type ServiceDefinition } from "./definition.ts";

export const unitFolder = "/etc/systemd/system";

/** What systemd waits between two feedings before it starts the agent anew. */
const watchdogSeconds = 120;
/** CONVENTIONS: wrong configuration, refused, needs a person. The agent would only end again. */
export const uselessToRestart = [2, 77, 78] as const;

export type UnitText =
  | { readonly kind: "absent" }
  /** As `install` wrote it, this version or an earlier one. */
  | { readonly kind: "own"; readonly text: string; readonly dataPath: string }
  | { readonly kind: "edited"; readonly text: string; readonly dataPath: string | undefined };

export function unitPath(name: string): string {
  return `${unitFolder}/${name}.service`;
}

export function environmentPath(name: string): string {
  return `/etc/default/${name}`;
}

/** Throws `config.invalid` for a program that systemd would refuse. */
export function renderUnit(definition: ServiceDefinition): string {
  const { name, dataPath, user } = definition;
  const body = `# Written by \`holdfast agent install\`, which takes it for its own as long as it is unchanged.
# Keep changes in a drop-in (\`systemctl edit ${name}\`): it stays when this file is written again.

[Unit]
Description=Holdfast agent${name === "holdfast-agent" ? "" : ` (${name.slice("holdfast-agent-".length)})`}
# It dials again and again by itself: no need to wait for a network that is online.
After=network.target nss-lookup.target time-sync.target
Wants=time-sync.target
RequiresMountsFor=${quoted(specifier(dataPath))}
# Never give up: a cluster that is away for a day finds its agents when it is back.
StartLimitIntervalSec=0

[Service]
Type=notify
# Messages come through systemd-notify. As root that speaks in the name of the agent's process, which alone is listened to;
# another user's cannot, so everything the service runs is.
NotifyAccess=${user === "root" ? "main" : "all"}
WatchdogSec=${watchdogSeconds}
ExecStart=${commandLine(serviceWords(definition))}
# HOLDFAST_SLOTS, HOLDFAST_LOG_LEVEL and the like.
EnvironmentFile=-${environmentPath(name)}
# Said for root as well: only then are HOME and SHELL set, which scripts expect.
User=${user}

Restart=always
RestartSec=5
RestartPreventExitStatus=${uselessToRestart.join(" ")}
SuccessExitStatus=130 143
# Scripts outlive the agent's stop, crash and upgrade; the next process adopts them.
KillMode=process
# A drain takes less than a second; the rest is for a slow disk.
TimeoutStopSec=30

# A control group for each script beside the agent's own (systemd 254; before that, limits of version 2 are refused).
Delegate=yes
DelegateSubgroup=${agentSubgroup}
# What the kernel ends for want of memory is a script and its verdict, no failure of the service.
OOMPolicy=continue
# Scripts raise theirs to 500 themselves.
OOMScoreAdjust=-500
# Node raises its soft limit to this and scripts inherit it; some close every number below, so no million.
LimitNOFILE=65536
# Task secrets are in memory.
LimitCORE=0
KeyringMode=private

# Not hardened further, on purpose. Scripts run in this unit and administer the host: ProtectSystem, ProtectHome,
# NoNewPrivileges (sudo), RestrictSUIDSGID, LockPersonality, SystemCallFilter, a capability set and the like would break
# them. PrivateTmp and whatever else makes a mount namespace would also part scripts that outlive the agent from those the
# next process starts. MemoryDenyWriteExecute stops V8, which compiles at run time. What protects the host is --user, and a
# data directory that only this user can open. Where the scripts are known, add what they tolerate in a drop-in.

[Install]
WantedBy=multi-user.target

[X-Holdfast]
DataDirectory=${dataPath}
`;
  return `${body}Sum=${sha256Hex(Buffer.from(body))}\n`;
}

export function readUnit(text: string | undefined): UnitText {
  if (text === undefined) return { kind: "absent" };
  const dataPath = /^\[X-Holdfast\]\nDataDirectory=(.+)$/m.exec(text)?.[1];
  const [, body = "", sum] = /^([\s\S]*\n)Sum=([0-9a-f]{64})\n$/.exec(text) ?? [];
  if (dataPath === undefined || sum !== sha256Hex(Buffer.from(body))) return { kind: "edited", text, dataPath };
  return { kind: "own", text, dataPath };
}

/** In the program's own path nothing but specifiers is replaced, and some characters are refused (systemd.service(5)). */
function commandLine([program = "", ...words]: readonly string[]): string {
  if (/['"\\]/.test(program)) {
    throw new AppError("config.invalid", `systemd runs no program with a quote or backslash in its path: ${program}`, {
      mend: "Install it, or make a link to it, in another folder, and start this command from there.",
    });
  }
  const rest = words.map((word) => quoted(specifier(word).replaceAll("$", "$$$$")));
  return [quoted(specifier(program)), ...rest].join(" ");
}

/** `%h` and the like are replaced by systemd. */
function specifier(text: string): string {
  return text.replaceAll("%", "%%");
}

function quoted(text: string): string {
  return /^[\w/.:@,+=%-]+$/.test(text) ? text : `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}
