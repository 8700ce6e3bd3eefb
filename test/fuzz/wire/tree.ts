// MessagePack as a tree of its parts, read and written by a reader of our own: the fuzz changes it at its joints, and what the
// product decodes is compared with what this reader made of the same bytes. Knows nothing of messages.

export type Tree =
  | { readonly kind: "nil" }
  | { readonly kind: "bool"; readonly value: boolean }
  | { readonly kind: "number"; readonly value: number; readonly as: NumberForm }
  | { readonly kind: "text"; readonly value: Buffer; readonly wide: Width }
  | { readonly kind: "binary"; readonly value: Buffer; readonly wide: Width }
  | { readonly kind: "array"; readonly items: readonly Tree[]; readonly wide: Width; readonly lie?: number }
  | { readonly kind: "map"; readonly entries: readonly Entry[]; readonly wide: Width; readonly lie?: number }
  /** Bytes that are no value of this format, or no longer. */
  | { readonly kind: "raw"; readonly value: Buffer };
export type Entry = readonly [key: Tree, value: Tree];
/** Bytes of the length field; 0 is the short form where it fits. A `lie` is written instead of the true length. */
export type Width = 0 | 1 | 2 | 4;
export type NumberForm = "fix" | "u8" | "u16" | "u32" | "u64" | "i8" | "i16" | "i32" | "i64" | "f32" | "f64";

export const textOf = (value: string, wide: Width = 0): Tree => ({ kind: "text", value: Buffer.from(value), wide });
export const numberOf = (value: number, as: NumberForm = "f64"): Tree => ({ kind: "number", value, as });

const heads = {
  text: { short: 0xa0, shortMost: 31, long: { 1: 0xd9, 2: 0xda, 4: 0xdb } },
  binary: { short: 0, shortMost: -1, long: { 1: 0xc4, 2: 0xc5, 4: 0xc6 } },
  array: { short: 0x90, shortMost: 15, long: { 1: 0xdc, 2: 0xdc, 4: 0xdd } },
  map: { short: 0x80, shortMost: 15, long: { 1: 0xde, 2: 0xde, 4: 0xdf } },
} as const;

function head(kind: keyof typeof heads, length: number, wide: Width): Buffer {
  const { short, shortMost, long } = heads[kind];
  if (wide === 0 && length <= shortMost) return Buffer.of(short | length);
  const hasByteForm = kind === "text" || kind === "binary";
  const least = length > 0xffff ? 4 : length > 0xff || !hasByteForm ? 2 : 1;
  const width = wide === 4 || least === 4 ? 4 : wide === 2 || least === 2 ? 2 : 1;
  const bytes = Buffer.alloc(1 + width);
  bytes.writeUInt8(long[width], 0);
  bytes.writeUIntBE(length, 1, width);
  return bytes;
}

const numberHeads: Record<Exclude<NumberForm, "fix">, readonly [number, number]> = {
  u8: [0xcc, 1],
  u16: [0xcd, 2],
  u32: [0xce, 4],
  u64: [0xcf, 8],
  i8: [0xd0, 1],
  i16: [0xd1, 2],
  i32: [0xd2, 4],
  i64: [0xd3, 8],
  f32: [0xca, 4],
  f64: [0xcb, 8],
};

function writeNumber(value: number, as: NumberForm): Buffer {
  if (as === "fix") return Buffer.of(value & 0xff);
  const [type, length] = numberHeads[as];
  const bytes = Buffer.alloc(1 + length);
  bytes.writeUInt8(type, 0);
  if (as === "f64") bytes.writeDoubleBE(value, 1);
  else if (as === "f32") bytes.writeFloatBE(value, 1);
  else {
    const whole = BigInt(Number.isFinite(value) ? Math.trunc(value) : 0);
    const low = BigInt.asUintN(length * 8, whole);
    for (let at = 0; at < length; at += 1)
      bytes.writeUInt8(Number((low >> BigInt(8 * (length - 1 - at))) & 0xffn), 1 + at);
  }
  return bytes;
}

export function write(tree: Tree): Buffer {
  const parts: Buffer[] = [];
  writeInto(parts, tree);
  return Buffer.concat(parts);
}

function writeInto(parts: Buffer[], tree: Tree): void {
  switch (tree.kind) {
    case "nil":
      parts.push(Buffer.of(0xc0));
      return;
    case "bool":
      parts.push(Buffer.of(tree.value ? 0xc3 : 0xc2));
      return;
    case "number":
      parts.push(writeNumber(tree.value, tree.as));
      return;
    case "text":
    case "binary":
      parts.push(head(tree.kind, tree.value.length, tree.wide), tree.value);
      return;
    case "array":
      parts.push(head("array", tree.lie ?? tree.items.length, tree.wide));
      for (const item of tree.items) writeInto(parts, item);
      return;
    case "map":
      parts.push(head("map", tree.lie ?? tree.entries.length, tree.wide));
      for (const [key, value] of tree.entries) {
        writeInto(parts, key);
        writeInto(parts, value);
      }
      return;
    case "raw":
      parts.push(tree.value);
  }
}

