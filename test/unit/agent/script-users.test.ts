// Who is found under a name, and whether the agent may become it: every answer of the host that the core can get.
import { describe, expect, it } from "vitest";
import { ScriptUsers, silentStart } from "../../../agent/script-users.ts";
import { findAccount, parsePasswd, type UserDatabase } from "../../../agent/user-account.ts";
import { UserPlaces } from "../../../agent/user-places.ts";
import { questionTimes } from "../../../agent/user-questions.ts";
import type { TrialOutcome, UserHost } from "../../../agent/user-switch.ts";
import { AppError } from "../../../shared/errors.ts";
import { attemptIdSchema } from "../../../shared/ids.ts";
import { FakeClock } from "../../fakes/clock.ts";

const passwd = `root:x:0:0:root:/root:/bin/bash
# a comment
+::::::
web:x:1000:1001:Web,,,:/home/web:/bin/zsh
bare:x:1002:1002:::
again:x:1000:1000::/home/again:/bin/sh
`;
const elsewhere: Record<string, string> = {
  ldap: "ldap:*:5000:5000:L:/home/ldap:/bin/bash\n",
  "5000": "ldap:*:5000:5000:L:/home/ldap:/bin/bash\n",
  twin: "twin:*:1000:1000::/:/bin/sh\n",
  other: "not-other:*:7:7::/:/bin/sh\n",
};
const database: UserDatabase = { file: () => passwd, entry: (key) => elsewhere[key] ?? "" };
const web = { name: "web", uid: 1000, gid: 1001, home: "/home/web", shell: "/bin/zsh" };

describe("an account", () => {
  it("is read with what stands for an empty home and shell, and only from whole lines", () => {
    expect(parsePasswd(passwd).map(({ name }) => name)).toEqual(["root", "web", "bare", "again"]);
    expect(parsePasswd(passwd)[2]).toEqual({ name: "bare", uid: 1002, gid: 1002, home: "/", shell: "/bin/sh" });
  });

  it.each([
    ["in the file", "web", { kind: "found", account: web }],
    ["by asking", "ldap", { kind: "found", account: { name: "ldap", uid: 5000 } }],
    ["not, where there is none", "ghost", { kind: "unknown", why: "this host has no user ghost" }],
    [
      "not, where its id is another's in the file",
      "again",
      { kind: "unknown", why: "user id 1000 of again means web" },
    ],
    [
      "not, where its id from elsewhere is another's",
      "twin",
      { kind: "unknown", why: "user id 1000 of twin means web" },
    ],
    ["not under the name of another", "other", { kind: "unknown" }],
  ])("is found %s", (_how, name, expected) => {
    expect(findAccount(name, database)).toMatchObject(expected);
  });

  it("is not said to be missing when no answer came", () => {
    const silent: UserDatabase = {
      file: () => passwd,
      entry: () => {
        throw new Error("timed out");
      },
    };
    expect(findAccount("ldap", silent)).toEqual({
      kind: "silent",
      why: "the users of this host cannot be looked up: timed out",
    });
    expect(findAccount("web", silent).kind).toBe("found");
  });
});

const users = (
  host: Partial<UserHost>,
  { open = () => undefined, clock = new FakeClock() }: { open?: () => void; clock?: FakeClock } = {},
): ScriptUsers =>
  new ScriptUsers({
    host: { uid: 0, database, findSwitch: () => "/usr/bin/setpriv", trySwitch: () => ({ kind: "ok" }), ...host },
    clock,
    places: {
      path: "/agent.users",
      open,
      place: (attempt) => `/agent.users/${attempt}`,
    },
  });
const request = { user: "web", program: "/bin/sh", cwd: undefined };

