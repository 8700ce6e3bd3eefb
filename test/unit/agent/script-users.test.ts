// Who is found under a name, and whether the agent may become it: every answer of the host that the core can get.
import { describe, expect, it } from "vitest";
import { ScriptUsers, type UserHost } from "../../../agent/script-users.ts";
import { findAccount, parsePasswd, type UserDatabase } from "../../../agent/user-account.ts";
import type { TrialOutcome } from "../../../agent/user-switch.ts";
import { AppError } from "../../../shared/errors.ts";
import { attemptIdSchema } from "../../../shared/ids.ts";

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

describe("an agent", () => {
  const users = (host: Partial<UserHost>, open: () => void = () => undefined): ScriptUsers =>
    new ScriptUsers({
      host: { uid: 0, database, findSwitch: () => "/usr/bin/setpriv", trySwitch: () => ({ kind: "ok" }), ...host },
      places: {
        path: "/agent.users",
        open,
        place: (attempt) => `/agent.users/${attempt}`,
      },
    });
  const request = { user: "web", program: "/bin/sh", cwd: undefined };

  it("of another user refuses for good what only root can do, and runs its own", () => {
    expect(users({ uid: 5000 }).judge(request)).toMatchObject({
      kind: "never",
      refusal: { reason: "unsupported", detail: "only an agent that runs as root can run a script as web" },
    });
    expect(users({ uid: 1000 }).judge(request)).toEqual({ kind: "ok" });
    expect(users({ uid: 1000 }).runAs("web")).toMatchObject({ owner: undefined, words: [] });
    expect(() => users({ uid: 5000 }).runAs("web")).toThrow("cannot become web");
  });

  it("of root needs setpriv, and keeps the ids that were found", () => {
    const without = users({ findSwitch: () => undefined });
    expect(without.judge(request)).toMatchObject({ kind: "never", refusal: { reason: "unsupported" } });
    expect(() => without.runAs("web")).toThrow("cannot become web");
    const { words, owner } = users({}).runAs("web");
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

  it("asks again later when the host's users do not answer, and refuses who is unknown", () => {
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
    expect(() => users({}).runAs("ghost")).toThrow("no user ghost");
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
    const foreign = users({}, failing(new AppError("internal", "not its own")));
    expect(foreign.judge(request)).toEqual({
      kind: "never",
      refusal: { reason: "unsupported", detail: expect.stringContaining("not its own") },
    });
    expect(users({}, failing(new Error("no space"))).judge(request)).toMatchObject({ kind: "later", reason: "busy" });
  });

  it("lays out scripts of named users beside its data only as root, whoever it is", () => {
    const attempt = attemptIdSchema.parse("00000000-0000-7000-8000-000000000001");
    expect(users({}).placeOf(attempt, "ghost")).toBe(`/agent.users/${attempt}`);
    expect(users({}).placeOf(attempt, undefined)).toBeUndefined();
    expect(users({ uid: 1000 }).placeOf(attempt, "web")).toBeUndefined();
  });
});
