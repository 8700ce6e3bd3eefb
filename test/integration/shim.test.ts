// The shim alone, under each shell that is here: what a script does to its own process group, to the shim's helpers or to the
// disk costs neither its output nor its exit code, and nothing is left waiting.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { isAlive } from "../../agent/process-table.ts";
import { parseExitReport, parseRelayMarks } from "../../agent/shim-report.ts";
import { eventually } from "../harness/eventually.ts";
import { signalAll } from "../harness/process.ts";

const isRoot = process.getuid?.() === 0;
/** As each is when it is `sh`. */
const shells = [["/bin/dash"], ["/bin/bash", "--posix"], ["/bin/busybox", "ash"]].filter(([program = ""]) =>
  existsSync(program),
);
/** Far beyond what any of these scripts takes: one that is reached is a shim that hangs. */
const hangsMs = 20_000;
const shimPath = resolve(import.meta.dirname, "../../agent/shim.sh");
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-shim-"));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** Runs a script to its end in an attempt's folder of its own; a shim that hangs is killed, and then there is no exit. */
async function run(
  shell: readonly string[],
  name: string,
  script: string,
  onStart?: (shim: number) => Promise<void>,
  env: Readonly<Record<string, string>> = {},
) {
  const path = join(folder, name);
  await mkdir(join(path, "work"), { recursive: true });
  const [program = "", ...words] = shell;
  const args = [
    ...words,
    shimPath,
    path,
    join(path, "work"),
    "",
    "1048576",
    "1048576",
    "65536",
    "/bin/sh",
    "-c",
    script,
  ];
  const child = spawn(program, args, { stdio: "ignore", detached: true, env: { ...process.env, ...env } });
  const watchdog = setTimeout(() => process.kill(-(child.pid ?? 0), "SIGKILL"), hangsMs);
  const ended = once(child, "exit");
  await onStart?.(child.pid ?? 0);
  await ended;
  clearTimeout(watchdog);
  const text = (file: string): Promise<string> => readFile(join(path, file), "utf8").catch(() => "");
  return { path, text, exit: parseExitReport(await text("run/exit"))?.exit };
}