describe("an agent", () => {
  it("of another user refuses for good what only root can do, and runs its own", async () => {
    expect(users({ uid: 5000 }).judge(request)).toMatchObject({
      kind: "never",
      refusal: { reason: "unsupported", detail: "only an agent that runs as root can run a script as web" },
    });
    expect(users({ uid: 1000 }).judge(request)).toEqual({ kind: "ok" });
    expect(await users({ uid: 1000 }).runAs("web")).toMatchObject({ owner: undefined, words: [] });
    await expect(users({ uid: 5000 }).runAs("web")).rejects.toThrow("cannot become web");
  });

  it("of root needs setpriv, and keeps the ids that were found", async () => {
    const without = users({ findSwitch: () => undefined });
    expect(without.judge(request)).toMatchObject({ kind: "never", refusal: { reason: "unsupported" } });
    await expect(without.runAs("web")).rejects.toThrow("cannot become web");
    const { words, owner } = await users({}).runAs("web");
    expect(words).toEqual([
      "/usr/bin/setpriv",
      "--reuid",
      "1000",
      "--regid",
      "1001",
      "--init-groups",
      "--inh-caps=-all",
      "--",
    ]);
    expect(owner).toMatchObject({ uid: 1000, gid: 1001 });
  });

  it("asks again later when the host's users do not answer, and refuses who is unknown", async () => {
    const silent = {
      file: () => passwd,
      entry: (): string => {
        throw new Error("away");
      },
    };
    expect(users({ database: silent }).judge({ ...request, user: "ldap" })).toMatchObject({
      kind: "later",
      reason: "busy",
    });
    expect(users({}).judge({ ...request, user: "ghost" })).toMatchObject({ refusal: { reason: "invalid" } });
    await expect(users({}).runAs("ghost")).rejects.toThrow("no user ghost");
  });

  it.each<[TrialOutcome, object]>([
    [{ kind: "ok" }, { kind: "ok" }],
    [
      { kind: "closed", why: "shut" },
      { kind: "never", refusal: { reason: "invalid", detail: "shut" } },
    ],
    [
      { kind: "impossible", why: "busybox" },
      { kind: "never", refusal: { reason: "unsupported", detail: "busybox" } },
    ],
    [
      { kind: "silent", why: "slow" },
      { kind: "later", reason: "busy", detail: "slow" },
    ],
  ])("takes the trial's %o for what it is", (outcome, admission) => {
    expect(users({ trySwitch: () => outcome }).judge(request)).toEqual(admission);
  });

  it("refuses for good a folder that is somebody else's, and waits for one that cannot be made now", () => {
    const failing = (cause: Error) => (): void => {
      throw cause;
    };
    const foreign = users({}, { open: failing(new AppError("internal", "not its own")) });
    expect(foreign.judge(request)).toEqual({
      kind: "never",
      refusal: { reason: "unsupported", detail: expect.stringContaining("not its own") },
    });
    expect(users({}, { open: failing(new Error("no space")) }).judge(request)).toMatchObject({
      kind: "later",
      reason: "busy",
    });
  });

  it("lays out scripts of named users beside its data only as root, whoever it is", () => {
    const attempt = attemptIdSchema.parse("00000000-0000-7000-8000-000000000001");
    expect(users({}).placeOf(attempt, "ghost")).toBe(`/agent.users/${attempt}`);
    expect(users({}).placeOf(attempt, undefined)).toBeUndefined();
    expect(users({ uid: 1000 }).placeOf(attempt, "web")).toBeUndefined();
  });
});

