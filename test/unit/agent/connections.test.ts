// Which nodes an agent holds connections to while lists come and go; the far sides are played by hand.
import { describe, expect, it } from "vitest";
import { Connections } from "../../../agent/connections.ts";
import type { DialHandlers } from "../../../agent/dial.ts";
import { AppError } from "../../../shared/errors.ts";
import { bootIdSchema, journalIdSchema, nodeIdSchema, type NodeId } from "../../../shared/ids.ts";
import { silentLogger } from "../../../shared/logger.ts";
import { closeCode } from "../../../shared/wire/close-code.ts";
import { encodeFrame } from "../../../shared/wire/frame.ts";
import type { NodeList } from "../../../shared/wire/nodes.ts";
import { defaultTimings, type Welcome } from "../../../shared/wire/welcome.ts";
import { FakeClock } from "../../fakes/clock.ts";

const uuid = (number: number): string => `00000000-0000-4000-8000-${String(number).padStart(12, "0")}`;
const nodeNo = (number: number): NodeId => nodeIdSchema.parse(uuid(number));
const listOf = (version: number, numbers: readonly number[]): NodeList => ({
  version,
  want: 0,
  nodes: numbers.map((number) => ({ id: nodeNo(number), name: `node-${number}`, addresses: [`node-${number}:10943`] })),
});

/** Dials stay open until a test answers or ends them. */
function bench(list: NodeList) {
  const clock = new FakeClock();
  const dials: { readonly address: string; readonly handlers: DialHandlers; ended: boolean }[] = [];
  const closed: string[] = [];
  let sessions = 0;
  const connections = new Connections(
    {
      clock,
      random: { unit: () => 0.5, bytes: () => new Uint8Array() },
      logger: silentLogger,
      dial(target, handlers) {
        const dialled = { address: target.address, handlers, ended: false };
        dials.push(dialled);
        const end = (): void => {
          if (!dialled.ended) closed.push(target.address);
          dialled.ended = true;
        };
        return {
          bufferedAmount: 0,
          send: (_frame, done) => done(),
          ping: () => undefined,
          close: end,
          terminate: end,
        };
      },
      nextSessionNo: () => (sessions += 1),
      hello: () => ({
        type: "hello",
        protocols: { min: 1, max: 1 },
        version: "1.0.0",
        bootCounter: 1,
        bootId: bootIdSchema.parse(uuid(901)),
        journalId: journalIdSchema.parse(uuid(902)),
        attempts: [],
        capabilities: [],
        host: { hostname: "h", os: "linux", arch: "x64", slots: 1 },
      }),
      onOpened: () => undefined,
      onMessage: () => undefined,
      onRoundTrip: () => undefined,
      onEnded: () => undefined,
      onRefused: () => undefined,
      onList: () => undefined,
      target: (address) => ({ address, identity: { key: "", cert: "", nodesCas: [], servername: "" } }),
    },
    { seeds: [], list, agentId: uuid(900) },
  );
  const dialOf = (number: number) =>
    dials.findLast(({ address, ended }) => address === `node-${number}:10943` && !ended)?.handlers;
  return {
    connections,
    clock,
    closed,
    dials,
    dialled: () => dials.map(({ address }) => address),
    /** The node greets with the list it knows. */
    greet: (number: number, nodes: NodeList): void => {
      const welcome: Welcome = {
        type: "welcome",
        protocol: 1,
        node: { id: nodeNo(number), name: `node-${number}` },
        timings: defaultTimings,
        verdicts: [],
        nodes,
      };
      dialOf(number)?.onOpen();
      dialOf(number)?.onFrame(encodeFrame(welcome));
    },
    vanish: (number: number) => dialOf(number)?.onEnd({ kind: "closed", code: 1006, reason: "" }),
    /** Somebody answers there who is not the node that was dialled. */
    meetStranger: (number: number) =>
      dialOf(number)?.onEnd({ kind: "failed", error: new AppError("tls.refused", "another name") }),
    nodes: () => connections.views().map(({ node, state }) => `${node} ${state}`),
  };
}

describe("a node that is not listed any more", () => {
  it("is kept while it is all there is, and dropped once another session is open", () => {
    const { connections, greet, nodes, closed } = bench(listOf(1, [1, 2]));
    connections.start();
    greet(1, listOf(1, [1, 2]));
    connections.list(listOf(2, [2]));
    expect(nodes()).toEqual(["node-1 open", "node-2 dialing"]);
    greet(2, listOf(2, [2]));
    expect(nodes()).toEqual(["node-2 open"]);
    expect(closed).toEqual(["node-1:10943"]);
    connections.stop();
  });

  it("is not dialled for ever when it went while it was all there was", () => {
    const { connections, greet, vanish, nodes, clock, dialled } = bench(listOf(1, [1, 2]));
    connections.start();
    greet(1, listOf(1, [1, 2]));
    connections.list(listOf(2, [2]));
    vanish(1);
    greet(2, listOf(2, [2]));
    expect(nodes()).toEqual(["node-2 open"]);
    const before = dialled().filter((address) => address === "node-1:10943").length;
    clock.advance(20_000);
    expect(dialled().filter((address) => address === "node-1:10943")).toHaveLength(before);
    connections.stop();
    expect(clock.timers).toBe(0);
  });
});

