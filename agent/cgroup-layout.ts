// Where this process stands in the host's control groups, read from /proc: version 2, version 1, or both side by side
// (hybrid). Pure parsing; what is made there is cgroups.ts's.
export type Controller = "memory" | "pids";

export interface ControllerPlace {
  readonly version: 1 | 2;
  /** The folder of the group this process is in. */
  readonly path: string;
}

export interface CgroupLayout {
  /** This process's group in the version 2 hierarchy, which can kill a whole tree at once. */
  readonly unified: string | undefined;
  /** Controllers of version 1, each with this process's group. Those of version 2 are found in `unified`. */
  readonly legacy: Readonly<Partial<Record<Controller, string>>>;
}

interface Mount {
  readonly root: string;
  readonly point: string;
  readonly type: "cgroup" | "cgroup2";
  readonly options: readonly string[];
}

/** From the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`. */
export function parseCgroupLayout(mountInfo: string, ownGroups: string): CgroupLayout {
  const mounts = mountInfo.split("\n").flatMap(parseMount);
  const groups = ownGroups.split("\n").flatMap(parseGroup);
  const folderOf = (type: Mount["type"], controller: string): string | undefined => {
    const group = groups.find(({ controllers }) =>
      controller === "" ? controllers.length === 0 : controllers.includes(controller),
    );
    const mount = mounts.find((one) => one.type === type && (controller === "" || one.options.includes(controller)));
    return group === undefined || mount === undefined ? undefined : within(mount, group.path);
  };
  const legacy: Partial<Record<Controller, string>> = {};
  for (const controller of ["memory", "pids"] as const) {
    const path = folderOf("cgroup", controller);
    if (path !== undefined) legacy[controller] = path;
  }
  return { unified: folderOf("cgroup2", ""), legacy };
}

/** `36 35 98:0 /root /point rw,… optional - type source options`. */
function parseMount(line: string): Mount[] {
  const [before = "", after = ""] = line.split(" - ");
  const [, , , root, point] = before.split(" ");
  const [type, , options = ""] = after.split(" ");
  if (root === undefined || point === undefined || (type !== "cgroup" && type !== "cgroup2")) return [];
  return [{ root: unescape(root), point: unescape(point), type, options: options.split(",") }];
}

/** `4:memory:/path`; version 2 is `0::/path`. */
function parseGroup(line: string): { readonly controllers: readonly string[]; readonly path: string }[] {
  const match = /^\d+:([^:]*):(\/.*)$/.exec(line);
  if (match === null) return [];
  const [, controllers = "", path = "/"] = match;
  return [{ controllers: controllers === "" ? [] : controllers.split(","), path }];
}

/** The folder of a group under a mount; undefined when the mount shows another part of the hierarchy. */
function within({ root, point }: Mount, path: string): string | undefined {
  // Seen from a container whose namespace begins below it.
  if (path.split("/").includes("..")) return undefined;
  const base = root === "/" ? "" : root;
  if (path !== base && !path.startsWith(`${base}/`)) return undefined;
  const rest = path.slice(base.length);
  return rest === "" || rest === "/" ? point : `${point}${rest}`;
}

/** Blanks and the like are octal there. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_all, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
