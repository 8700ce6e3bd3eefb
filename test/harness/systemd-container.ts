// A system with a running systemd as its first process, for what only a real one shows: /usr is the machine's own, all else is
// its own; it can be powered off and booted again from the same folder. Linux, root. The network is the machine's, so that a
// node on loopback is reached, but no right to change it, the clock, modules or devices goes in.
// Invariant: everything in it is in one control group and one process namespace, and ends with `unshare`; mounts with them.
// `unshare` ends with the test's own process, also with one that is killed; the empty control group is left then.
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmdirSync, writeFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { patience } from "../../demo/patience.ts";
import { eventually } from "./eventually.ts";
import { signalAll, treeOf } from "./process.ts";

const manager = "/usr/lib/systemd/systemd";
const unitFolder = "/usr/lib/systemd/system";
/** What is not masked of what Debian starts: the journal, for that is where a service's log goes. */
const wanted = ["systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket"];
const withheld = ["sys_module", "sys_time", "sys_boot", "sys_rawio", "syslog", "net_admin", "net_raw", "mknod"];
const bounding = withheld.map((one) => `-${one}`).join(",");
/** A command in there that does not end. */
const runsAtMostMs = 120_000;
/** systemd kills after 90 s what does not stop by itself. */
const powersOffWithinMs = 120_000;

/** $0 is the root, $1 its control group, as the machine sees it. */
const enter = `set -e
echo 0 >"$1/cgroup.procs"
exec unshare --uts --ipc --cgroup sh -ec '
mount --make-rprivate /
cd "$0"
mount --bind . .
cd "$0"
mount --bind /usr usr; mount -o remount,bind,ro usr
mount --bind local usr/local
mount -t proc proc proc
for one in proc/sys proc/sysrq-trigger; do [ -e "$one" ] || continue; mount --bind "$one" "$one"; mount -o remount,bind,ro "$one"; done
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for one in null zero full random urandom; do : >"dev/$one"; mount --bind "/dev/$one" "dev/$one"; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
pivot_root . machine
umount -l /machine
exec env -i container=holdfast PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin \\
  setpriv --bounding-set ${bounding} ${manager} --system --log-target=journal-or-kmsg --show-status=no' "$0"`;

export interface Outcome {
  readonly exitCode: number | null;
  readonly out: string;
  readonly err: string;
}

/** From the moment that `unshare` is spawned. */
interface Life {
  readonly unshare: ChildProcess;
  /** Pid of its systemd, as the machine sees it; undefined before it is there. */
  first: number | undefined;
  /** What it printed, and why it could not start. */
  output: string;
  hasClosed: boolean;
}

export class SystemdContainer implements AsyncDisposable {
  /** Its root, as the machine sees it. What is mounted in there (/run, /tmp) is not to be seen from here. */
  readonly path: string;
  readonly #group: string;
  #life: Life | undefined;

  private constructor(path: string, group: string) {
    this.path = path;
    this.#group = group;
  }

  static async create(): Promise<SystemdContainer> {
    const path = await mkdtemp(join(tmpdir(), "holdfast-systemd-"));
    const container = new SystemdContainer(path, nameGroup(unifiedMount() ?? ""));
    // It is the root folder of users in there.
    await chmod(path, 0o755);
    const folders = ["usr", "local", "proc", "sys", "dev", "run", "tmp", "root", "machine", "etc/systemd/system"];
    for (const folder of [...folders, "var/lib", "var/tmp", "var/log/journal"])
      await mkdir(join(path, folder), { recursive: true });
    for (const folder of ["bin", "sbin", "lib", "lib64"]) await symlink(`usr/${folder}`, join(path, folder));
    const files = {
      passwd: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n",
      group: "root:x:0:\nnogroup:x:65534:\n",
      shadow: "root:*:1::::::\n",
      hosts: "127.0.0.1 localhost\n",
      hostname: "target\n",
      "machine-id": `${randomBytes(16).toString("hex")}\n`,
      "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
      "ld.so.cache": readFileSync("/etc/ld.so.cache"),
    };
    for (const [name, text] of Object.entries(files)) await writeFile(join(path, "etc", name), text);
    for (const unit of unitsOfDebian())
      await symlink("/dev/null", join(path, "etc", "systemd", "system", unit)).catch(() => undefined);
    return container;
  }

