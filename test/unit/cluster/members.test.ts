// What the versions of the node list tell a node: new members to announce, and a primary that took another's place.
import { describe, expect, it } from "vitest";
import { Members } from "../../../server/cluster/members.ts";
import { Background } from "../../../shared/background.ts";
import { bootIdSchema, nodeIdSchema } from "../../../shared/ids.ts";
import { silentLogger } from "../../../shared/logger.ts";
import type { NodeList } from "../../../shared/wire/nodes.ts";
import { FakeClock } from "../../fakes/clock.ts";

const timeline = 2 ** 32;
const node = {
  id: nodeIdSchema.parse("00000000-0000-7000-8000-000000000001"),
  name: "node-a",
  bootId: bootIdSchema.parse("00000000-0000-4000-8000-000000000002"),
  version: "1.0.0",
  addresses: ["node-a:10943"],
};

async function toldOf(versions: readonly number[]): Promise<string[]> {
  const told: string[] = [];
  const lists = versions.map((version): NodeList => ({ version, want: 0, nodes: [] }));
  const clock = new FakeClock();
  const background = new Background({ logger: silentLogger });
  const members = new Members({
    store: {
      join: () => Promise.resolve(true),
      beat: () => Promise.resolve(true),
      nodeList: () => Promise.resolve(lists.shift() ?? { version: 0, want: 0, nodes: [] }),
    },
    clock,
    background,
    logger: silentLogger,
    load: () => ({ active: 0, sessions: 0, draining: false }),
    onList: ({ version }) => told.push(`list ${version % timeline}`),
    onReplaced: () => told.push("replaced"),
    onFailover: () => told.push("failover"),
  });
  await members.join(node);
  await members.start();
  while (lists.length > 0) {
    clock.advance(3_000);
    await background.settle();
  }
  await members.stop();
  return told;
}

describe("the versions of the node list", () => {
  it("tell of new members", async () => {
    expect(await toldOf([timeline + 1, timeline + 1, timeline + 2])).toEqual(["list 1", "list 2"]);
  });

  it("tell once that the database failed over, although it forgot a member", async () => {
    const versions = [timeline + 5, 2 * timeline + 4, 2 * timeline + 4];
    expect(await toldOf(versions)).toEqual(["list 5", "list 4", "failover"]);
  });

  it("do not make a failover of the first list", async () => {
    expect(await toldOf([7 * timeline + 1])).toEqual(["list 1"]);
  });
});
