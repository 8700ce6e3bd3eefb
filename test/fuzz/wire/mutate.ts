// Makes hostile frames of valid ones: at the joints of MessagePack first (types, widths, counts that lie, nesting, keys, numbers
// and texts at their bounds), then in the raw bytes. Pure: the same dice give the same frame.
import type { Dice } from "../dice.ts";
import { numberOf, textOf, write, type Entry, type NumberForm, type Tree, type Width } from "./tree.ts";

const widths: readonly Width[] = [0, 1, 2, 4];
const forms: readonly NumberForm[] = ["fix", "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f32", "f64"];
const numbers: readonly number[] = [
  0,
  -0,
  1,
  -1,
  0.5,
  127,
  128,
  255,
  256,
  1_000,
  1_001,
  32_767,
  65_535,
  65_536,
  2_147_483_647,
  2_147_483_648,
  4_294_967_295,
  4_294_967_296,
  4_102_444_800_000,
  4_102_444_800_001,
  9_007_199_254_740_991,
  9_007_199_254_740_992,
  2 ** 64,
  -2_147_483_649,
  -(2 ** 53),
  1e308,
  5e-324,
  NaN,
  Infinity,
  -Infinity,
];
const badTexts: readonly Buffer[] = [
  [0xc3, 0x28],
  [0xed, 0xa0, 0x80],
  [0xff],
  [0xc0, 0x80],
  [0xf4, 0x90, 0x80, 0x80],
  [0xe2, 0x82],
].map((bytes) => Buffer.from(bytes));
const texts: readonly string[] = [
  "",
  "\0",
  "a\0b",
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "type",
  "\u{1f600}",
  "e\u0301",
  "\u202e",
  "\r\n",
  "01985f2e-7c00-7000-8000-000000000001",
  "01985F2E-7C00-7000-8000-000000000001",
  "';drop table attempt;--",
  "true",
  "null",
  "x".repeat(31),
  "x".repeat(32),
  "x".repeat(63),
  "x".repeat(64),
  "x".repeat(65),
  "x".repeat(128),
  "x".repeat(129),
  "x".repeat(1_024),
  "x".repeat(1_025),
  "é".repeat(513),
  "f".repeat(64),
];
const keys: readonly string[] = [
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "hasOwnProperty",
  "then",
  "toJSON",
  "",
  "type",
  "items",
  "0",
  "-1",
  "length",
  "attempt",
  "addedLater",
  "k".repeat(64),
  "k".repeat(65),
  "\0",
  "ключ",
];
const strange: readonly Buffer[] = [
  [0xc1],
  [0xd4, 0x01, 0x00],
  [0xd6, 0xff, 0, 0, 0, 1],
  [0xd7, 0xff, 0, 0, 0, 0, 0, 0, 0, 1],
  [0xd8, 0x73],
  [0xc7, 0x00, 0x65],
  [0xc7, 0x04, 0x70, 1, 2, 3, 4],
  [0xc8, 0xff, 0xff, 0x01],
  [0xc9, 0x7f, 0xff, 0xff, 0xff, 0x01],
  [0xdd, 0xff, 0xff, 0xff, 0xff],
  [0xdf, 0x7f, 0xff, 0xff, 0xff],
  [0xc6, 0xff, 0xff, 0xff, 0xff],
  [0xdb, 0xff, 0xff, 0xff, 0xf0],
  [0xd4, 0x00, 0x00],
  [0xd4, 0x72, 0x40],
  [0xc7, 0x01, 0x69, 0x01],
  [0x40],
  [],
].map((bytes) => Buffer.from(bytes));

/** Of a million cases two hundred, and not more: a frame of a megabyte takes as long as a thousand small ones. */
const hugeChance = 0.0002;

/** A frame made from one of the samples. Some come through unchanged in meaning: what is valid must stay accepted. */
export function hostileFrame(dice: Dice, samples: readonly Tree[]): Buffer {
  if (dice.chance(hugeChance)) return hugeFrame(dice, dice.pick(samples));
  let tree = dice.pick(samples);
  const changes = dice.pick([0, 1, 1, 1, 2, 3, 5]);
  for (let no = 0; no < changes; no += 1) tree = changed(tree, { dice, samples, left: 1 + dice.below(countOf(tree)) });
  let frame = write(tree);
  if (dice.chance(0.25)) frame = bytewise(dice, frame);
  return frame;
}

