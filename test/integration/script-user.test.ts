// Scripts that run as another user of the host, on a real agent that speaks to a fake node. As root only: nobody else can
// become another user. A user and a group are made for it, so that there is a supplementary group to have.
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { listProcesses } from "../../agent/process-table.ts";
import { findSwitch, trySwitch } from "../../agent/user-switch.ts";
import type { AttemptId } from "../../shared/ids.ts";
import type { Secret } from "../../shared/secret.ts";
import type { ResultRecord } from "../../shared/wire/result.ts";
import { AgentBench } from "../fakes/node-cluster.ts";

const canSwitch = process.getuid?.() === 0 && findSwitch() !== undefined && existsSync("/usr/sbin/useradd");
const busybox = "/usr/bin/busybox";
const user = `hf-test-${process.pid}`;
const group = `hf-group-${process.pid}`;

type StdioOption = "pipe" | "inherit" | "ignore" | number;

let bench: AgentBench;
let parent: string;

beforeEach(async () => {
  // What is above the data directory has to be open to others.
  parent = mkdtempSync(join(tmpdir(), "holdfast-user-"));
  chmodSync(parent, 0o711);
  bench = new AgentBench();
  await bench.start(1, { parent });
});

afterEach(async () => {
  await bench.stop();
  await rm(parent, { recursive: true, force: true });
});

const resultOf = (attempt: AttemptId): Promise<ResultRecord> =>
  bench.store.until(`the result of ${attempt}`, () => bench.store.rows.get(attempt)?.result);
const stdoutOf = (attempt: AttemptId): string => bench.store.row(attempt).out.bytes.toString();
const stderrOf = (attempt: AttemptId): string => bench.store.row(attempt).err.bytes.toString();

async function refusalOf(attempt: AttemptId): Promise<unknown> {
  return bench.store.until(`the refusal of ${attempt}`, () => bench.store.rows.get(attempt)?.refusals[0]);
}

/** Runs as the user, and gives what it wrote; fails with all that is known when it did not succeed. */
async function outputOf(script: string, spec: object = {}, more: { readonly secrets?: Secret[] } = {}) {
  const attempt = await bench.node.run(script, { user, ...spec }, more);
  const result = await resultOf(attempt);
  expect({ outcome: result.outcome, err: stderrOf(attempt) }).toMatchObject({ outcome: "succeeded" });
  return { attempt, result, out: stdoutOf(attempt), err: stderrOf(attempt) };
}

const secret = (name: string, value: string, as: Secret["as"] = "variable"): Secret => ({ name, value, as });

test("a user that the host does not have is refused for good, with the reason", async () => {
  await bench.agent();
  const refusal = await refusalOf(await bench.node.run("id", { user: "hf-no-such-user" }));
  expect(refusal).toMatchObject({ class: "never", reason: "invalid", detail: "this host has no user hf-no-such-user" });
});

test("the agent's own user may be named by any agent, and has the surroundings of a named user", async () => {
  const own = execFileSync("id", ["-un"], { encoding: "utf8" }).trim();
  await bench.agent({ environment: { ...process.env, XDG_RUNTIME_DIR: "/run/agent", HOME: "/elsewhere" } });
  const script = 'echo "$USER:$(id -un):$(umask):${XDG_RUNTIME_DIR-none}:$GIVEN"; [ "$HOME" != /elsewhere ]';
  const { out } = await outputOf(script, { user: own, env: { GIVEN: "it's" } });
  expect(out).toBe(`${own}:${own}:0022:none:it's\n`);
});

test("what the agent's starter left open is closed, and nothing of the process's own", () => {
  const module = new URL("../../agent/inherited-descriptors.ts", import.meta.url).href;
  const code = `import { openSync, fstatSync } from "node:fs";
    import { closeInherited } from ${JSON.stringify(module)};
    const own = openSync("/dev/null");
    const closed = closeInherited();
    fstatSync(own);
    console.log(JSON.stringify({ closed, again: closeInherited() }));`;
  // With a gap below, for Node marks the lower ones itself.
  const stdio = Array.from(
    { length: 41 },
    (_, at) => (at < 2 ? "pipe" : at === 2 ? "inherit" : "ignore") as StdioOption,
  );
  stdio[40] = openSync("/dev/null", "r");
  const { stdout } = spawnSync(process.execPath, ["--input-type=module-typescript", "--eval", code], { stdio });
  closeSync(stdio[40]);
  const { closed, again } = JSON.parse(stdout.toString()) as { closed: number[]; again: number[] };
  expect(closed).toContain(40);
  expect(again).toEqual([]);
});

