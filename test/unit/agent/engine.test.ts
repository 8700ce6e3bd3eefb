// The engine on a site made of nothing: what it does when an act fails where nobody expected it.
import { describe, expect, test } from "vitest";
import { Engine } from "../../../agent/engine.ts";
import { Journal } from "../../../agent/journal.ts";
import { defaultRosterOptions } from "../../../agent/roster-event.ts";
import type { Session } from "../../../agent/connection.ts";
import type { Site } from "../../../agent/site.ts";
import { Background } from "../../../shared/background.ts";
import { AppError } from "../../../shared/errors.ts";
import { attemptIdSchema, nodeIdSchema, taskIdSchema } from "../../../shared/ids.ts";
import { Link } from "../../../shared/link.ts";
import { silentLogger } from "../../../shared/logger.ts";
import { SystemRandom } from "../../../shared/random.ts";
import { taskSpecSchema } from "../../../shared/task.ts";
import type { FromAgent } from "../../../shared/wire/from-agent.ts";
import { FakeClock } from "../../fakes/clock.ts";

const uuid = (no: number): string => `00000000-0000-7000-8000-${String(no).padStart(12, "0")}`;
const nothing = (): Promise<void> => Promise.resolve();
const file = { write: (bytes: Uint8Array) => Promise.resolve({ bytesWritten: bytes.length }), truncate: nothing };
const disk = {
  read: () => Promise.resolve(undefined),
  open: () => Promise.resolve({ ...file, datasync: nothing, sync: nothing, close: nothing }),
  rename: nothing,
  remove: nothing,
  syncDirectory: nothing,
};

async function engineOn(
  execution: Site["execution"],
): Promise<{ engine: Engine; fatal: AppError[]; frames: Uint8Array[] }> {
  const logger = silentLogger;
  const journal = new Journal({ logger, random: new SystemRandom(), disk }, { path: "/journal", hostBootId: "host" });
  await journal.open();
  const fatal: AppError[] = [];
  const frames: Uint8Array[] = [];
  const site: Site = {
    hostBootId: "host",
    bootMs: () => 0,
    freeBytes: () => 1e9,
    prepare: nothing,
    admit: () => ({ kind: "ok" }),
    keepSecrets: nothing,
    evidence: () => ({ journal: "none", hostBoot: "same", marker: "none", shim: "dead", exit: undefined }),
    folders: () => Promise.resolve([]),
    removeFolder: nothing,
    close: () => undefined,
    execution,
  };
  const engine = new Engine(
    {
      clock: new FakeClock(),
      logger,
      background: new Background({ logger }),
      journal,
      site,
      defer: (act) => act(),
      closeSession: () => undefined,
      onFatal: (why) => fatal.push(why),
    },
    { roster: defaultRosterOptions },
  );
  const ignore = (): void => undefined;
  const socket = {
    bufferedAmount: 0,
    send: (frame: Uint8Array) => void frames.push(frame),
    ping: ignore,
    close: ignore,
    terminate: ignore,
  };
  const session: Session = {
    no: 1,
    link: new Link<FromAgent>({ socket }),
    welcome: {
      type: "welcome",
      protocol: 1,
      node: { id: nodeIdSchema.parse(uuid(1)), name: "a" },
      timings: { pingMs: 1, silenceMs: 1 },
      verdicts: [],
      nodes: { version: 1, want: 0, nodes: [] },
    },
  };
  engine.sessionOpened(session);
  engine.receive(1, {
    type: "offer",
    items: [
      {
        attempt: attemptIdSchema.parse(uuid(2)),
        task: taskIdSchema.parse(uuid(3)),
        attemptNumber: 1,
        offerNo: 1,
        journalId: journal.id,
        lane: "work",
        startWindowMs: 1_000,
        spec: taskSpecSchema.parse({ kind: "script", script: "true" }),
      },
    ],
  });
  return { engine, fatal, frames };
}

describe("an act that throws where nobody expected it", () => {
  test("ends the agent, for half of a step may have been done", async () => {
    const { engine, fatal, frames } = await engineOn(() => {
      throw new AppError("internal", "no descriptor left");
    });
    expect(fatal.map((why) => why.message)).toEqual(["no descriptor left"]);
    const before = frames.length;
    engine.drain();
    engine.roundTrip(1, 5);
    expect(frames.length).toBe(before);
  });
});
