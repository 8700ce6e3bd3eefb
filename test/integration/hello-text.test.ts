// A greeting with text that PostgreSQL cannot keep, in each of its fields: NUL, and halves of a surrogate pair, which are no
// UTF-8. It is refused as a frame, before a statement sees it; nothing is stored, and nothing of it is a fault of the node.
import { inspect } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { dial, type DialEnd } from "../../agent/dial.ts";
import { loadIdentity, type Identity } from "../../agent/identity.ts";
import { anyNodeName } from "../../certs/profile.ts";
import { silentLogger, type Logger } from "../../shared/logger.ts";
import { closeCode } from "../../shared/wire/close-code.ts";
import { encodeFrame } from "../../shared/wire/frame.ts";
import { ownProtocols } from "../../shared/wire/version.ts";
import { enrol } from "../harness/enrolled-agent.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";
import { queryRows } from "../harness/query.ts";
import { fromAgentSamples } from "../surface/wire-messages.ts";

let node: TestNode;
let identity: Identity;
/** What the node called worse than news. */
const said: string[] = [];
const keep = (facts: object, text: string): void => void said.push(`${text} ${inspect(facts, { depth: 3 })}`);
const listening: Logger = { ...silentLogger, warn: keep, error: keep, child: () => listening };

beforeAll(async () => {
  node = await startTestNode({}, listening);
  const loaded = await loadIdentity(await enrol(node, { name: "odd-01" }));
  if (loaded === undefined) throw new Error("no identity");
  identity = loaded;
});
afterAll(() => node.stop());

const hello = {
  ...fromAgentSamples.hello,
  protocols: ownProtocols,
  lineage: [fromAgentSamples.hello.bootId],
  host: { ...fromAgentSamples.hello.host, executable: "0.1.0-3b6fbea9b5be" },
};

/** Where text stands in a value, as paths. */
function texts(value: unknown, path: readonly string[] = []): (readonly string[])[] {
  if (typeof value === "string") return [path];
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => texts(inner, [...path, key]));
}

function withText(value: unknown, [key, ...rest]: readonly string[], text: string): unknown {
  if (key === undefined) return text;
  if (Array.isArray(value)) return value.map((item, at) => (String(at) === key ? withText(item, rest, text) : item));
  return { ...(value as object), [key]: withText((value as Record<string, unknown>)[key], rest, text) };
}

/** Three bytes of UTF-8 that nothing else in the frame has; a half of a pair would be written in three as well. */
const mark = "\u{E0AB}";
const odd = {
  NUL: (frame: Buffer) => replace(frame, Buffer.from("a\0b")),
  "a high half of a pair": (frame: Buffer) => replace(frame, Buffer.from([0xed, 0xa0, 0x80])),
  "a low half of a pair": (frame: Buffer) => replace(frame, Buffer.from([0xed, 0xb0, 0x80])),
};

function replace(frame: Buffer, bytes: Buffer): Buffer {
  const at = frame.indexOf(mark);
  if (at < 0) throw new Error("the frame has no mark");
  bytes.copy(frame, at);
  return frame;
}

async function greet(frame: Buffer): Promise<DialEnd> {
  const { key, certificate, nodesCa, cluster } = identity;
  return await new Promise((resolve, reject) => {
    const socket = dial(
      {
        address: `127.0.0.1:${node.node.agentPort}`,
        identity: { key, cert: certificate, nodesCas: nodesCa, servername: anyNodeName(cluster) },
      },
      {
        onOpen: () => socket.send(frame, () => undefined),
        onFrame: () => reject(new Error("the node answered")),
        onPong: () => undefined,
        onEnd: resolve,
      },
    );
  });
}

it.each(Object.keys(odd) as (keyof typeof odd)[])(
  "a hello with %s in any of its texts is refused as a frame, and nothing is stored",
  async (what) => {
    const paths = texts(hello);
    expect(paths.length).toBeGreaterThan(12);
    const before = await queryRows(node.databaseUrl, "select * from agent");
    for (const path of paths) {
      said.length = 0;
      const end = await greet(odd[what](encodeFrame(withText(hello, path, mark) as object)));
      // A type that is none is no message at all; halves are found before anything is read of it.
      const code = path[0] === "type" && what === "NUL" ? closeCode.protocolError : closeCode.invalidFrame;
      expect({ path, end }).toMatchObject({ path, end: { kind: "closed", code } });
      // Said of this agent once a minute.
      expect(said.filter((text) => !text.startsWith("frame refused"))).toEqual([]);
    }
    expect(await queryRows(node.databaseUrl, "select * from agent")).toEqual(before);
  },
);
