// One pass over the bytes of a frame before anything is allocated for it (SECURITY 4.6): the shape, the bounds and the
// encodings that msgpackr would accept too kindly (extensions, duplicate or prototype keys, bad UTF-8, trailing bytes).
import { isUtf8 } from "node:buffer";

export const prescanLimits = { depth: 16, nodes: 20_000, keyBytes: 64, textBytes: 768 * 1024 } as const;

export type PrescanVerdict = { readonly ok: true } | { readonly ok: false; readonly reason: string };

const accepted: PrescanVerdict = { ok: true };
const refused = (reason: string): PrescanVerdict => ({ ok: false, reason });
const forbiddenKeys = new Set(["__proto__", "constructor", "prototype"]);

interface Open {
  /** Values left to read; a map counts keys and values. */
  left: number;
  readonly keys: Set<string> | undefined;
}

/** Judges one whole msgpack value. Linear in the frame's length; at most 16 levels of bookkeeping. */
export function prescan(frame: Uint8Array): PrescanVerdict {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const open: Open[] = [];
  let at = 0;
  let nodes = 0;
  do {
    if (at >= frame.length) return refused("truncated");
    if (++nodes > prescanLimits.nodes) return refused(`more than ${prescanLimits.nodes} values`);
    const head = readHead(view, at);
    if (typeof head === "string") return refused(head);
    if (head.bodyAt + head.bodyBytes > frame.length) return refused("length beyond the frame");
    const top = open.at(-1);
    const isKey = top?.keys !== undefined && top.left % 2 === 0;
    if (isKey) {
      if (head.kind !== "text" || head.bodyBytes > prescanLimits.keyBytes)
        return refused("map key is not a short string");
      const key = Buffer.from(frame.buffer, frame.byteOffset + head.bodyAt, head.bodyBytes).toString("latin1");
      if (forbiddenKeys.has(key)) return refused("forbidden map key");
      if (top.keys.has(key)) return refused("map key twice");
      top.keys.add(key);
    }
    if (head.kind === "text") {
      if (head.bodyBytes > prescanLimits.textBytes) return refused("string too long");
      if (!isUtf8(frame.subarray(head.bodyAt, head.bodyAt + head.bodyBytes))) return refused("string is not UTF-8");
    }
    at = head.bodyAt + head.bodyBytes;
    if (top !== undefined) top.left -= 1;
    if (head.children > 0) {
      if (open.length >= prescanLimits.depth) return refused(`deeper than ${prescanLimits.depth}`);
      if (head.children > frame.length - at) return refused("more values than bytes");
      open.push({ left: head.children, keys: head.kind === "map" ? new Set() : undefined });
    }
    while (open.at(-1)?.left === 0) open.pop();
  } while (open.length > 0);
  return at === frame.length ? accepted : refused("trailing bytes");
}

interface Head {
  readonly kind: "scalar" | "text" | "binary" | "array" | "map";
  readonly bodyAt: number;
  readonly bodyBytes: number;
  readonly children: number;
}

const scalar = (bodyAt: number, bodyBytes: number): Head => ({ kind: "scalar", bodyAt, bodyBytes, children: 0 });
const sized = (kind: "text" | "binary", bodyAt: number, bodyBytes: number): Head => ({
  kind,
  bodyAt,
  bodyBytes,
  children: 0,
});
const nested = (kind: "array" | "map", bodyAt: number, children: number): Head => ({
  kind,
  bodyAt,
  bodyBytes: 0,
  children,
});

/** Reads one type byte and its length; answers the reason as text when it is refused. Layout: msgpack spec, "Formats". */
function readHead(view: DataView, at: number): Head | string {
  const type = view.getUint8(at);
  if (type <= 0x7f || type >= 0xe0) return scalar(at + 1, 0);
  if (type <= 0x8f) return nested("map", at + 1, (type & 0x0f) * 2);
  if (type <= 0x9f) return nested("array", at + 1, type & 0x0f);
  if (type <= 0xbf) return sized("text", at + 1, type & 0x1f);
  const lengthBytes = lengthFieldOf(type);
  if (at + 1 + lengthBytes > view.byteLength) return "truncated";
  const length =
    lengthBytes === 0
      ? 0
      : lengthBytes === 1
        ? view.getUint8(at + 1)
        : lengthBytes === 2
          ? view.getUint16(at + 1)
          : view.getUint32(at + 1);
  const bodyAt = at + 1 + lengthBytes;
  switch (type) {
    case 0xc0:
    case 0xc2:
    case 0xc3:
      return scalar(at + 1, 0);
    case 0xc4:
    case 0xc5:
    case 0xc6:
      return sized("binary", bodyAt, length);
    case 0xca:
      return at + 5 <= view.byteLength && Number.isFinite(view.getFloat32(at + 1))
        ? scalar(at + 1, 4)
        : "float is not finite";
    case 0xcb:
      return at + 9 <= view.byteLength && Number.isFinite(view.getFloat64(at + 1))
        ? scalar(at + 1, 8)
        : "float is not finite";
    case 0xcc:
    case 0xd0:
      return scalar(at + 1, 1);
    case 0xcd:
    case 0xd1:
      return scalar(at + 1, 2);
    case 0xce:
    case 0xd2:
      return scalar(at + 1, 4);
    case 0xcf:
    case 0xd3:
      return scalar(at + 1, 8);
    case 0xd9:
    case 0xda:
    case 0xdb:
      return sized("text", bodyAt, length);
    case 0xdc:
    case 0xdd:
      return nested("array", bodyAt, length);
    case 0xde:
    case 0xdf:
      return nested("map", bodyAt, length * 2);
    default:
      return "extension or reserved type";
  }
}

function lengthFieldOf(type: number): 0 | 1 | 2 | 4 {
  switch (type) {
    case 0xc4:
    case 0xd9:
      return 1;
    case 0xc5:
    case 0xda:
    case 0xdc:
    case 0xde:
      return 2;
    case 0xc6:
    case 0xdb:
    case 0xdd:
    case 0xdf:
      return 4;
    default:
      return 0;
  }
}
