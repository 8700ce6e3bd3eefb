// When a host is told that a script is about to enter its control group: once the group is there, as it is laid out and again
// as it starts, for it may have waited between; and never without a group.
import { existsSync, mkdirSync, mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { AttemptCgroup } from "../../agent/attempt-cgroup.ts";
import { LocalHost, type LocalHostOptions } from "../../agent/local-host.ts";
import { defaultSpoolBounds } from "../../agent/segments.ts";
import { attemptIdSchema, taskIdSchema } from "../../shared/ids.ts";
import { taskSpecSchema } from "../../shared/task.ts";

const attempt = attemptIdSchema.parse("00000000-0000-7000-8000-000000000001");
const task = taskIdSchema.parse("00000000-0000-7000-8000-000000000002");
const spec = taskSpecSchema.parse({ kind: "script", interpreter: "sh", script: ":" });

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-entry-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

function hostWith(options: Pick<LocalHostOptions, "cgroups" | "onEntering">): LocalHost {
  return new LocalHost({
    attempt,
    facts: { attempt, task, attemptNumber: 1, offerNo: 1, lane: "work", spec },
    attemptsPath: folder,
    secrets: { read: () => ({ kind: "none" }) },
    shimPath: resolve(import.meta.dirname, "../../agent/shim.sh"),
    commandsPath: "",
    resetSignals: "",
    bounds: defaultSpoolBounds,
    agentName: "web-01",
    environment: { PATH: process.env["PATH"] },
    ...options,
  });
}

/** Runs the script; says at each telling whether its group was there. */
async function told(makesGroups: boolean): Promise<boolean[]> {
  const path = join(folder, "group");
  const seen: boolean[] = [];
  const make = (): AttemptCgroup => {
    mkdirSync(path);
    return new AttemptCgroup([{ use: "tree", version: 2, path }]);
  };
  const host = hostWith({
    ...(makesGroups ? { cgroups: { make } } : {}),
    onEntering: () => void seen.push(existsSync(path)),
  });
  await host.prepare();
  seen.push(false);
  const ended = Promise.withResolvers<void>();
  await host.spawn(() => ended.resolve());
  await ended.promise;
  return seen;
}

test("as it is laid out and as it starts", async () => {
  expect(await told(true)).toEqual([true, false, true]);
});

test("never without a group", async () => {
  expect(await told(false)).toEqual([false]);
});
