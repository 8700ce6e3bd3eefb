// A node's place in the cluster, on the model of the database: what it obeys, when it joins again, when it ends.
import { beforeEach, describe, expect, it } from "vitest";
import { Members } from "../../../server/cluster/members.ts";
import type { NodeSettings } from "../../../server/store/membership.ts";
import { Background } from "../../../shared/background.ts";
import { bootIdSchema, nodeIdSchema } from "../../../shared/ids.ts";
import { AppError } from "../../../shared/errors.ts";
import { silentLogger as logger, type Logger } from "../../../shared/logger.ts";
import { FakeClock } from "../../fakes/clock.ts";
import { removeNode, setClusterPaused, setNode } from "../../simulation/model/administer.ts";
import { ModelDatabase } from "../../simulation/model/database.ts";
import { createModelStore } from "../../simulation/model/store.ts";
import { uuid } from "../tasks/scene.ts";

const node = {
  id: nodeIdSchema.parse(uuid(9)),
  name: "node-a",
  bootId: bootIdSchema.parse(uuid(10)),
  version: "1.0.0",
  addresses: ["node-a:10943"],
};

let clock: FakeClock;
let background: Background;
let database: ModelDatabase;
let members: Members;
let obeyed: NodeSettings[];
let ended: string[];
let lists: number;
let joins: number;
let holdUp: Promise<void>;

beforeEach(async () => {
  clock = new FakeClock();
  background = new Background({ logger });
  database = new ModelDatabase(() => clock.wallMs());
  [obeyed, ended, lists, joins, holdUp] = [[], [], 0, 0, Promise.resolve()];
  members = new Members({
    store: createModelStore(database),
    clock,
    background,
    logger,
    load: () => ({ active: 0, sessions: 0, draining: false }),
    onList: () => (lists += 1),
    onFailover: () => undefined,
    onSettings: async (settings) => {
      obeyed.push(settings);
      await holdUp;
    },
    onOthers: () => undefined,
    onJoined: () => (joins += 1),
    onEnded: (why) => ended.push(why),
  });
  await members.join(node);
  await members.start();
});

async function pass(seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second += 1) {
    clock.advance(1_000);
    await background.settle();
  }
}
const row = () => database.nodes.get(node.id);
const change = (act: () => void) => database.transaction("durable", "test", act);

describe("a node", () => {
  it("acts by what is set for it from its first heartbeat on, before it takes part", () => {
    expect(obeyed.at(-1)).toMatchObject({ drain: "none", paused: false, taskCap: 1_000 });
    expect(row()?.settingsSeen).toBe(database.cluster.get("one")?.settingsVersion);
  });

  it("says that it acts by a pause only once nothing that went by the former settings is under way", async () => {
    const held = Promise.withResolvers<void>();
    holdUp = held.promise;
    change(() => setClusterPaused(database, true));
    members.look();
    await Promise.resolve();
    await Promise.resolve();
    expect(obeyed.at(-1)?.paused).toBe(true);
    expect(row()?.settingsSeen).toBe(1);
    held.resolve();
    await background.settle();
    expect(row()?.settingsSeen).toBe(2);
  });

  it("hears of its drain and cap with the next heartbeat when no hint comes", async () => {
    change(() => void setNode(database, { node: node.id, drain: "finish", taskCap: 3 }));
    await pass(3);
    expect(obeyed.at(-1)).toMatchObject({ drain: "finish", taskCap: 3 });
  });

  it("looks again when a hint comes while it looks", async () => {
    const held = Promise.withResolvers<void>();
    holdUp = held.promise;
    members.look();
    change(() => void setNode(database, { node: node.id, taskCap: 7 }));
    members.look();
    held.resolve();
    await background.settle();
    expect(obeyed.at(-1)?.taskCap).toBe(7);
  });

  it("joins again when a failover took its row, or the row of its boot, and has the others told each time", async () => {
    expect(joins).toBe(1);
    change(() => database.nodes.delete(node.id));
    await pass(3);
    expect(joins).toBe(2);
    expect(row()).toMatchObject({ bootId: node.bootId, status: "joined" });
    change(() => {
      const found = row();
      if (found !== undefined) database.nodes.put(node.id, { ...found, bootId: bootIdSchema.parse(uuid(11)) });
    });
    await pass(20);
    expect(row()?.bootId).toBe(node.bootId);
    expect(ended).toEqual(["replaced"]);
  });

  it("ends once, and for good, when it is removed", async () => {
    change(() => void removeNode(database, node.id));
    await pass(12);
    expect(ended).toEqual(["removed"]);
    await expect(members.join(node)).rejects.toMatchObject({ code: "node.removed" });
  });

  it("says that the database is away only when it is", async () => {
    const said: string[] = [];
    const recorder: Logger = {
      ...logger,
      warn: (_fields, text) => said.push(text),
      error: (_fields, text) => said.push(text),
    };
    const failures = [
      new AppError("internal", "a row has another shape"),
      new AppError("database.unavailable", "away"),
    ];
    const store = {
      ...createModelStore(database),
      nodeList: () => {
        const [failure] = failures.splice(0, 1);
        return failure === undefined ? createModelStore(database).nodeList() : Promise.reject(failure);
      },
    };
    const failing = new Members({
      store,
      clock,
      background,
      logger: recorder,
      load: () => ({ active: 0, sessions: 0, draining: false }),
      onList: () => undefined,
      onFailover: () => undefined,
      onSettings: () => Promise.resolve(),
      onOthers: () => undefined,
      onJoined: () => undefined,
      onEnded: () => undefined,
    });
    const [first, second] = failures.splice(0, 2);
    await failing.join(node);
    if (first !== undefined && second !== undefined) failures.push(first, second);
    await failing.start();
    await pass(9);
    expect(said).toEqual(["the heartbeat failed; it is tried again in 3 s", "no heartbeat: the database is away"]);
  });

  it("tells of a changed list once a second at most", async () => {
    const other = (number: number) => ({ ...node, id: nodeIdSchema.parse(uuid(20 + number)), name: `node-${number}` });
    await pass(2);
    lists = 0;
    for (let number = 0; number < 5; number += 1) {
      await createModelStore(database).join(other(number));
      members.look();
      await background.settle();
    }
    expect(lists).toBe(0);
    clock.advance(1_000);
    expect([lists, members.current().nodes.length]).toEqual([1, 6]);
  });
});
