// The start of a script that names a user, on a host that can or cannot become one: never as the agent itself instead, and
// not at all once the attempt has ended while the host's users were looked up.
import { existsSync, mkdtempSync, readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LocalHost } from "../../agent/local-host.ts";
import { ScriptUsers, silentStart } from "../../agent/script-users.ts";
import { questionTimes } from "../../agent/user-questions.ts";
import { defaultSpoolBounds } from "../../agent/segments.ts";
import { attemptIdSchema, taskIdSchema } from "../../shared/ids.ts";
import { taskSpecSchema } from "../../shared/task.ts";
import { FakeClock } from "../fakes/clock.ts";

const attempt = attemptIdSchema.parse("00000000-0000-7000-8000-000000000001");
const task = taskIdSchema.parse("00000000-0000-7000-8000-000000000002");
const spec = taskSpecSchema.parse({ kind: "script", interpreter: "sh", script: "id", user: "web" });

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-start-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

function hostWith(users?: ScriptUsers): LocalHost {
  return new LocalHost({
    attempt,
    facts: { attempt, task, attemptNumber: 1, offerNo: 1, lane: "work", spec },
    attemptsPath: folder,
    secrets: { read: () => ({ kind: "none" }) },
    ...(users === undefined ? {} : { users }),
    shimPath: "",
    commandsPath: "",
    resetSignals: "",
    bounds: defaultSpoolBounds,
    agentName: "web-01",
    environment: { PATH: process.env["PATH"] },
  });
}

/** Whose directory is silent until it is told to answer; the user is the agent's own, so that anybody can run this. */
function directory() {
  const clock = new FakeClock();
  const uid = process.getuid?.() ?? 0;
  const state: { answer: string | undefined } = { answer: undefined };
  const entry = (): string => {
    if (state.answer === undefined) throw new Error("timed out");
    return state.answer;
  };
  const users = new ScriptUsers({
    clock,
    host: {
      uid,
      database: { file: () => "", entry },
      findSwitch: () => undefined,
      trySwitch: () => ({ kind: "ok" }),
    },
    places: { path: `${folder}.users`, open: () => undefined, place: () => join(folder, attempt) },
  });
  const comeBack = async (): Promise<void> => {
    state.answer = `web:*:${uid}:${uid}::/:/bin/sh\n`;
    for (let waited = 0; waited <= questionTimes.silentMs; waited += silentStart.lookMs) {
      clock.advance(silentStart.lookMs);
      await Promise.resolve();
    }
  };
  return { users, comeBack };
}

const isLaidOut = (): boolean =>
  existsSync(join(folder, attempt)) && readdirSync(join(folder, attempt)).some((name) => name.startsWith("script"));

test("a script that names a user is not laid out where nothing becomes users", async () => {
  await expect(hostWith().prepare()).rejects.toThrow("nothing here becomes a user");
  expect(isLaidOut()).toBe(false);
});

test("a script is laid out once the directory answers", async () => {
  const { users, comeBack } = directory();
  const prepared = hostWith(users).prepare();
  await comeBack();
  await prepared;
  expect(isLaidOut()).toBe(true);
});

test.each<[string, (host: LocalHost) => Promise<unknown>]>([
  ["cancelled", (host) => host.folder.declareNever({ outcome: "cancelled", reason: "never-started" })],
  ["forgotten", () => rm(join(folder, attempt), { recursive: true })],
])("an attempt that is %s meanwhile is not begun when the directory answers", async (_what, end) => {
  const { users, comeBack } = directory();
  const host = hostWith(users);
  const begun = host.spawn(() => undefined).catch((cause: unknown) => cause);
  await end(host);
  await comeBack();
  expect(await begun).toMatchObject({ message: expect.stringContaining("ended while its user was looked up") });
  expect(isLaidOut()).toBe(false);
});
