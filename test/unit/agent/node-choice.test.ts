// `--node`: what a word names, and in which forms an address may be written.
import { expect, test } from "vitest";
import { chooseNodes } from "../../../agent/node-choice.ts";
import { describeOffset, describeSpan, serverAheadMs } from "../../../agent/clock-offset.ts";
import { nodeListSchema } from "../../../shared/wire/nodes.ts";

const ids = ["01a215be-04d4-7000-b5fc-44b0312344c1", "01a215be-04d4-7000-b5fc-44b0312344c2"] as const;
const list = nodeListSchema.parse({
  version: 1,
  want: 0,
  nodes: [
    { id: ids[0], name: "node-a", addresses: ["10.0.0.1:10943", "a.example:443"] },
    { id: ids[1], name: "node-b", addresses: ["[fd00::2]:10943"] },
  ],
});

test.each([
  ["node-b", ["node-b"], []],
  [ids[0], ["node-a"], []],
  ["10.0.0.1:10943", ["node-a"], []],
  ["https://10.0.0.1:10943", ["node-a"], []],
  ["wss://a.example/", ["node-a"], []],
  ["https://[fd00::2]:10943", ["node-b"], []],
  ["https://lb.example", [], ["lb.example:443"]],
  ["lb.example:10943", [], ["lb.example:10943"]],
])("%s names %j, and %j behind which any node answers", (word, names, anyNode) => {
  const choice = chooseNodes(list, [word]);
  expect(choice.nodes.map(({ name }) => name)).toEqual(names);
  expect(choice.anyNode).toEqual(anyNode);
  expect(choice.unknown).toEqual([]);
});

test("no word names every node; several words name each node once, in the list's order", () => {
  expect(chooseNodes(list, []).nodes).toEqual(list.nodes);
  const words = ["node-b", "a.example:443", "node-a", "node-b"];
  expect(chooseNodes(list, words).nodes.map(({ name }) => name)).toEqual(["node-a", "node-b"]);
  expect(chooseNodes(list, ["node-z", "node-a"])).toMatchObject({ unknown: ["node-z"] });
});

test.each(["http://10.0.0.1:10943", "https://10.0.0.1:1/path", "https://"])("%s is refused", (word) => {
  expect(() => chooseNodes(list, [word])).toThrow(/--node .*: expected https:\/\/HOST:PORT/);
});

test("a clock's offset is taken at the middle of the exchange and told in two units", () => {
  const sentMs = Date.UTC(2026, 10, 1, 12, 0, 0);
  const header = new Date(sentMs + 3_600_000).toUTCString();
  expect(serverAheadMs(header, { sentMs, receivedMs: sentMs + 1_000 })).toBe(3_600_000);
  expect(serverAheadMs(null, { sentMs, receivedMs: sentMs })).toBeUndefined();
  expect(describeOffset(3_720_000)).toBe("1 h 2 min behind the server's");
  expect(describeOffset(-86_400_000)).toBe("1 d ahead of the server's");
  expect([400, 61_000, 3_600_000].map(describeSpan)).toEqual(["less than 1 s", "1 min 1 s", "1 h"]);
});
