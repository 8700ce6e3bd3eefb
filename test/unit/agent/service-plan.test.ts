// What an installation does, from what it finds: only what differs, and nothing a person wrote.
import { describe, expect, test } from "vitest";
import { defineService } from "../../../agent/service/definition.ts";
import { planInstall, planUninstall, type Seen } from "../../../agent/service/plan.ts";
import { readUnit, renderUnit, uselessToRestart } from "../../../agent/service/systemd-unit.ts";
import { errorRows } from "../../../shared/errors.ts";

const program = ["/usr/local/bin/holdfast"];
const definition = defineService({ program });
const text = renderUnit(definition);
const own = readUnit(text);

const bare: Seen = {
  unit: { kind: "absent" },
  account: { userId: 0, groupId: 0 },
  folder: undefined,
  above: undefined,
  enrolment: "absent",
  enabling: "disabled",
  activity: "inactive",
};
const complete: Seen = {
  unit: own,
  account: { userId: 0, groupId: 0 },
  folder: { userId: 0, mode: 0o700 },
  above: { userId: 0, mode: 0o755 },
  enrolment: "present",
  enabling: "enabled",
  activity: "active",
};

const kinds = (seen: Seen, of = definition): string[] =>
  planInstall(of, seen, { edited: "keep" }).map((step) => step.kind);

describe("installing", () => {
  test("on a bare host makes all but a start, which has to wait for an identity", () => {
    expect(kinds(bare)).toEqual(["make-folder", "write-unit", "reload", "enable"]);
  });

  test("changes nothing where everything is so already", () => {
    expect(kinds(complete)).toEqual([]);
  });

  test.each<[string, Partial<Seen>, string[]]>([
    ["an enrolled agent that does not run", { activity: "inactive" }, ["start"]],
    ["a service that does not start with the host", { enabling: "disabled" }, ["enable"]],
    ["a folder that others may enter", { folder: { userId: 0, mode: 0o755 } }, ["close-folder"]],
    ["a user who was removed", { account: undefined }, ["stop", "make-user", "own-folder", "start"]],
    ["files without a systemd", { activity: "none", enabling: "disabled" }, ["enable"]],
  ])("mends only %s", (_what, change, steps) => {
    expect(kinds({ ...complete, ...change })).toEqual(steps);
  });

  test("with other options writes the unit anew and restarts what runs", () => {
    const other = defineService({ program: ["/opt/new/holdfast"] });
    expect(kinds(complete, other)).toEqual(["write-unit", "reload", "restart"]);
  });

  test("gives root's closed folder to the service's user, and takes none that others could have filled", () => {
    const theirs = defineService({ program, user: "deploy" });
    const unit = readUnit(renderUnit(theirs));
    const seen: Seen = { ...complete, above: undefined, account: { userId: 990, groupId: 990 }, unit };
    expect(kinds(seen, theirs)).toEqual(["stop", "own-folder", "start"]);
    const refusal = expect.objectContaining({ code: "config.invalid" });
    expect(() => kinds({ ...seen, folder: { userId: 0, mode: 0o770 } }, theirs)).toThrowError(refusal);
    expect(() => kinds({ ...complete, folder: { userId: 990, mode: 0o700 } })).toThrowError(refusal);
  });

  test.each(["deploy", "root"])(
    "as %s lets others pass through the product's own folder, and opens nobody else's",
    (user) => {
      const theirs = defineService({ program, user });
      const seen: Seen = { ...bare, account: { userId: 990, groupId: 990 } };
      const stepsOf = (mode: number, userId = 0) =>
        planInstall(theirs, { ...seen, above: { userId, mode } }, { edited: "keep" });
      expect(stepsOf(0o700)[0]).toEqual({ kind: "open-folder", path: "/var/lib/holdfast", mode: 0o711 });
      // What a person let a group do stays.
      expect(stepsOf(0o750)[0]).toMatchObject({ mode: 0o751 });
      for (const others of [stepsOf(0o711), stepsOf(0o755), stepsOf(0o700, 7)])
        expect(others[0]).toMatchObject({ kind: "make-folder" });
      expect(kinds({ ...seen, above: undefined }, theirs)[0]).toBe("make-folder");
    },
  );

  test("leaves a unit that was edited, until it is told to replace it", () => {
    const unit = readUnit(text.replace("WatchdogSec=120", "WatchdogSec=10"));
    expect(unit.kind).toBe("edited");
    expect(() => kinds({ ...complete, unit })).toThrowError(expect.objectContaining({ code: "service.edited" }));
    const steps = planInstall(definition, { ...complete, unit }, { edited: "replace" });
    expect(steps.map((step) => step.kind)).toEqual(["write-unit", "reload", "restart"]);
  });
});

describe("a unit's sum", () => {
  test.each([
    ["a line behind it", `${text}\n[Service]\nNice=5\n`],
    ["no sum", text.replace(/^Sum=.*\n/m, "")],
    ["somebody else's unit", "[Service]\nExecStart=/bin/true\n"],
    ["nothing", ""],
  ])("does not fit %s", (_what, other) => {
    expect(readUnit(other).kind).toBe("edited");
  });

  test("fits what was written, whatever the folder is called", () => {
    const dataPath = '/srv/a b%c$d"e\\';
    expect(readUnit(renderUnit(defineService({ program, dataPath })))).toMatchObject({ kind: "own", dataPath });
  });
});

describe("uninstalling", () => {
  test("stops, disables and removes what there is, and the data only when told", () => {
    const steps = planUninstall("holdfast-agent", complete, { edited: "keep", purge: undefined });
    expect(steps.map((step) => step.kind)).toEqual(["stop", "disable", "remove-unit", "reload"]);
    const purged = planUninstall("holdfast-agent", complete, { edited: "keep", purge: "/d" });
    expect(purged.at(-1)).toEqual({ kind: "remove-folder", path: "/d" });
    expect(planUninstall("holdfast-agent", bare, { edited: "keep", purge: "/d" })).toEqual([]);
  });

  test("leaves an edited unit, until it is told otherwise", () => {
    const seen: Seen = { ...complete, unit: { kind: "edited", text: "x", dataPath: undefined } };
    expect(() => planUninstall("n", seen, { edited: "keep", purge: undefined })).toThrowError(/changed by hand/);
    expect(planUninstall("n", seen, { edited: "remove", purge: undefined })).toHaveLength(4);
  });
});

test.each(["", "a b", "-a", "a.b", "a/b", "a@b", "x".repeat(33)])("no instance is called %j", (instance) => {
  expect(() => defineService({ program, instance })).toThrowError(expect.objectContaining({ code: "config.invalid" }));
});

test.each([
  ["a user", { program, user: "a b" }],
  ["a folder", { program, dataPath: "/a\nUser=root" }],
  ["a program", { program: ["/a\0"] }],
])("%s that could say more than its name is refused", (_what, request) => {
  expect(() => defineService(request)).toThrowError(expect.objectContaining({ code: "config.invalid" }));
});

test("an agent is not started again for what a restart cannot mend, and for everything that may pass it is", () => {
  const useless: readonly number[] = uselessToRestart;
  const passing = Object.entries(errorRows).filter(([, { retryable }]) => retryable);
  expect(passing.filter(([, { exitCode }]) => useless.includes(exitCode)).map(([code]) => code)).toEqual([]);
  // What ends an agent for good; see AgentDeps.onFatal and start-checks.ts.
  const fatal = ["agent.revoked", "agent.removed", "agent.quarantined", "agent.superseded", "config.invalid"] as const;
  expect(fatal.filter((code) => !useless.includes(errorRows[code].exitCode))).toEqual([]);
});