/** Reads one value that fills the bytes. Throws at whatever is none: what the pre-scan lets through must be readable here. */
export function read(bytes: Buffer): Tree {
  const [tree, end] = readAt(bytes, 0);
  if (end !== bytes.length) throw new Error(`${bytes.length - end} bytes behind the value`);
  return tree;
}

function readAt(bytes: Buffer, at: number): readonly [Tree, number] {
  const type = bytes.readUInt8(at);
  const after = at + 1;
  if (type <= 0x7f) return [numberOf(type, "fix"), after];
  if (type >= 0xe0) return [numberOf(type - 256, "fix"), after];
  if (type <= 0x8f) return readMap(bytes, { count: type & 15, at: after, wide: 0 });
  if (type <= 0x9f) return readArray(bytes, { count: type & 15, at: after, wide: 0 });
  if (type <= 0xbf) return readBody(bytes, { kind: "text", count: type & 31, at: after, wide: 0 });
  if (type === 0xc0) return [{ kind: "nil" }, after];
  if (type === 0xc2 || type === 0xc3) return [{ kind: "bool", value: type === 0xc3 }, after];
  for (const kind of ["text", "binary", "array", "map"] as const) {
    for (const wide of [1, 2, 4] as const) {
      if (heads[kind].long[wide] !== type || (wide === 1 && (kind === "array" || kind === "map"))) continue;
      const part = { count: bytes.readUIntBE(after, wide), at: after + wide, wide };
      if (kind === "array") return readArray(bytes, part);
      if (kind === "map") return readMap(bytes, part);
      return readBody(bytes, { kind, ...part });
    }
  }
  return readNumber(bytes, type, after);
}

interface Part {
  readonly count: number;
  readonly at: number;
  readonly wide: Width;
}

function readBody(
  bytes: Buffer,
  { kind, count, at, wide }: Part & { readonly kind: "text" | "binary" },
): readonly [Tree, number] {
  if (at + count > bytes.length) throw new Error(`${count} bytes wanted at ${at} of ${bytes.length}`);
  return [{ kind, value: bytes.subarray(at, at + count), wide }, at + count];
}

function readArray(bytes: Buffer, { count, at, wide }: Part): readonly [Tree, number] {
  const items: Tree[] = [];
  let next = at;
  while (items.length < count) {
    const [item, end] = readAt(bytes, next);
    items.push(item);
    next = end;
  }
  return [{ kind: "array", items, wide }, next];
}

function readMap(bytes: Buffer, { count, at, wide }: Part): readonly [Tree, number] {
  const entries: Entry[] = [];
  let next = at;
  while (entries.length < count) {
    const [key, keyEnd] = readAt(bytes, next);
    const [value, end] = readAt(bytes, keyEnd);
    entries.push([key, value]);
    next = end;
  }
  return [{ kind: "map", entries, wide }, next];
}

function readNumber(bytes: Buffer, type: number, at: number): readonly [Tree, number] {
  for (const as of Object.keys(numberHeads) as Exclude<NumberForm, "fix">[]) {
    const [head, length] = numberHeads[as];
    if (head !== type) continue;
    return [numberOf(numberAt(bytes, at, as), as), at + length];
  }
  throw new Error(`type ${type.toString(16)} is none of ours`);
}

function numberAt(bytes: Buffer, at: number, as: NumberForm): number {
  if (as === "f32") return bytes.readFloatBE(at);
  if (as === "f64") return bytes.readDoubleBE(at);
  if (as === "u64") return Number(bytes.readBigUInt64BE(at));
  if (as === "i64") return Number(bytes.readBigInt64BE(at));
  const length = as.endsWith("8") ? 1 : as.endsWith("16") ? 2 : 4;
  return as.startsWith("u") ? bytes.readUIntBE(at, length) : bytes.readIntBE(at, length);
}

/** As plain JavaScript: what the product's decoder is to make of it. Throws at texts and keys that no frame may hold. */
export function plain(tree: Tree): unknown {
  switch (tree.kind) {
    case "nil":
      return null;
    case "bool":
    case "number":
      return tree.value;
    case "text":
      return textIn(tree.value);
    case "binary":
      return tree.value;
    case "array":
      return tree.items.map(plain);
    case "map":
      return plainMap(tree.entries);
    case "raw":
      throw new Error("raw bytes have no value");
  }
}

function textIn(bytes: Buffer): string {
  const text = bytes.toString("utf8");
  if (Buffer.compare(Buffer.from(text), bytes) !== 0) throw new Error("a text that is not UTF-8");
  return text;
}

function plainMap(entries: readonly Entry[]): object {
  const fields = new Map<string, unknown>();
  for (const [key, value] of entries) {
    if (key.kind !== "text" || key.value.length > 64) throw new Error("a key that is no short text");
    const name = textIn(key.value);
    if (["__proto__", "constructor", "prototype"].includes(name) || fields.has(name))
      throw new Error(`the key ${name}`);
    fields.set(name, plain(value));
  }
  return Object.fromEntries(fields);
}
