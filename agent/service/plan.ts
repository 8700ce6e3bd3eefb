// What has to be done so that a service is installed, or gone, from what was seen: only what differs. Pure; install.ts looks
// and acts. Invariant: nothing a person wrote by hand is replaced or removed unless that was asked for.
import { AppError } from "../../shared/errors.ts";
import { dataFolders, type ServiceDefinition } from "./definition.ts";
import { renderUnit, unitPath, type UnitText } from "./systemd-unit.ts";

export interface Account {
  readonly userId: number;
  readonly groupId: number;
}

export interface Seen {
  readonly unit: UnitText;
  /** Undefined: no such user. */
  readonly account: Account | undefined;
  /** Undefined: no such folder. */
  readonly folder: { readonly userId: number; readonly mode: number } | undefined;
  /** What is above it, where that is the product's own; undefined when it is not, or is not there. */
  readonly above: { readonly userId: number; readonly mode: number } | undefined;
  readonly enrolment: "present" | "absent";
  readonly enabling: "enabled" | "disabled";
  /** `none`: no systemd looks after these files, as in the root of an image. */
  readonly activity: "active" | "inactive" | "none";
}

export type Step =
  | { readonly kind: "make-user"; readonly user: string; readonly home: string }
  | { readonly kind: "make-folder"; readonly path: string; readonly user: string }
  | { readonly kind: "own-folder"; readonly path: string; readonly user: string }
  | { readonly kind: "close-folder"; readonly path: string }
  | { readonly kind: "open-folder"; readonly path: string; readonly mode: number }
  | { readonly kind: "write-unit"; readonly path: string; readonly text: string; readonly replaces: UnitText["kind"] }
  | { readonly kind: "reload" }
  | { readonly kind: "enable" | "start" | "restart" | "disable" | "stop"; readonly name: string }
  | { readonly kind: "remove-unit" | "remove-folder"; readonly path: string };

/** Throws `service.edited`, and `config.invalid` when the data directory is somebody else's. */
export function planInstall(
  definition: ServiceDefinition,
  seen: Seen,
  { edited }: { readonly edited: "keep" | "replace" },
): Step[] {
  const { name, dataPath, user } = definition;
  const path = unitPath(name);
  if (edited === "keep") refuseEdited(path, seen.unit);
  const steps: Step[] = [];
  if (seen.account === undefined) steps.push({ kind: "make-user", user, home: dataPath });
  steps.push(...folderSteps(definition, seen));
  const text = renderUnit(definition);
  const isSame = seen.unit.kind !== "absent" && seen.unit.text === text;
  if (!isSame) steps.push({ kind: "write-unit", path, text, replaces: seen.unit.kind });
  if (!isSame && seen.activity !== "none") steps.push({ kind: "reload" });
  if (seen.enabling === "disabled") steps.push({ kind: "enable", name });
  const movesUser = steps.some((step) => step.kind === "own-folder");
  // What still ran would go on making files that are its former user's.
  if (movesUser && seen.activity === "active") steps.unshift({ kind: "stop", name });
  // Without an identity it would only end again.
  if (seen.activity === "none" || seen.enrolment === "absent") return steps;
  if (seen.activity === "inactive" || movesUser) steps.push({ kind: "start", name });
  else if (!isSame) steps.push({ kind: "restart", name });
  return steps;
}

function folderSteps({ dataPath: path, user }: ServiceDefinition, { folder, account, above }: Seen): Step[] {
  const steps: Step[] = [];
  // Root once registered with closed folders all the way down: neither the service's user nor a script's would get through.
  if (above !== undefined && above.userId === 0 && (above.mode & 0o001) === 0)
    steps.push({ kind: "open-folder", path: dataFolders, mode: above.mode | 0o011 });
  if (folder === undefined) return [...steps, { kind: "make-folder", path, user }];
  const isOpen = (folder.mode & 0o077) !== 0;
  if (folder.userId !== account?.userId) {
    // Only root's own and closed folder holds nothing that anybody else put there: links to give files away by, or a journal
    // and an identity to lead root's agent with.
    if (folder.userId !== 0 || isOpen) {
      const whose = folder.userId === 0 ? "open to others" : `of user id ${folder.userId}`;
      throw new AppError("config.invalid", `${path} is ${whose}, and the service is to run as ${user}`, {
        mend: `Look at what is in there; then \`chown -hR ${user}: ${path}\` and \`chmod 700 ${path}\`, or choose another --data-dir or --user.`,
      });
    }
    steps.push({ kind: "own-folder", path, user });
  }
  if (isOpen) steps.push({ kind: "close-folder", path });
  return steps;
}

/** Throws `service.edited`. */
export function planUninstall(
  name: string,
  seen: Pick<Seen, "unit" | "enabling" | "activity" | "folder">,
  wish: { readonly edited: "keep" | "remove"; readonly purge: string | undefined },
): Step[] {
  const path = unitPath(name);
  if (wish.edited === "keep") refuseEdited(path, seen.unit);
  const steps: Step[] = [];
  if (seen.activity === "active") steps.push({ kind: "stop", name });
  if (seen.enabling === "enabled") steps.push({ kind: "disable", name });
  if (seen.unit.kind !== "absent") {
    steps.push({ kind: "remove-unit", path });
    if (seen.activity !== "none") steps.push({ kind: "reload" });
  }
  if (wish.purge !== undefined && seen.folder !== undefined) steps.push({ kind: "remove-folder", path: wish.purge });
  return steps;
}

function refuseEdited(path: string, unit: UnitText): void {
  if (unit.kind === "edited") throw new AppError("service.edited", `${path} was changed by hand or is not ours`);
}

/** One line for people. */
export function describeStep(step: Step): string {
  switch (step.kind) {
    case "make-user":
      return `make the system user ${step.user}`;
    case "make-folder":
      return `make ${step.path} for ${step.user} alone (0700)`;
    case "own-folder":
      return `give ${step.path} and what is in it to ${step.user}`;
    case "close-folder":
      return `close ${step.path} to others (0700)`;
    case "open-folder":
      return `let other users pass through ${step.path} (0${step.mode.toString(8)})`;
    case "write-unit":
      return `${step.replaces === "absent" ? "write" : "replace"} ${step.path}`;
    case "reload":
      return "have systemd read its units again";
    case "enable":
      return `enable ${step.name}: it starts with the host`;
    case "start":
      return `start ${step.name}`;
    case "restart":
      return `restart ${step.name}: the unit changed; running scripts go on`;
    case "stop":
      return `stop ${step.name}: running scripts go on`;
    case "disable":
      return `disable ${step.name}`;
    case "remove-unit":
      return `remove ${step.path}`;
    case "remove-folder":
      return `remove ${step.path}: identity, journal and attempts`;
  }
}
