// The link over a socket that takes bytes when a test lets it: order between control and bulk, bounds, and what it
// makes of frames it receives. Version negotiation beside it.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Link, readFrame, type FrameSocket } from "../../../shared/link.ts";
import { closeCode } from "../../../shared/wire/close-code.ts";
import { decodeFrame, encodeFrame } from "../../../shared/wire/frame.ts";
import { fromAgentSchema } from "../../../shared/wire/from-agent.ts";
import { itemsPerMessage } from "../../../shared/wire/fields.ts";
import { negotiate, ownProtocols, protocolRangeSchema } from "../../../shared/wire/version.ts";

interface Sent {
  readonly type: string;
  readonly attempt?: string;
  readonly name?: string;
  readonly items?: readonly unknown[];
}

/** Takes frames and keeps them as unsent bytes until `flush`. */
class FakeSocket implements FrameSocket {
  bufferedAmount = 0;
  readonly taken: Sent[] = [];
  readonly closes: [number, string][] = [];
  pings = 0;
  readonly #done: (() => void)[] = [];

  send(frame: Uint8Array, done: () => void): void {
    this.taken.push(decodeFrame(frame) as Sent);
    this.bufferedAmount += frame.length;
    this.#done.push(done);
  }
  ping(): void {
    this.pings += 1;
  }
  close(code: number, reason: string): void {
    this.closes.push([code, reason]);
  }
  terminate(): void {}