/** Every variable that the shim itself sets, but for the path that it gives back. */
async function ownVariables(): Promise<string[]> {
  const text = (await readFile(shimPath, "utf8")).replaceAll(/^\s*#.*$/gm, "");
  const set = [...text.matchAll(/(?<![\w$"-])([A-Za-z_]\w*)=/g)].map(([, name = ""]) => name);
  const read = [...text.matchAll(/\bread -r ([\w ]+)/g)].flatMap(([, names = ""]) => names.trim().split(" "));
  const looped = [...text.matchAll(/\bfor (\w+) in\b/g)].map(([, name = ""]) => name);
  return [...new Set([...set, ...read, ...looped])].filter((name) => name !== "PATH" && !name.startsWith("hf_"));
}

describe.each(shells.map((words) => ({ words, name: words.join(" ") })))("under $name", ({ words: shell }) => {
  test("a script that signals its whole group at once keeps its output and its end", async () => {
    for (let round = 0; round < 8; round += 1) {
      const { exit, text } = await run(shell, `term-${round}`, "echo hello; kill 0");
      expect(exit).toEqual({ exitCode: null, signal: "SIGTERM" });
      expect(await text("out.0")).toBe("hello\n");
    }
  });

  test("a script that answers its own signal to the group ends with its own code", async () => {
    const { exit } = await run(shell, "own", `trap 'exit 4' TERM; kill 0; sleep 5`);
    expect(exit).toEqual({ exitCode: 4, signal: null });
  });

  test("no signal to the group ends the shim", async () => {
    const kills = ["USR1", "USR2", "ALRM", "HUP", "INT", "QUIT"].map((name) => `trap '' ${name}; kill -${name} 0`);
    const { exit, text } = await run(shell, "all", `${kills.join("; ")}; echo after; exit 3`);
    expect(exit).toEqual({ exitCode: 3, signal: null });
    expect(await text("out.0")).toBe("after\n");
  });

  test("no variable of a script's is changed by one of the shim's", async () => {
    const names = await ownVariables();
    // And those that earlier shims set before they became the script.
    names.push("attempt", "cwd", "reset", "head", "tail", "segment", "start", "up", "use", "version", "group", "owner");
    expect(names.length).toBeGreaterThan(25);
    const given = Object.fromEntries(names.map((name) => [name, name === "LC_ALL" ? "C.UTF-8" : `mine: ${name}`]));
    await mkdir(join(folder, "names"));
    await writeFile(join(folder, "names", "cgroup"), "tree 2 /nowhere\n");
    const { exit, text } = await run(shell, "names", "env -0", undefined, given);
    expect(exit).toEqual({ exitCode: 0, signal: null });
    const seen = Object.fromEntries(
      (await text("out.0"))
        .split("\0")
        .map((entry) => [entry.slice(0, entry.indexOf("=")), entry.replace(/^[^=]*=/, "")]),
    );
    expect(Object.fromEntries(names.map((name) => [name, seen[name]]))).toEqual(given);
  });

  test("it enters the groups it is given, those of version 1 as the thread it is", async () => {
    await mkdir(join(folder, "groups"));
    const places = ["tree 1", "pids 1", "memory 2"].map((what) => ({
      what,
      path: join(folder, what.replace(" ", "-")),
    }));
    for (const { path } of places) await mkdir(path);
    const lines = places.map(({ what, path }) => `${what} ${path}\n`);
    await writeFile(join(folder, "groups", "cgroup"), lines.join(""));
    const { exit } = await run(shell, "groups", ":");
    expect(exit).toEqual({ exitCode: 0, signal: null });
    const written = await Promise.all(
      places.map(async ({ path }) => {
        const names = await readdir(path);
        return Promise.all(names.map(async (name) => `${name} ${await readFile(join(path, name), "utf8")}`));
      }),
    );
    expect(written).toEqual([["tasks 0\n"], ["tasks 0\n"], ["cgroup.procs 0\n"]]);
  });

  test("a script starts with the default for the signals its shim is deaf to", async () => {
    for (const signal of ["TERM", "HUP", "ALRM", "USR1", "USR2"]) {
      const { exit } = await run(shell, signal, `kill -${signal} $$; exit 3`);
      expect(exit).toEqual({ exitCode: null, signal: `SIG${signal}` });
    }
  });

  test("who holds the output open after the script's end is waited for until the alarm comes, and no longer", async () => {
    let before: unknown;
    const { exit, text } = await run(shell, "held", "sleep 30 & echo $! > child; echo hello; exit 3", async (shim) => {
      const read = (file: string): Promise<string> => readFile(join(folder, "held", file), "utf8").catch(() => "");
      await eventually("the script is over", async () => ({
        done: (await read("run/ended")).startsWith("1\n"),
        state: "running",
      }));
      await eventually("its output is stored", async () => ({
        done: (await read("out.0")) === "hello\n",
        state: "none",
      }));
      before = parseExitReport(await read("run/exit"));
      // What comes between the shim's look and its wait is repeated, as the agent repeats it.
      const alarms = setInterval(() => signalAll([shim], "SIGALRM"), 20);
      await eventually("the exit", async () => ({
        done: parseExitReport(await read("run/exit")) !== undefined,
        state: "",
      }));
      clearInterval(alarms);
      process.kill(Number(await read("work/child")), "SIGKILL");
    });
    expect(before).toBeUndefined();
    expect(exit).toEqual({ exitCode: 3, signal: null });
    expect(await text("out.0")).toBe("hello\n");
  });

  test("one pipe that was there already puts no word into the script's output", async () => {
    await mkdir(join(folder, "half"));
    execFileSync("mkfifo", [join(folder, "half", "pipe.out")]);
    const { exit, text } = await run(shell, "half", "echo out; echo err >&2");
    expect(exit).toEqual({ exitCode: 0, signal: null });
    expect([await text("out.0"), await text("err.0")]).toEqual(["out\n", "err\n"]);
  });

  test("output goes on behind a killed dd, and what may be missing is marked", async () => {
    const { exit, path, text } = await run(
      shell,
      "dd",
      // The relays are the shim's other children; each waits for its dd.
      `until read -r v out s err rest < ../run/relays && [ "$v" = 1 ]; do sleep 0.01; done
      until dd=$(cat /proc/$out/task/$out/children) && [ "$dd" ]; do sleep 0.01; done
      kill -9 $dd; until [ -e ../out.lost ]; do sleep 0.01; done; echo after; exit 3`,
    );
    expect(exit).toEqual({ exitCode: 3, signal: null });
    expect(await text("out.0")).toBe("after\n");
    expect(existsSync(join(path, "out.lost"))).toBe(true);
    expect(parseRelayMarks(await text("run/relays"))).toHaveLength(2);
  });

  describe.runIf(isRoot)("on a disk that is full", () => {
    beforeEach(() => execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m,nr_inodes=60", "none", folder]));
    afterEach(() => execFileSync("umount", ["--lazy", folder]));
    const useUpFiles = `i=0; while true 2>/dev/null > ../../more.$i; do i=$((i + 1)); done`;

    test("a script that leaves no file to be made keeps its output and its exit code", async () => {
      const { exit, text } = await run(shell, "files", `${useUpFiles}; echo hello; exit 3`);
      expect(exit).toEqual({ exitCode: 3, signal: null });
      expect(await text("out.0")).toBe("hello\n");
    });

    test("neither a file nor a byte left costs the output, marks it, and never stops the writer", async () => {
      const { exit, path } = await run(
        shell,
        "bytes",
        `${useUpFiles}; cat /dev/zero 2>/dev/null > ../../more.0; head -c 300000 /dev/zero; exit 3`,
      );
      expect(exit).toEqual({ exitCode: 3, signal: null });
      expect(existsSync(join(path, "out.lost"))).toBe(true);
      const relays = parseRelayMarks(await readFile(join(path, "run", "relays"), "utf8"));
      expect(relays).toHaveLength(2);
      await eventually("the relays end, though the disk is still full", () => {
        const alive = relays.filter(isAlive);
        return { done: alive.length === 0, state: alive };
      });
    });
  });
});