describe("what was asked about users", () => {
  /** A host of many directory users whose directory and trials answer as told, and which counts who asked. */
  function counting() {
    const host = {
      asked: [] as string[],
      directory: "answers" as "answers" | "silent",
      /** Users whose trial is silent. */
      stuck: new Set<string>(),
    };
    const clock = new FakeClock();
    const entry = (key: string): string => {
      host.asked.push(key);
      if (host.directory === "silent") throw new Error("timed out");
      const number = /^(?:ldap-)?(\d+)$/.exec(key)?.[1];
      return number === undefined ? "" : `ldap-${number}:*:${number}:${number}::/:/bin/sh\n`;
    };
    const trySwitch: UserHost["trySwitch"] = (_setpriv, { name }, { cwd }) => {
      host.asked.push(cwd === undefined ? `try ${name}` : `try ${name} in ${cwd}`);
      return host.stuck.has(name) ? { kind: "silent", why: "stuck" } : { kind: "ok" };
    };
    const asking = users({ database: { file: () => passwd, entry }, trySwitch }, { clock });
    const judge = (user: string, cwd?: string) => asking.judge({ ...request, user, cwd }).kind;
    const taken = (): string[] => host.asked.splice(0);
    return { host, clock, asking, judge, taken };
  }
  const many = ["ldap-5001", "ldap-5002", "ldap-5003"];

  it("costs a message one silent question, whoever it names, and those that passwd holds wait seconds only", () => {
    const { host, clock, judge, taken } = counting();
    host.directory = "silent";
    expect([...many, "web", ...many].map((user) => judge(user))).toEqual(Array(7).fill("later"));
    expect(taken()).toEqual(["ldap-5001"]);
    clock.advance(questionTimes.pauseMs);
    expect([judge("ldap-5002"), judge("web"), judge("ldap-5001")]).toEqual(["later", "ok", "later"]);
    expect(taken()).toEqual(["try web"]);
    host.directory = "answers";
    clock.advance(questionTimes.silentMs - questionTimes.pauseMs);
    expect(many.map((user) => judge(user))).toEqual(["ok", "ok", "ok"]);
  });

  it("has one trial for scripts alike of one burst, one for each folder, and a new one later", () => {
    const { clock, judge, taken } = counting();
    expect([judge("ldap-5001"), judge("ldap-5001"), judge("ldap-5001", "/srv")]).toEqual(["ok", "ok", "ok"]);
    expect(taken()).toEqual(["ldap-5001", "5001", "try ldap-5001", "try ldap-5001 in /srv"]);
    clock.advance(questionTimes.freshMs);
    expect(judge("ldap-5001")).toBe("ok");
    expect(taken()).toEqual(["ldap-5001", "5001", "try ldap-5001"]);
  });

  it("lets others have their turn before a trial that was silent", () => {
    const { host, clock, judge, taken } = counting();
    host.stuck.add("web");
    expect([judge("web"), judge("bare"), judge("ldap-5001")]).toEqual(["later", "later", "later"]);
    expect(taken()).toEqual(["try web"]);
    clock.advance(questionTimes.pauseMs);
    expect([judge("web"), judge("bare"), judge("ldap-5001")]).toEqual(["later", "ok", "ok"]);
    expect(taken()).toEqual(["try bare", "ldap-5001", "5001", "try ldap-5001"]);
    host.stuck.clear();
    clock.advance(questionTimes.silentMs - questionTimes.pauseMs);
    expect(judge("web")).toBe("ok");
  });

  it("at the acceptance serves the start, though the directory is silent by then", async () => {
    const { host, asking, judge, taken } = counting();
    expect(judge("ldap-5001")).toBe("ok");
    host.directory = "silent";
    taken();
    expect(await asking.runAs("ldap-5001")).toMatchObject({ account: { uid: 5001 } });
    expect(taken()).toEqual([]);
  });

  it("is asked again at a start of a later process, for all that wait once in half a minute, until it answers", async () => {
    const { host, clock, asking, taken } = counting();
    host.directory = "silent";
    const starts = many.map((user) => asking.runAs(user));
    for (let waited = 0; waited < 2 * questionTimes.silentMs; waited += silentStart.lookMs) {
      clock.advance(silentStart.lookMs);
      await Promise.resolve();
    }
    expect(taken()).toHaveLength(3);
    host.directory = "answers";
    for (let waited = 0; waited < questionTimes.silentMs; waited += silentStart.lookMs) {
      clock.advance(silentStart.lookMs);
      await Promise.resolve();
    }
    expect((await Promise.all(starts)).map(({ account }) => account.uid)).toEqual([5001, 5002, 5003]);
    expect(clock.timers).toBe(0);
  });

  it("fails a start after minutes of silence, and says so", async () => {
    const { host, clock, asking } = counting();
    host.directory = "silent";
    const start = asking.runAs("ldap-5001").catch((cause: unknown) => cause);
    for (let waited = 0; waited <= silentStart.mostMs; waited += silentStart.lookMs) {
      clock.advance(silentStart.lookMs);
      await Promise.resolve();
    }
    expect(await start).toMatchObject({ message: expect.stringContaining("waited for an answer for 5 minutes") });
  });

  it("is not waited for by an agent that stops", async () => {
    const { host, clock, asking } = counting();
    host.directory = "silent";
    const start = asking.runAs("ldap-5001").catch((cause: unknown) => cause);
    asking.close();
    expect(await start).toMatchObject({ code: "aborted" });
    expect(clock.timers).toBe(0);
  });
});

describe("the folder of scripts of other users", () => {
  it.each(["/var/lib/agent", "/var/lib/agent/", "/var/lib/./agent//"])("of %s is beside it", (dataPath) => {
    expect(new UserPlaces({ dataPath }).path).toBe("/var/lib/agent.users");
  });

  it("is an absolute path, for a trial starts elsewhere", () => {
    expect(new UserPlaces({ dataPath: "agent" }).path).toBe(`${process.cwd()}/agent.users`);
  });
});