function countOf(tree: Tree): number {
  if (tree.kind === "array") return 1 + tree.items.reduce((sum, item) => sum + countOf(item), 0);
  if (tree.kind === "map") return 1 + tree.entries.reduce((sum, [, value]) => sum + 1 + countOf(value), 0);
  return 1;
}

interface Walk {
  readonly dice: Dice;
  readonly samples: readonly Tree[];
  /** Nodes until the one that is changed; counted down on the way. */
  left: number;
}

/** The tree with its `left`-th node, in the order written, replaced. */
function changed(tree: Tree, walk: Walk): Tree {
  walk.left -= 1;
  if (walk.left === 0) return variant(tree, walk);
  if (tree.kind === "array")
    return { ...tree, items: tree.items.map((item) => (walk.left > 0 ? changed(item, walk) : item)) };
  if (tree.kind !== "map") return tree;
  return {
    ...tree,
    entries: tree.entries.map((entry): Entry => {
      if (walk.left <= 0) return entry;
      walk.left -= 1;
      if (walk.left === 0) return [hostileKey(walk.dice), entry[1]];
      return [entry[0], changed(entry[1], walk)];
    }),
  };
}

const hostileKey = (dice: Dice): Tree =>
  dice.chance(0.8) ? textOf(dice.pick(keys), dice.pick(widths)) : anyValue(dice, 1);

function variant(tree: Tree, walk: Walk): Tree {
  const { dice } = walk;
  if (dice.chance(0.3)) return anyValue(dice, 3);
  if (dice.chance(0.1)) return anyPartOf(dice, dice.pick(walk.samples));
  if (dice.chance(0.05)) return nested(dice, tree);
  switch (tree.kind) {
    case "number":
      return numberOf(dice.chance(0.5) ? tree.value : dice.pick(numbers), dice.pick(forms));
    case "text":
    case "binary":
      return { ...tree, value: otherBytes(dice, tree.value), wide: dice.pick(widths) };
    case "array":
      return otherArray(dice, tree);
    case "map":
      return otherMap(dice, tree);
    case "nil":
    case "bool":
    case "raw":
      return anyValue(dice, 2);
  }
}

function otherBytes(dice: Dice, value: Buffer): Buffer {
  switch (dice.below(6)) {
    case 0:
      return Buffer.from(dice.pick(texts));
    case 1:
      return dice.pick(badTexts);
    case 2:
      return Buffer.concat([value, Buffer.from(dice.pick(texts))]);
    case 3:
      return value.subarray(0, dice.below(value.length + 1));
    case 4:
      return Buffer.from(value.toString("latin1").toUpperCase(), "latin1");
    default:
      return value;
  }
}

type ArrayTree = Extract<Tree, { kind: "array" }>;
type MapTree = Extract<Tree, { kind: "map" }>;

function otherArray(dice: Dice, tree: ArrayTree): Tree {
  const { items } = tree;
  switch (dice.below(5)) {
    case 0:
      return { ...tree, items: [] };
    case 1: {
      const item = items.length > 0 ? dice.pick(items) : anyValue(dice, 1);
      return { ...tree, items: Array.from({ length: dice.pick([2, 63, 64, 65, 257]) }, () => item) };
    }
    case 2:
      return { ...tree, items: [...items, anyValue(dice, 2)] };
    case 3:
      return {
        ...tree,
        lie: dice.pick([0, items.length + 1, Math.max(0, items.length - 1), 65_535, 4_294_967_295]),
        wide: 4,
      };
    default:
      return { ...tree, wide: dice.pick(widths) };
  }
}

function otherMap(dice: Dice, tree: MapTree): Tree {
  const { entries } = tree;
  const at = dice.below(entries.length + 1);
  switch (dice.below(7)) {
    case 0:
      return { ...tree, entries: entries.filter((_entry, index) => index !== at) };
    case 1:
      return { ...tree, entries: [...entries, ...entries.slice(at, at + 1)] };
    case 2:
      return { ...tree, entries: entries.toSpliced(at, 0, [hostileKey(dice), anyValue(dice, 2)]) };
    case 3:
      return { ...tree, lie: dice.pick([0, entries.length + 1, 65_535, 2_147_483_648]), wide: 4 };
    case 4:
      return { ...tree, entries: entries.toReversed() };
    case 5: {
      // The same key twice, in two widths: readers differ in which one they believe.
      const [key] = entries.length > 0 ? dice.pick(entries) : [textOf("type")];
      return key.kind === "text"
        ? { ...tree, entries: [...entries, [{ ...key, wide: 2 as const }, anyValue(dice, 1)]] }
        : tree;
    }
    default:
      return { ...tree, wide: dice.pick(widths) };
  }
}