describe.skipIf(!canSwitch)("as another user (needs root, useradd and setpriv of util-linux)", () => {
  let uid: number;
  let gid: number;

  beforeAll(() => {
    execFileSync("groupadd", [group]);
    execFileSync("useradd", [
      "--no-create-home",
      "--home-dir",
      "/srv",
      "--shell",
      "/bin/false",
      "--groups",
      group,
      user,
    ]);
    const idOf = (flag: string): number => Number(execFileSync("id", [flag, user], { encoding: "utf8" }));
    [uid, gid] = [idOf("-u"), idOf("-g")];
  });

  afterAll(() => {
    execFileSync("userdel", [user], { stdio: "ignore" });
    execFileSync("groupdel", [group], { stdio: "ignore" });
  });

  test.skipIf(!existsSync(busybox))(
    "a setpriv that cannot is told from one that can before anything is accepted",
    () => {
      const link = join(parent, "setpriv");
      symlinkSync(busybox, link);
      const account = { name: user, uid, gid, home: "/", shell: "/bin/sh" };
      const trial = { root: parent, program: "/bin/sh", cwd: undefined };
      expect(trySwitch(link, account, trial)).toMatchObject({
        kind: "impossible",
        why: expect.stringContaining("setpriv of util-linux is needed"),
      });
      expect(trySwitch(findSwitch() ?? "", account, trial)).toEqual({ kind: "ok" });
    },
  );

  test.each(["bash", "sh"])(
    "it has that user's ids, groups and umask, and nothing of root's (%s)",
    async (interpreter) => {
      bench.process();
      const script = `
      awk '/^(Uid|Gid|CapInh|CapPrm|CapEff|CapAmb)/ { print $1, $2, $3, $4, $5 }' /proc/self/status
      echo "groups: $(id -Gn)"
      echo "umask: $(umask)"
      cat /proc/$$/comm
      readlink /proc/$$/fd/0
      ls -l /proc/self/fd > descriptors
      awk '/->/ && !/fd$/ { print "fd: " $(NF - 2) }' descriptors`;
      const { out } = await outputOf(script, { interpreter });
      const none = "0000000000000000";
      const ids = (id: number): string => `${id} ${id} ${id} ${id}`;
      expect(out.split("\n")).toEqual([
        `Uid: ${ids(uid)}`,
        `Gid: ${ids(gid)}`,
        ...["CapInh", "CapPrm", "CapEff", "CapAmb"].map((name) => `${name}: ${none}  `.trimEnd() + "   "),
        `groups: ${user} ${group}`,
        "umask: 0022",
        interpreter,
        "/dev/null",
        "fd: 0",
        "fd: 1",
        "fd: 2",
        "",
      ]);
    },
  );

  test("its environment is the user's and the task's, with nothing that the agent has of its own", async () => {
    const agents = {
      XDG_CONFIG_HOME: "/root/.config",
      SSH_AUTH_SOCK: "/x",
      HTTPS_PROXY: "http://u:p@proxy",
      NO_PROXY: "*",
      HOME: "/root",
    };
    await bench.agent({ environment: { PATH: process.env["PATH"], LANG: "C.UTF-8", TZ: "UTC", ...agents } });
    const env = { GIVEN: "two\nlines 'quoted' $HOME", HOLDFAST_ATTEMPT_ID: "another" };
    const { out, attempt } = await outputOf(
      "env -0",
      { env, interpreter: "sh" },
      { secrets: [secret("TOKEN", "correct-horse")] },
    );
    const found = Object.fromEntries(
      out
        .split("\0")
        .flatMap((entry) =>
          entry === "" ? [] : [[entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]],
        ),
    );
    const { PATH, OLDPWD: _old, PWD: _here, ...rest } = found;
    const place = join(`${bench.folder}.users`, attempt);
    expect(rest).toEqual({
      HOME: "/srv",
      USER: user,
      LOGNAME: user,
      SHELL: "/bin/false",
      LANG: "C.UTF-8",
      TZ: "UTC",
      GIVEN: env.GIVEN,
      TOKEN: "*************",
      HOLDFAST_TASK_ID: expect.any(String),
      HOLDFAST_ATTEMPT: "1",
      HOLDFAST_ATTEMPT_ID: attempt,
      HOLDFAST_AGENT: "web-01",
      HOLDFAST_WORK: join(place, "work"),
      HOLDFAST_OUTPUTS: join(place, "outputs"),
      HOLDFAST_PROGRESS: join(place, "progress"),
    });
    expect(PATH).toMatch(new RegExp(`${bench.folder}\\.users/commands-`));
  });

  test("nothing the task sets is in the environment of a program that runs as root", async () => {
    await bench.agent();
    const probe = join(parent, "probe");
    // The dynamic linker complains, on standard error, of each program that it is told to load this into.
    const { err, out } = await outputOf("echo ran; id -u", { env: { LD_PRELOAD: probe } });
    expect(out).toBe(`ran\n${uid}\n`);
    const told = err.split("\n").filter((line) => line.includes(probe)).length;
    // `env` where signals need it, the interpreter and `id`, which are the user's; not setpriv, nor chown.
    expect(told).toBeGreaterThanOrEqual(2);
    expect(told).toBeLessThanOrEqual(3);
  });

  test("its folder and files are its own and closed to others", async () => {
    await bench.agent();
    const files = [{ name: "data", base64: Buffer.from("attached").toString("base64") }];
    const secrets = [secret("KEYFILE", "correct-horse-battery", "file")];
    const script = `
      pwd; cat data; echo
      head -c 7 "$KEYFILE"; echo
      echo more > made; mkdir sub; echo x >> data
      stat -c '%n %U %a' . data made "$HOLDFAST_OUTPUTS" "$KEYFILE" "$0"
      holdfast-progress 40 "by $USER" && cat "$HOLDFAST_PROGRESS"
      holdfast-set MADE "by $USER"
      echo "HAND=1" >> "$HOLDFAST_OUTPUTS"`;
    const { attempt, out, result } = await outputOf(script, { files }, { secrets });
    const place = join(`${bench.folder}.users`, attempt);
    const lines = out.split("\n");
    expect(lines.slice(0, 3)).toEqual([join(place, "work"), "attached", "correct"]);
    expect(lines.slice(3, 7)).toEqual([
      `. ${user} 700`,
      `data ${user} 600`,
      `made ${user} 644`,
      `${place}/outputs ${user} 600`,
    ]);
    expect(lines[7]).toMatch(new RegExp(`KEYFILE ${user} 600$`));
    expect(lines[8]).toBe(`${place}/script ${user} 700`);
    expect(lines[9]).toBe(`40 by ${user}`);
    expect(result.outputs).toEqual([
      { name: "MADE", value: `by ${user}` },
      { name: "HAND", value: "1" },
    ]);
    expect([lstatSync(place).uid, lstatSync(place).mode & 0o777]).toEqual([0, 0o711]);
  });

  test("output goes through pipes that it may open anew", async () => {
    await bench.agent();
    const { out, err } = await outputOf("echo a > /dev/stdout; echo b > /dev/stderr; echo c > /proc/self/fd/2");
    expect([out, err]).toEqual(["a\n", "b\nc\n"]);
  });

  test("the agent's own files and those of another attempt stay closed", async () => {
    await bench.agent();
    const other = await bench.node.run("echo mine > note; sleep 60", { user: "nobody" });
    const own = await bench.node.run("sleep 60");
    const places = [join(`${bench.folder}.users`, other, "work"), join(bench.folder, "attempts", own)];
    await bench.store.until("the other's note", () => existsSync(join(places[0] ?? "", "note")));
    const targets = [
      ...readdirSync(bench.folder).map((name) => bench.path(name)),
      bench.folder,
      `${bench.folder}.users`,
      ...places,
      join(places[0] ?? "", "note"),
      join(`${bench.folder}.users`, other, "script"),
      join(`${bench.folder}.users`, other, "outputs"),
    ];
    expect(targets.some((path) => /key/.test(path))).toBe(true);
    const script = `for path; do if { cat "$path" || ls "$path/"; } > /dev/null 2>&1; then echo "open: $path"; fi; done
      cp /bin/true "$(dirname "$HOLDFAST_WORK")/new" 2> /dev/null && echo "its folder can be written"
      cat /proc/$PPID/environ > /dev/null 2>&1 && echo "the shim's environment is open"
      echo looked`;
    expect((await outputOf(script, { args: targets })).out).toBe("looked\n");
  });

  test("a program or a folder that is closed to the user is refused at acceptance", async () => {
    await bench.agent();
    const tool = join(parent, "tool");
    writeFileSync(tool, "#!/bin/sh\n", { mode: 0o700 });
    const refused = await refusalOf(await bench.node.run("", { user, interpreter: tool }));
    expect(refused).toMatchObject({ class: "never", detail: `${user} may not execute ${tool}` });
    const cwd = await refusalOf(await bench.node.run("", { user, cwd: bench.folder }));
    expect(cwd).toMatchObject({ class: "never", detail: `${user} cannot enter the working directory` });
    chmodSync(parent, 0o700);
    const above = await refusalOf(await bench.node.run("", { user }));
    expect(above).toMatchObject({ class: "never", detail: expect.stringContaining("have to be open to others") });
    chmodSync(parent, 0o711);
  });

  test("what it left running in a session of its own is killed, and what it made is removed", async () => {
    await bench.agent({ roster: { keepAcknowledgedMs: 0 } });
    const script = `mkdir -p a/b; ln -s ${parent}/outside a/b/link; chmod 000 a/b; chmod 500 a
      setsid sleep 86399 > /dev/null 2>&1 < /dev/null & echo $!`;
    writeFileSync(join(parent, "outside"), "stays");
    const { attempt, out } = await outputOf(script);
    expect(listProcesses().some(({ pid }) => pid === Number(out))).toBe(false);
    const places = [join(bench.folder, "attempts", attempt), join(`${bench.folder}.users`, attempt)];
    await bench.store.until("its folders to go", () => !places.some((path) => existsSync(path)));
    expect(readFileSync(join(parent, "outside"), "utf8")).toBe("stays");
  });

  test("its work folder is kept after a failure, closed to everybody but the agent", async () => {
    await bench.agent({ keepFailedMs: 3_600_000, roster: { keepAcknowledgedMs: 0 } });
    const attempt = await bench.node.run("mkdir sub; echo why > sub/reason; exit 1", { user });
    await resultOf(attempt);
    const kept = bench.path("kept", attempt, "work");
    await bench.store.until("it to be kept", () => existsSync(kept));
    expect(readFileSync(join(kept, "sub", "reason"), "utf8")).toBe("why\n");
    for (const folder of [kept, join(kept, "sub")])
      expect([lstatSync(folder).uid, lstatSync(folder).mode & 0o777]).toEqual([0, 0o700]);
    await bench.store.until("the rest to go", () => !existsSync(join(`${bench.folder}.users`, attempt)));
  });

  test("is adopted by the next process of the agent, which returns what it had set", async () => {
    const first = bench.process();
    const script =
      "echo $(id -un); holdfast-set AT start; until [ -e go ]; do sleep 0.05; done; echo done > /dev/stderr";
    const attempt = await bench.node.run(script, { user });
    const work = join(`${bench.folder}.users`, attempt, "work");
    await bench.store.until("its first line", () => stdoutOf(attempt) !== "");
    await bench.kill(first);
    writeFileSync(join(work, "go"), "");
    await bench.agent();
    expect(await resultOf(attempt)).toMatchObject({ outcome: "succeeded", outputs: [{ name: "AT", value: "start" }] });
    expect([stdoutOf(attempt), stderrOf(attempt)]).toEqual([`${user}\n`, "done\n"]);
  });
});
