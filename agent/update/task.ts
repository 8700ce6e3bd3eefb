// An update that the cluster asks for becomes a script of this agent's own making: `agent update` of the executable that runs.
// So it survives the agent's restarts as every script does, its log and its exit code come through whichever version ends up
// running, and the journal holds nothing that another version could not read. Invariant: the caller chooses a sum and where to
// download, never a word of what is run; what cannot be updated this way is left as it is, and admission refuses it for good.
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { scriptSpecSchema, type ScriptSpec, type UpdateSpec } from "../../shared/task.ts";
import type { Offer } from "../../shared/wire/offer.ts";
import { executableFolderOf } from "../executable-folder.ts";

export interface UpdateTaskOptions {
  readonly dataPath: string;
  /** Path of the executable that runs. */
  readonly executable: string;
  /** A shell command; undefined where nobody said one. */
  readonly restartCommand: string | undefined;
}

export interface UpdatePlace {
  readonly userId: number | undefined;
  readonly parentPid: number;
  /** Text of /proc/self/cgroup. */
  readonly ownGroups: string;
  readonly canWrite: (path: string) => boolean;
  readonly isThere: (path: string) => boolean;
}

/** How this agent updates itself, or why it does not. */
export type UpdateWay =
  | { readonly kind: "restart"; readonly program: string; readonly line: string }
  | { readonly kind: "none"; readonly why: string };

/** Time for a download over a slow line. Milliseconds. */
const fetchMs = 3_600_000;
/** What an update needs besides two trials. */
const slackMs = 60_000;

export function findUpdateWay({ executable, restartCommand }: UpdateTaskOptions, place: UpdatePlace): UpdateWay {
  const folder = executableFolderOf(executable)?.path;
  if (folder === undefined || !place.isThere(join(folder, "current"))) {
    const why = `it runs from ${executable}, which install.sh did not put in place: update it the way it was installed (npm, image, copy), or install it with the node's install.sh`;
    return { kind: "none", why };
  }
  if (![folder, join(folder, "versions")].every(place.canWrite)) {
    const why = `its user may not write in ${folder}: run \`holdfast agent update\` there as root`;
    return { kind: "none", why };
  }
  const line = restartCommand ?? systemdRestart(place);
  if (line !== undefined) return { kind: "restart", program: executable, line };
  const why =
    "it does not know how it is restarted: it is no systemd service of root's; set HOLDFAST_RESTART_COMMAND for `holdfast agent run`";
  return { kind: "none", why };
}

/**
 * Only what systemd itself has started as a service's main process: what runs in a service's control group otherwise, such as
 * in somebody's session, would restart another's service.
 */
function systemdRestart({ userId, parentPid, ownGroups }: UpdatePlace): string | undefined {
  if (userId !== 0 || parentPid !== 1) return undefined;
  const unit = /\/system\.slice\/(?:[^/\n]+\.slice\/)*([A-Za-z0-9:_.@-]+\.service)(?:\/|$)/m.exec(ownGroups)?.[1];
  // One that waits would wait for the first greeting, which is what is watched.
  return unit === undefined ? undefined : `systemctl restart --no-block ${unit}`;
}

export function hereAndNow(): UpdatePlace {
  return {
    userId: process.getuid?.(),
    parentPid: process.ppid,
    ownGroups: textOf("/proc/self/cgroup"),
    canWrite: (path) => {
      try {
        accessSync(path, constants.W_OK);
        return true;
      } catch {
        return false;
      }
    },
    isThere: existsSync,
  };
}

/** In words that follow "this agent does not update itself". */
export function whyNoUpdate(options: UpdateTaskOptions, place: UpdatePlace = hereAndNow()): string {
  const way = findUpdateWay(options, place);
  // It could when the offer came, or it cannot say.
  return way.kind === "none" ? way.why : "it was asked in a moment when it could not; ask again";
}

/** The offer with every update that this agent can do as the script that does it. */
export function withUpdates(offer: Offer, options: UpdateTaskOptions, place: () => UpdatePlace = hereAndNow): Offer {
  if (!offer.items.some(({ spec }) => spec.kind === "update")) return offer;
  const way = findUpdateWay(options, place());
  if (way.kind === "none") return offer;
  const items = offer.items.map((item) =>
    item.spec.kind === "update" ? { ...item, spec: updateScript(item.spec, way, options.dataPath) } : item,
  );
  return { ...offer, items };
}

function updateScript(
  { sha256, servers, greetMs, graceMs }: UpdateSpec,
  { program, line }: Extract<UpdateWay, { kind: "restart" }>,
  dataPath: string,
): ScriptSpec {
  const words = [program, "agent", "update", "--sha256", sha256, "--data-dir", dataPath, "--restart-command", line];
  const servings = servers.flatMap((server) => ["--server", server]);
  return scriptSpecSchema.parse({
    kind: "script",
    interpreter: "/bin/sh",
    script: 'exec "$@"\n',
    args: [...words, ...servings, "--greet-within", `${greetMs}ms`],
    cwd: "/",
    timeoutMs: fetchMs + 2 * greetMs + slackMs,
    graceMs,
    // A lock of its own: it waits for no script, not even for one that runs alone.
    isolation: { name: "holdfast-update", mode: "full" },
  });
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