describe("a node reached through a seed at its own address", () => {
  /** Others answer at both addresses, so they are dialled as seeds too; when that is over, the first one's seed gets in. */
  function throughSeed() {
    const made = bench(listOf(1, [1, 2]));
    made.connections.start();
    made.meetStranger(1);
    made.meetStranger(2);
    made.clock.advance(3_000);
    made.greet(1, listOf(1, [1, 2]));
    return made;
  }
  const dialsOf = (dialled: readonly string[], number: number): number =>
    dialled.filter((address) => address === `node-${number}:10943`).length;

  it("is not dialled once more by its own connection", () => {
    const { connections, clock, nodes, closed, dialled } = throughSeed();
    expect(nodes()).toEqual(["node-1 idle", "node-2 waiting", "node-1:10943 open", "node-2:10943 idle"]);
    expect(closed).toEqual(["node-2:10943"]);
    clock.advance(20_000);
    expect(dialsOf(dialled(), 1)).toBe(2);
    connections.stop();
    expect(clock.timers).toBe(0);
  });

  it("is dialled by its own connection alone, within half a second, when that session ends", () => {
    const { connections, clock, nodes, vanish, dialled } = throughSeed();
    vanish(1);
    expect(dialsOf(dialled(), 1)).toBe(2);
    clock.advance(500);
    expect(dialsOf(dialled(), 1)).toBe(3);
    expect(nodes()).toEqual(["node-1 dialing", "node-2 waiting", "node-1:10943 idle", "node-2:10943 idle"]);
    connections.stop();
  });

  it("is left alone when it asked to go", () => {
    const { connections, clock, dialled, greet } = throughSeed();
    clock.advance(10_000);
    greet(2, listOf(1, [1, 2]));
    connections.closeSession(1);
    clock.advance(4_999);
    expect(dialsOf(dialled(), 1)).toBe(2);
    clock.advance(5_001);
    expect(dialsOf(dialled(), 1)).toBe(3);
    connections.stop();
  });

  it("is dialled once for a new certificate", () => {
    const { connections, clock, dialled, greet, nodes } = throughSeed();
    clock.advance(10_000);
    greet(2, listOf(1, [1, 2]));
    connections.redial(1, "a new certificate");
    expect(dialsOf(dialled(), 1)).toBe(3);
    clock.advance(2_000);
    expect(dialsOf(dialled(), 1)).toBe(3);
    expect(nodes()).toEqual(["node-1 dialing", "node-2 open", "node-1:10943 idle", "node-2:10943 idle"]);
    connections.stop();
  });

  it("is let go when it is not listed any more and another session is open", () => {
    const { connections, clock, greet, nodes } = throughSeed();
    clock.advance(10_000);
    greet(2, listOf(1, [1, 2]));
    connections.list(listOf(2, [2]));
    expect(nodes()).toEqual(["node-2 open", "node-1:10943 idle", "node-2:10943 idle"]);
    connections.stop();
  });
});

describe("a listed address", () => {
  const seeds = (nodes: readonly string[]): readonly string[] => nodes.filter((node) => node.includes(":10943"));

  it("is no seed while its node's own connection dials it, however long nobody answers", () => {
    const { connections, clock, nodes, vanish } = bench(listOf(1, [1]));
    connections.start();
    clock.advance(10_000);
    expect(nodes()).toEqual(["node-1 dialing"]);
    vanish(1);
    clock.advance(30_000);
    expect(seeds(nodes())).toEqual([]);
    connections.stop();
    expect(clock.timers).toBe(0);
  });

  it("is a seed within 3 s when its node's own connection is busy with another address", () => {
    const list = listOf(1, [1]);
    const [node] = list.nodes;
    if (node === undefined) throw new Error("there is a node");
    const { connections, clock, nodes } = bench({
      ...list,
      nodes: [{ ...node, addresses: ["inside:1", "node-1:10943"] }],
    });
    connections.start();
    clock.advance(3_000);
    expect(nodes()).toEqual(["node-1 dialing", "node-1:10943 dialing"]);
    connections.stop();
  });

  it("is a seed within 3 s when another node answers there", () => {
    const { connections, clock, nodes, meetStranger } = bench(listOf(1, [1]));
    connections.start();
    clock.advance(4_000);
    meetStranger(1);
    clock.advance(3_000);
    expect(seeds(nodes())).toEqual(["node-1:10943 dialing"]);
    connections.stop();
  });
});

it("a node is dialled on when a newer connection took over before the greeting and then got nowhere", () => {
  const { connections, clock, dials, greet, dialled, meetStranger } = bench(listOf(1, [1, 2]));
  connections.start();
  meetStranger(1);
  clock.advance(3_000);
  const seed = dials.at(-1);
  clock.advance(7_500);
  const own = dials.at(-1);
  expect(own).not.toBe(seed);
  own?.handlers.onOpen();
  seed?.handlers.onOpen();
  own?.handlers.onEnd({ kind: "closed", code: closeCode.replaced, reason: "a newer session took over" });
  seed?.handlers.onEnd({ kind: "closed", code: 1006, reason: "" });
  greet(2, listOf(1, [1, 2]));
  const before = dialled().filter((address) => address === "node-1:10943").length;
  clock.advance(5_000);
  expect(dialled().filter((address) => address === "node-1:10943").length).toBeGreaterThan(before);
  connections.stop();
});