  /** Why there can be none here; undefined when there can. */
  static whyNot(): string | undefined {
    if (process.platform !== "linux" || process.getuid?.() !== 0) return "needs Linux and root";
    if (!existsSync(manager)) return `no ${manager} (package systemd)`;
    const mount = unifiedMount();
    if (mount === undefined) return "no control groups of version 2 are mounted";
    const group = nameGroup(mount);
    try {
      mkdirSync(group);
      rmdirSync(group);
    } catch (cause) {
      return `no control group can be made: ${String(cause)}`;
    }
    const probe = ["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "setpriv"];
    const { status, stderr, error } = spawnSync("unshare", [...probe, "--bounding-set", bounding, "true"]);
    return status === 0 ? undefined : (error?.message ?? stderr.toString());
  }

  /** Resolves when systemd has started what it is to start. */
  async boot(): Promise<void> {
    await mkdir(this.#group, { recursive: true });
    // `--kill-child` takes the first process along with unshare, `--pdeathsig` unshare with this process.
    const isolation = ["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"];
    const unshare = spawn("setpriv", [...isolation, "sh", "-c", enter, this.path, this.#group], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const life: Life = { unshare, first: undefined, output: "", hasClosed: false };
    this.#life = life;
    unshare.on("error", (cause) => (life.output += cause.message));
    unshare.on("close", () => (life.hasClosed = true));
    for (const stream of [unshare.stdout, unshare.stderr])
      stream.on("data", (bytes: Buffer) => (life.output += bytes.toString()));
    await eventually("the first process is there", () => {
      life.first = treeOf(unshare.pid ?? 0)[1];
      return { done: hasEnded(life) || life.first !== undefined, state: life.output };
    });
    await eventually("systemd is up", async () => {
      if (hasEnded(life)) return { done: true, state: life.output };
      // Before systemd is there, the namespaces are the machine's in part: nothing is run in them.
      if (!readFileSync(`/proc/${life.first}/cmdline`, "utf8").startsWith(manager))
        return { done: false, state: life.output };
      const { out, err } = await this.run(["systemctl", "is-system-running"]);
      return { done: /^(running|degraded)$/m.test(out), state: `${out}${err}${life.output}` };
    });
    if (hasEnded(life)) throw new Error(`systemd did not come up: ${life.output}`);
  }

  /** In there, as root. Rejects when it does not come to its end. */
  run(command: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<Outcome> {
    const { first } = this.#alive();
    const within = ["--target", String(first), "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd"];
    const settings = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
    const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";
    const words = [...within, "env", "-i", path, "HOME=/root", ...settings, ...command];
    const join = `echo 0 >"$0/init.scope/cgroup.procs" && exec nsenter "$@"`;
    const child = spawn("sh", ["-c", join, this.#group, ...words], { stdio: ["ignore", "pipe", "pipe"] });
    let [out, err] = ["", ""];
    child.stdout.on("data", (bytes: Buffer) => (out += bytes.toString()));
    child.stderr.on("data", (bytes: Buffer) => (err += bytes.toString()));
    return new Promise((resolve, reject) => {
      const limit = setTimeout(() => {
        // nsenter forks: what would hold the lines open is below it.
        if (child.pid !== undefined) signalAll(treeOf(child.pid), "SIGKILL");
        reject(new Error(`${command.join(" ")}: not ended after ${runsAtMostMs * patience} ms: ${out}${err}`));
      }, runsAtMostMs * patience);
      child.on("error", (cause) => {
        clearTimeout(limit);
        reject(cause);
      });
      child.on("close", (exitCode) => {
        clearTimeout(limit);
        resolve({ exitCode, out, err });
      });
    });
  }

  /** A line for its shell, which has to succeed; resolves with what it prints. */
  async sh(line: string): Promise<string> {
    const { exitCode, out, err } = await this.run(["/bin/sh", "-c", line]);
    if (exitCode !== 0) throw new Error(`${line}: ended with ${exitCode}: ${out}${err}`);
    return out.trim();
  }

  /** Properties of a unit, as `systemctl show` tells them. */
  async show(unit: string, ...properties: readonly string[]): Promise<Record<string, string>> {
    const text = await this.sh(`systemctl show --property=${properties.join(",")} ${unit}`);
    return Object.fromEntries(text.split("\n").map((line) => /^([^=]*)=(.*)$/s.exec(line)?.slice(1, 3) ?? [line, ""]));
  }

  /** Resolves with how long it took, in milliseconds, when no process of it is left. */
  async powerOff(): Promise<number> {
    const life = this.#alive();
    const startMs = performance.now();
    await this.run(["systemctl", "poweroff"]);
    await eventually("it is off", () => ({ done: life.hasClosed, state: life.output }), {
      limitMs: powersOffWithinMs,
    });
    this.#life = undefined;
    return performance.now() - startMs;
  }

  /** Processes in a control group of it, such as `system.slice/some.service`, with those below. */
  pids(group: string): number[] {
    return pidsIn(join(this.#group, group));
  }

  hasGroup(group: string): boolean {
    return existsSync(join(this.#group, group));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const life = this.#life;
    this.#life = undefined;
    try {
      life?.unshare.kill("SIGKILL");
      await eventually("nothing lives in it", () => {
        const populated = this.#killAll();
        const isClosed = life?.hasClosed ?? true;
        return { done: isClosed && !populated, state: { isClosed, populated } };
      });
    } finally {
      try {
        if (existsSync(this.#group)) removeGroup(this.#group);
      } finally {
        await rm(this.path, { recursive: true, force: true });
      }
    }
  }

  /** Whether any is left, by the kernel's own count: the list of processes is empty a moment before the group may go. */
  #killAll(): boolean {
    if (!existsSync(this.#group)) return false;
    const populated = readFileSync(join(this.#group, "cgroup.events"), "utf8").includes("populated 1");
    if (!populated) return false;
    const kill = join(this.#group, "cgroup.kill");
    // Linux 5.14.
    if (existsSync(kill)) writeFileSync(kill, "1");
    else signalAll(this.pids(""), "SIGKILL");
    return true;
  }

  #alive(): Life {
    if (this.#life === undefined) throw new Error("it is not booted");
    if (hasEnded(this.#life)) throw new Error(`it has ended: ${this.#life.output}`);
    return this.#life;
  }
}

function hasEnded({ unshare, hasClosed }: Life): boolean {
  return hasClosed || unshare.exitCode !== null || unshare.signalCode !== null;
}

function nameGroup(mount: string): string {
  return join(mount, `holdfast-test-${randomBytes(4).toString("hex")}`);
}

function unifiedMount(): string | undefined {
  const line = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .find((one) => one.includes(" - cgroup2 "));
  return line?.split(" ")[4];
}

function unitsOfDebian(): string[] {
  const folders = readdirSync(unitFolder).filter((name) => name.endsWith(".target.wants"));
  const units = folders.flatMap((folder) => readdirSync(join(unitFolder, folder)));
  // Reached over the bus, or brought in by a line of another unit.
  return [...new Set([...units, "dbus.service", "systemd-logind.service"])].filter((unit) => !wanted.includes(unit));
}

function pidsIn(path: string): number[] {
  const own = readFileSync(join(path, "cgroup.procs"), "utf8").split("\n").filter(Boolean).map(Number);
  return [...own, ...groupsIn(path).flatMap(pidsIn)];
}

function removeGroup(path: string): void {
  for (const inner of groupsIn(path)) removeGroup(inner);
  rmdirSync(path);
}

function groupsIn(path: string): string[] {
  const entries = readdirSync(path, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(path, name));
}
