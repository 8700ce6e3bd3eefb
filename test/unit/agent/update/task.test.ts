// What an update that the cluster asks for becomes on the agent, and which agents do not do it.
import { expect, test } from "vitest";
import { findUpdateWay, whyNoUpdate, withUpdates, type UpdatePlace } from "../../../../agent/update/task.ts";
import { attemptIdSchema, journalIdSchema, taskIdSchema } from "../../../../shared/ids.ts";
import { taskSpecSchema, updateServerSchema } from "../../../../shared/task.ts";
import type { Offer } from "../../../../shared/wire/offer.ts";

const id = "00000000-0000-7000-8000-000000000001";
const executable = "/opt/holdfast/versions/0.1.0-000000000000/holdfast-agent";
const options = { dataPath: "/var/lib/holdfast/agent", executable, restartCommand: undefined };
const service: UpdatePlace = {
  userId: 0,
  parentPid: 1,
  ownGroups: "0::/system.slice/holdfast-agent.service/agent\n",
  canWrite: () => true,
  isThere: () => true,
};
const update = taskSpecSchema.parse({
  kind: "update",
  sha256: "ab".repeat(32),
  servers: ["https://one.example", "http://10.0.0.2:8080"],
  greetMs: 20_000,
  graceMs: 100_000,
});
const script = taskSpecSchema.parse({ kind: "script", script: "true" });

function offer(...specs: Offer["items"][number]["spec"][]): Offer {
  const items = specs.map((spec) => ({
    attempt: attemptIdSchema.parse(id),
    task: taskIdSchema.parse(id),
    attemptNumber: 1,
    offerNo: 1,
    journalId: journalIdSchema.parse(id),
    lane: "system" as const,
    startWindowMs: 3_000,
    spec,
  }));
  return { type: "offer", items };
}

const lineOf = (change: Partial<UpdatePlace>, restartCommand?: string): string | undefined => {
  const way = findUpdateWay({ ...options, restartCommand }, { ...service, ...change });
  return way.kind === "restart" ? way.line : undefined;
};

test("it becomes a script that runs this executable's own update, under a lock of its own", () => {
  const words = [
    [executable, "agent", "update", "--sha256", "ab".repeat(32), "--data-dir", "/var/lib/holdfast/agent"],
    ["--restart-command", "systemctl restart --no-block holdfast-agent.service"],
    ["--server", "https://one.example", "--server", "http://10.0.0.2:8080", "--greet-within", "20000ms"],
  ].flat();
  const { items } = withUpdates(offer(script, update), options, () => service);
  expect(items.map(({ spec }) => spec)).toEqual([
    script,
    {
      kind: "script",
      interpreter: "/bin/sh",
      script: 'exec "$@"\n',
      args: words,
      env: {},
      cwd: "/",
      timeoutMs: 3_600_000 + 2 * 20_000 + 60_000,
      graceMs: 100_000,
      isolation: { name: "holdfast-update", mode: "full" },
    },
  ]);
});

test.each([
  [
    "version 1 beside 2",
    { ownGroups: "1:name=systemd:/system.slice/holdfast-agent-b.service\n0::/\n" },
    "holdfast-agent-b.service",
  ],
  ["a slice of its own", { ownGroups: "0::/system.slice/x.slice/a@b.service\n" }, "a@b.service"],
])("its service is found in control groups of %s", (_what, change, unit) => {
  expect(lineOf(change)).toBe(`systemctl restart --no-block ${unit}`);
});

test.each([
  ["of another user", { userId: 1_000 }],
  ["of something that systemd has not started", { parentPid: 77 }],
  ["in a session", { ownGroups: "0::/user.slice/user-0.slice/session-1.scope\n" }],
  ["whose unit is no word of a shell", { ownGroups: "0::/system.slice/a b;c.service\n" }],
])("an agent %s has to be told how it is restarted", (_what, change) => {
  expect(lineOf(change)).toBeUndefined();
  expect(whyNoUpdate(options, { ...service, ...change })).toContain("HOLDFAST_RESTART_COMMAND");
  expect(lineOf(change, "supervisor restart")).toBe("supervisor restart");
});

test.each([
  ["runs from sources", { ...options, executable: "/usr/bin/node" }, {}, "update it the way it was installed"],
  ["was copied by hand", options, { isThere: () => false }, "update it the way it was installed"],
  ["may not write there", options, { canWrite: (path: string) => !path.endsWith("/versions") }, "as root"],
])("an agent that %s leaves the offer as it is, and says what to do", (_what, own, change, words) => {
  const place = { ...service, ...change };
  const offered = offer(update);
  expect(withUpdates(offered, own, () => place)).toBe(offered);
  expect(whyNoUpdate(own, place)).toContain(words);
});

test.each([
  ["http://10.0.0.2:8080", true],
  ["https://[fd00::1]:8080/holdfast", true],
  ["https://user:word@host", false],
  ["file:///etc/passwd", false],
  ["https://host/$(id)", false],
  ["https://host --no-restart", false],
])("a server to download from: %s", (text, expected) => {
  expect(updateServerSchema.safeParse(text).success).toBe(expected);
});