function anyPartOf(dice: Dice, tree: Tree): Tree {
  if (dice.chance(0.4)) return tree;
  if (tree.kind === "array" && tree.items.length > 0) return anyPartOf(dice, dice.pick(tree.items));
  if (tree.kind === "map" && tree.entries.length > 0) return anyPartOf(dice, dice.pick(tree.entries)[1]);
  return tree;
}

function nested(dice: Dice, tree: Tree): Tree {
  let deep = tree;
  for (let level = dice.pick([1, 2, 12, 14, 15, 16, 17, 40]); level > 0; level -= 1)
    deep = dice.chance(0.5)
      ? { kind: "array", items: [deep], wide: 0 }
      : { kind: "map", entries: [[textOf("k"), deep]], wide: 0 };
  return deep;
}

function anyValue(dice: Dice, depth: number): Tree {
  switch (dice.below(depth > 0 ? 9 : 7)) {
    case 0:
      return { kind: "nil" };
    case 1:
      return { kind: "bool", value: dice.chance(0.5) };
    case 2:
      return numberOf(dice.pick(numbers), dice.pick(forms));
    case 3:
      return textOf(dice.pick(texts), dice.pick(widths));
    case 4:
      return { kind: "binary", value: dice.bytes(dice.pick([0, 1, 8, 300])), wide: dice.pick(widths) };
    case 5:
      return { kind: "text", value: dice.pick(badTexts), wide: dice.pick(widths) };
    case 6:
      return { kind: "raw", value: dice.pick(strange) };
    case 7:
      return {
        kind: "array",
        items: Array.from({ length: dice.below(4) }, () => anyValue(dice, depth - 1)),
        wide: dice.pick(widths),
      };
    default:
      return {
        kind: "map",
        entries: Array.from({ length: dice.below(4) }, (): Entry => [hostileKey(dice), anyValue(dice, depth - 1)]),
        wide: dice.pick(widths),
      };
  }
}

function bytewise(dice: Dice, frame: Buffer): Buffer {
  const at = dice.below(frame.length + 1);
  switch (dice.below(6)) {
    case 0:
      return frame.subarray(0, at);
    case 1:
      return Buffer.concat([frame, dice.pick([frame, Buffer.of(0), dice.bytes(5)])]);
    case 2:
      return Buffer.concat([frame.subarray(0, at), dice.bytes(1 + dice.below(6)), frame.subarray(at)]);
    case 3:
      return Buffer.concat([frame.subarray(0, at), frame.subarray(Math.max(0, at - 20), at), frame.subarray(at)]);
    case 4:
      return dice.bytes(dice.below(64));
    default: {
      const copy = Buffer.from(frame);
      for (let flips = 1 + dice.below(3); flips > 0 && copy.length > 0; flips -= 1) {
        const place = dice.below(copy.length);
        copy.writeUInt8(copy.readUInt8(place) ^ (1 << dice.below(8)), place);
      }
      return copy;
    }
  }
}

/** Around the bounds of a frame, a text and the count of values. */
function hugeFrame(dice: Dice, tree: Tree): Buffer {
  if (tree.kind !== "map") return write(tree);
  const repeated = (count: number, value: Tree): Tree => ({
    kind: "array",
    items: Array.from({ length: count }, () => value),
    wide: 0,
  });
  const value = dice.pick<() => Tree>([
    () => textOf("x".repeat(dice.pick([786_432, 786_433, 1_048_570]))),
    () => ({ kind: "binary", value: Buffer.alloc(dice.pick([65_536, 65_537, 1_048_000, 1_048_577])), wide: 0 }),
    () => repeated(dice.pick([19_000, 19_999, 20_001, 100_000]), { kind: "nil" }),
    () => repeated(15_000, { kind: "map", entries: [], wide: 4 }),
    () => repeated(6_000, { kind: "map", entries: [[textOf("k"), textOf("value")]], wide: 0 }),
    () => ({
      kind: "map",
      entries: Array.from({ length: 9_000 }, (_, no): Entry => [textOf(`key-${no}`), { kind: "nil" }]),
      wide: 0,
    }),
  ])();
  const at = dice.below(tree.entries.length + 1);
  const entries = dice.chance(0.5)
    ? tree.entries.map((entry, index): Entry => (index === at ? [entry[0], value] : entry))
    : [...tree.entries, [textOf("addedLater"), value] as const];
  return write({ ...tree, entries });
}
