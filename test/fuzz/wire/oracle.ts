// What must hold of any bytes that arrive as a frame: they are refused with one of two close codes, or accepted as a message
// that another reader reads the same, that stays within the pre-scan's bounds, has no prototype of its own and survives being
// sent on. Throws with what was broken.
import { AppError } from "../../../shared/errors.ts";
import { readFrame } from "../../../shared/link.ts";
import { closeCode } from "../../../shared/wire/close-code.ts";
import { decodeFrame, encodeFrame, frameBytes } from "../../../shared/wire/frame.ts";
import { fromAgentSchema } from "../../../shared/wire/from-agent.ts";
import { fromNodeSchema } from "../../../shared/wire/from-node.ts";
import { prescan, prescanLimits } from "../../../shared/wire/prescan.ts";
import { plain, read } from "./tree.ts";

const schemas = { agent: fromAgentSchema, node: fromNodeSchema };
export type Direction = keyof typeof schemas;
const typesOf = (direction: Direction): ReadonlySet<string> =>
  new Set(schemas[direction].options.map((option) => option.shape.type.value));
const types = { agent: typesOf("agent"), node: typesOf("node") };

export type Verdict = "not a frame" | "not a message" | "message";

/** One frame from `direction`. */
export function judge(frame: Buffer, direction: Direction): Verdict {
  const before = frame.toString("latin1");
  const verdict = judgeOne(frame, direction);
  if (frame.toString("latin1") !== before) throw new Error("the frame itself was changed");
  if (Object.keys(Object.prototype).length > 0 || Object.getOwnPropertyNames(Object.prototype).length !== ownOfObject)
    throw new Error("the prototype of all objects has grown");
  return verdict;
}
const ownOfObject = Object.getOwnPropertyNames(Object.prototype).length;

function judgeOne(frame: Buffer, direction: Direction): Verdict {
  const isScanned = frame.length <= frameBytes && prescan(frame).ok;
  const value = isScanned ? decodeFrame(frame) : refusedFrame(frame);
  if (isScanned) {
    checkBounds(value, frame.length);
    const difference = differenceOf(value, plain(read(frame)), "value");
    if (difference !== undefined) throw new Error(`decoded otherwise than written: ${difference}`);
  }
  const incoming = readFrame<object>(frame, schemas[direction], types[direction]);
  if (incoming.kind === "refused") {
    if (incoming.code !== closeCode.invalidFrame && incoming.code !== closeCode.protocolError)
      throw new Error(`refused with ${incoming.code}`);
    if (incoming.reason.length === 0) throw new Error("refused without a reason");
    return isScanned ? "not a message" : "not a frame";
  }
  if (!isScanned) throw new Error("accepted although the pre-scan refuses it");
  checkBounds(incoming.message, frame.length);
  const changed = changeOf(incoming.message, value, "message");
  if (changed !== undefined) throw new Error(`accepted as something else than was sent: ${changed}`);
  const again = sentOn(incoming.message, frame.length);
  if (again === undefined) return "message";
  const second = readFrame<object>(again, schemas[direction], types[direction]);
  if (second.kind === "refused") throw new Error(`accepted, and refused once sent on: ${second.reason}`);
  const difference = differenceOf(second.message, incoming.message, "message");
  if (difference !== undefined) throw new Error(`another message once sent on: ${difference}`);
  return "message";
}

function refusedFrame(frame: Buffer): undefined {
  try {
    decodeFrame(frame);
  } catch (cause) {
    if (cause instanceof AppError && cause.code === "frame.invalid") return undefined;
    throw new Error(`decoding threw something else: ${String(cause)}`, { cause });
  }
  throw new Error("decoded although the pre-scan refuses it");
}

/** Undefined for a frame whose defaults and wider maps make it too large to send on: a frame in bounds need not fit twice. */
function sentOn(message: object, bytes: number): Buffer | undefined {
  try {
    return encodeFrame(message);
  } catch (cause) {
    if (bytes > frameBytes / 4 && cause instanceof AppError && cause.code === "frame.invalid") return undefined;
    throw cause;
  }
}

function checkBounds(value: unknown, frameLength: number): void {
  let nodes = 0;
  let bytes = 0;
  const visit = (one: unknown, depth: number): void => {
    nodes += 1;
    if (depth > prescanLimits.depth + 1) throw new Error(`${depth} levels`);
    if (typeof one === "string") bytes += one.length;
    else if (one instanceof Uint8Array) bytes += one.byteLength;
    else if (Array.isArray(one)) {
      if (Object.getPrototypeOf(one) !== Array.prototype) throw new Error("an array of another kind");
      for (const item of one) visit(item, depth + 1);
    } else if (typeof one === "object" && one !== null) {
      const prototype: unknown = Object.getPrototypeOf(one);
      if (prototype !== Object.prototype && prototype !== null)
        throw new Error("an object with a prototype of its own");
      for (const [key, item] of Object.entries(one)) {
        if (key === "__proto__") throw new Error("a key __proto__");
        visit(item, depth + 1);
      }
    } else if (
      typeof one === "number" ? !Number.isFinite(one) : one !== null && one !== undefined && typeof one !== "boolean"
    )
      throw new Error(`a value of type ${typeof one}`);
  };
  visit(value, 0);
  // A schema's defaults add a few; nothing may multiply.
  if (nodes > prescanLimits.nodes + 1_000) throw new Error(`${nodes} values`);
  if (bytes > frameLength + 10_000) throw new Error(`${bytes} bytes out of ${frameLength}`);
}

/** Where two values differ; 0 and -0 are one number on this wire, and an absent field is one that is undefined. */
function differenceOf(one: unknown, other: unknown, path: string): string | undefined {
  if (one === other) return undefined;
  if (one instanceof Uint8Array && other instanceof Uint8Array)
    return Buffer.compare(one, other) === 0 ? undefined : `${path}: other bytes`;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null)
    return `${path}: ${String(one).slice(0, 40)} and ${String(other).slice(0, 40)}`;
  if (Array.isArray(one) !== Array.isArray(other)) return `${path}: an array and none`;
  const [ours, theirs] = [new Map(entriesOf(one)), new Map(entriesOf(other))];
  if (ours.size !== theirs.size) return `${path}: ${ours.size} and ${theirs.size} entries`;
  for (const [key, value] of ours) {
    if (!theirs.has(key)) return `${path}.${key.slice(0, 40)}: on one side only`;
    const difference = differenceOf(value, theirs.get(key), `${path}.${key.slice(0, 40)}`);
    if (difference !== undefined) return difference;
  }
  return undefined;
}

const entriesOf = (value: object): (readonly [string, unknown])[] =>
  Object.entries(value).filter(([, one]) => one !== undefined);

/** Where a message says other than what was sent; it may lack fields nobody knows and have defaults for those left out. */
function changeOf(message: unknown, sent: unknown, path: string): string | undefined {
  if (sent === undefined) return undefined;
  if (typeof message !== "object" || typeof sent !== "object" || message === null || sent === null)
    return differenceOf(message, sent, path);
  if (Array.isArray(message) !== Array.isArray(sent)) return `${path}: an array and none`;
  if (Array.isArray(message) && Array.isArray(sent) && message.length !== sent.length)
    return `${path}: ${message.length} of ${sent.length} items`;
  if (message instanceof Uint8Array) return differenceOf(message, sent, path);
  const there = new Map(entriesOf(sent));
  for (const [key, value] of entriesOf(message)) {
    const change = changeOf(value, there.get(key), `${path}.${key.slice(0, 40)}`);
    if (change !== undefined) return change;
  }
  return undefined;
}