  /** The kernel takes everything buffered so far. */
  flush(): void {
    this.bufferedAmount = 0;
    for (const done of this.#done.splice(0)) done();
  }
}

const names = (socket: FakeSocket) => socket.taken.map(({ name }) => name);
const log = (attempt: string, name: string): Sent => ({ type: "log", attempt, name });
const control = (name: string, ...attempts: string[]): Sent => ({
  type: "one",
  name,
  ...(attempts[0] === undefined ? {} : { attempt: attempts[0] }),
});

/** A link whose socket is full until the first flush. */
function congested() {
  const socket = new FakeSocket();
  const link = new Link<Sent>({ socket }, { socketBytes: 1 });
  link.send({ type: "one", name: "first" });
  return { socket, link };
}

function drain(socket: FakeSocket, link: Link<Sent>): void {
  while (link.queued > 0 || socket.bufferedAmount > 0) socket.flush();
}

const isSome = (bytes: number): boolean => bytes > 0;

describe("a link", () => {
  it("says how many bytes wait, and which frames the kernel has taken", () => {
    const { socket, link } = congested();
    link.send(control("large"), 500_000);
    link.send({ type: "log", attempt: "a" }, 7);
    link.send({ type: "many", items: ["x"] }, 20);
    link.send({ type: "many", items: ["y"] }, 30);
    link.send(control("small"));
    expect(link).toMatchObject({ waitingBytes: 500_057, writingBytes: expect.toSatisfy(isSome), written: 0 });
    socket.flush();
    expect(link).toMatchObject({ waitingBytes: 57, writingBytes: expect.toSatisfy(isSome), written: 1 });
    drain(socket, link);
    // The two of one type shared a frame.
    expect(link).toMatchObject({ waitingBytes: 0, writingBytes: 0, written: 5 });
  });

  it("hands frames to the socket at once while it takes them", () => {
    const socket = new FakeSocket();
    const link = new Link<Sent>({ socket });
    link.send(control("a"));
    link.send(log("x", "b"));
    expect([names(socket), link.queued]).toEqual([["a", "b"], 0]);
  });

  it("keeps frames back while the socket holds more than its share, and goes on when it has sent them", () => {
    const { socket, link } = congested();
    link.send(control("second"));
    expect([names(socket), link.queued]).toEqual([["first"], 1]);
    socket.flush();
    expect(names(socket)).toEqual(["first", "second"]);
  });

  it("lets control overtake the bulk of other attempts", () => {
    const { socket, link } = congested();
    for (const name of ["log 1", "log 2"]) link.send(log("x", name));
    link.send(control("about y", "y"));
    link.send(control("about nothing"));
    drain(socket, link);
    expect(names(socket)).toEqual(["first", "about y", "about nothing", "log 1", "log 2"]);
  });

  it("keeps a control frame behind the queued bulk of its own attempt, and overtakes again once that has left", () => {
    const { socket, link } = congested();
    link.send(log("x", "log 1"));
    link.send(control("result of x", "x"));
    link.send(log("y", "log of y"));
    link.send(control("about z", "z"));
    drain(socket, link);
    expect(names(socket)).toEqual(["first", "about z", "log 1", "result of x", "log of y"]);
    link.send(control("blocks"));
    link.send(log("y", "log 2 of y"));
    link.send(control("again about x", "x"));
    drain(socket, link);
    expect(names(socket).slice(5)).toEqual(["blocks", "again about x", "log 2 of y"]);
  });

  it("looks at every attempt a message carries, as objects or as plain ids", () => {
    const { socket, link } = congested();
    link.send(log("x", "log"));
    link.send({ type: "result", name: "objects", items: [{ attempt: "q" }, { attempt: "x" }] });
    link.send({ type: "inquire", name: "ids", items: ["q"] });
    link.send({ type: "inquire", name: "others", items: ["r"] });
    drain(socket, link);
    // "ids" is about q, which waits in bulk with the message before it.
    expect(names(socket)).toEqual(["first", "others", "log", "objects", "ids"]);
  });

  it("keeps the order of each attempt's frames whatever is sent", () => {
    const message = fc.record({ attempt: fc.constantFrom("a", "b", "c"), bulk: fc.boolean(), flush: fc.boolean() });
    fc.assert(
      fc.property(fc.array(message, { maxLength: 60 }), (messages) => {
        const { socket, link } = congested();
        for (const [index, { attempt, bulk, flush }] of messages.entries()) {
          link.send({ type: bulk ? "log" : "one", attempt, name: String(index) });
          if (flush) socket.flush();
        }
        drain(socket, link);
        expect(socket.taken).toHaveLength(messages.length + 1);
        for (const attempt of ["a", "b", "c"]) {
          const order = socket.taken.filter((sent) => sent.attempt === attempt).map((sent) => Number(sent.name));
          expect(order).toEqual(order.toSorted((x, y) => x - y));
        }
      }),
    );
  });

  it("joins neighbours of one type into one frame, up to the items a message may have, in order", () => {
    const { socket, link } = congested();
    const items = Array.from({ length: 70 }, (_, index) => ({ attempt: `a${index}` }));
    for (const item of items) link.send({ type: "accept", items: [item] });
    link.send({ type: "started", items: [{ attempt: "a0" }] });
    link.send({ type: "accept", items: [{ attempt: "last" }] });
    drain(socket, link);
    expect(socket.taken.slice(1).map((sent) => [sent.type, sent.items?.length])).toEqual([
      ["accept", itemsPerMessage],
      ["accept", 6],
      ["started", 1],
      ["accept", 1],
    ]);
    const joined = socket.taken.slice(1, 3).flatMap((sent) => sent.items ?? []);
    expect(joined).toEqual(items);
  });

  it("never joins offers, which are packed by size already", () => {
    const { socket, link } = congested();
    for (const attempt of ["a", "b"]) link.send({ type: "offer", items: [{ attempt }] });
    drain(socket, link);
    expect(socket.taken.slice(1).map((sent) => sent.items?.length)).toEqual([1, 1]);
  });

  it("closes with 1009 at the bound of a queue, for its peer reads too slowly", () => {
    const socket = new FakeSocket();
    const link = new Link<Sent>({ socket }, { socketBytes: 1, queuedMessages: 3 });
    for (let count = 0; count < 4; count += 1) link.send(control(String(count)));
    expect([socket.closes, link.queued]).toEqual([[], 3]);
    link.send(control("too many"));
    expect(socket.closes).toEqual([[closeCode.tooLarge, "send queue full"]]);
  });

  it("sends nothing after close, pings nothing, and closes once with a reason that fits a close frame", () => {
    const socket = new FakeSocket();
    const link = new Link<Sent>({ socket });
    link.close(4001, "r".repeat(500));
    link.close(4002, "again");
    link.send(control("late"));
    link.ping();
    expect([socket.taken, socket.pings, socket.closes]).toEqual([[], 0, [[4001, "r".repeat(123)]]]);
  });

  it.each([
    ["three bytes each", "€".repeat(60), "€".repeat(41)],
    ["four bytes each", `ab${"🦀".repeat(40)}`, `ab${"🦀".repeat(30)}`],
  ])("cuts a reason of characters with %s to what a close frame holds", (_what, reason, left) => {
    const socket = new FakeSocket();
    new Link<Sent>({ socket }).close(4001, reason);
    expect(socket.closes).toEqual([[4001, left]]);
    expect(Buffer.byteLength(left)).toBeLessThanOrEqual(123);
  });

  it("sends what a turn gathered before it closes", () => {
    const socket = new FakeSocket();
    const turn: (() => void)[] = [];
    const link = new Link<Sent>({ socket, defer: (act) => void turn.push(act) });
    link.send(control("last words"));
    expect(socket.taken).toEqual([]);
    link.close(1001, "bye");
    expect(names(socket)).toEqual(["last words"]);
    for (const act of turn) act();
    expect(names(socket)).toEqual(["last words"]);
  });
});

describe("reading a frame", () => {
  const known = new Set(["ready", "hello"]);
  const read = (frame: Uint8Array) => readFrame(frame, fromAgentSchema, known);

  it("answers the message a schema knows, without fields it does not know", () => {
    expect(read(encodeFrame({ type: "ready", work: 1, system: 2, later: "ignored" }))).toEqual({
      kind: "message",
      message: { type: "ready", work: 1, system: 2 },
    });
  });

  it.each([
    ["an unknown type", encodeFrame({ type: "teleport" }), closeCode.protocolError, /unknown message type "teleport"/],
    ["a reserved type", encodeFrame({ type: "call" }), closeCode.protocolError, /unknown message type "call"/],
    ["no type", encodeFrame({ work: 1 }), closeCode.protocolError, /unknown message type/],
    ["a value that is no map", Buffer.of(0x01), closeCode.protocolError, /unknown message type/],
    [
      "a known type with a wrong field",
      encodeFrame({ type: "ready", work: -1, system: 0 }),
      closeCode.invalidFrame,
      /^ready: /,
    ],
    ["bytes the pre-scan refuses", Buffer.of(0xc1), closeCode.invalidFrame, /frame refused/],
  ])("names the close code for %s", (_what, frame, code, reason) => {
    expect(read(frame)).toEqual({ kind: "refused", code, reason: expect.stringMatching(reason) });
  });
});

describe("the reason of a refused frame", () => {
  it("is the first thing wrong, in one short line, however much is", () => {
    const attempts = Array.from({ length: 1_000 }, () => ({ attempt: "x\n".repeat(100) }));
    const incoming = readFrame(encodeFrame({ type: "hello", attempts }), fromAgentSchema, new Set(["hello"]));
    expect(incoming.kind === "refused" && incoming.reason).toMatch(/^hello: protocols [^\n]{1,180}$/);
  });
});

describe("version negotiation", () => {
  it("picks the highest version both ranges hold, or none", () => {
    const range = fc
      .tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }))
      .map(([a, b]) => ({ min: Math.min(a, b), max: Math.max(a, b) }));
    fc.assert(
      fc.property(range, range, (theirs, ours) => {
        const common = Array.from({ length: 10 }, (_, version) => version).filter((version) =>
          [theirs, ours].every(({ min, max }) => version >= min && version <= max),
        );
        expect(negotiate(theirs, ours)).toBe(common.at(-1));
      }),
    );
  });

  it("serves its own range", () => {
    expect(negotiate(ownProtocols)).toBe(ownProtocols.max);
    expect(negotiate({ min: ownProtocols.max + 1, max: 99 })).toBeUndefined();
  });

  it("takes no range that is upside down or empty", () => {
    for (const range of [{ min: 2, max: 1 }, { min: 0, max: 1 }, { min: 1.5, max: 2 }, {}])
      expect(protocolRangeSchema.safeParse(range).success).toBe(false);
  });
});
