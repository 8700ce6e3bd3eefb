// What an agent may do over a WebSocket that is upgraded, before and after its greeting, against a real node with a healthy
// agent beside it: frames that no agent sends, pings without end, true messages without end about attempts that are not its
// own. The node ends the first two with the code for them, reads the last only as fast as it can answer, and holds no more
// of any than is stated here.
import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { generateKeyPair, renewalTranscript, signTranscript } from "../../certs/public-key.ts";
import { claimBytes } from "../../server/store/claim-attempts.ts";
import { mostOfferedBytes } from "../../server/tasks/courier-unanswered.ts";
import { mostIssued } from "../../server/enrolment/renew-agent.ts";
import { newcomersDefaults } from "../../server/gateway/newcomers.ts";
import { heldBytesAtMost } from "../../server/gateway/reading.ts";
import { agentWebSocketServer } from "../../server/gateway/tls-options.ts";
import { systemClock } from "../../shared/clock.ts";
import { outputLimits } from "../../shared/output-variables.ts";
import { itemsPerMessage } from "../../shared/wire/fields.ts";
import { eventually } from "../harness/eventually.ts";
import { queryRows } from "../harness/query.ts";
import { fromAgentSamples } from "../surface/wire-messages.ts";
import { againAndAgain, handshakeBytes, ownBytes, ownDescriptors, withstand } from "./abuse/healthy.ts";
import { frame, type Ending, type RogueLine } from "./abuse/rogue.ts";
import { useScene } from "./abuse/scene.ts";

async function issued(): Promise<number> {
  const [row] = await queryRows(
    await scene().cluster.databaseUrl(),
    `select count(*)::int as n from agent_certificate where agent_id = '${scene().rogue.identity.agentId}'`,
  );
  return Number(row?.["n"]);
}

const scene = useScene();

const { maxPayload, maxFragments, maxBufferedChunks } = agentWebSocketServer;

/** The length of the attack, not a wait. */
const floodMs = 3_000;

/** Messages of which each is one that an agent may send, and which no agent sends so often; made from their number. */
function endless(): readonly [string, (no: number) => object][] {
  const one = randomUUID();
  const some = Array.from({ length: itemsPerMessage }, () => randomUUID());
  const single = Buffer.alloc(1, 7);
  const [result] = fromAgentSamples.result.items;
  const record = { ...result?.record, outputs: [{ name: "ALL", value: "x".repeat(outputLimits.bytes - 3) }] };
  const piece = { type: "log", stream: "out" };
  return [
    [
      "questions about one attempt",
      (no) => ({ type: "resume", items: some.map((_, index) => ({ attempt: one, homeNo: no * some.length + index })) }),
    ],
    [
      "questions about ever more attempts",
      (no) => ({ type: "resume", items: some.map(() => ({ attempt: randomUUID(), homeNo: no })) }),
    ],
    [
      "logs in single bytes",
      (no) => ({
        ...piece,
        attempt: some[no % some.length],
        homeNo: 1,
        offset: Math.floor(no / some.length),
        content: { bytes: single },
      }),
    ],
    [
      "a log of omissions, each of another home",
      (no) => ({ ...piece, attempt: one, homeNo: no, offset: no, content: { omitted: 1 } }),
    ],
    [
      "results with all the outputs that fit",
      (no) => ({ type: "result", items: some.slice(0, 15).map(() => ({ attempt: one, homeNo: no, record })) }),
    ],
    [
      "how far an attempt is",
      (no) => ({ type: "progress", items: some.map((attempt) => ({ attempt, homeNo: no, percent: 1, message: "x" })) }),
    ],
  ];
}

describe("a session", () => {
  const some = Buffer.alloc(1, 7);
  /** The attack, and how the node has to end the connection. */
  const attacks: readonly [string, Ending["by"], (line: RogueLine) => Promise<void>][] = [
    [
      "fragments of one byte",
      1008,
      async (line) => {
        for (let no = 0; no <= maxFragments && line.isOpen; no += 1)
          line.write(frame({ opcode: no === 0 ? "binary" : "continuation", payload: some, fin: false }));
      },
    ],
    [
      "a message in single bytes",
      1008,
      async (line) => {
        line.write(frame({ opcode: "binary", payload: Buffer.alloc(0), declaredBytes: BigInt(maxPayload) }));
        for (let no = 0; no <= maxBufferedChunks && line.isOpen; no += 1) await line.writeAlone(some);
      },
    ],
    ["a length of 2^62", 1009, async (line) => void line.write(frame({ opcode: "binary", declaredBytes: 2n ** 62n }))],
    [
      "a length of 2 GiB, and bytes without end",
      1009,
      async (line) => {
        line.write(frame({ opcode: "binary", declaredBytes: 2n ** 31n }));
        for (let no = 0; no < 64 && line.isOpen; no += 1) {
          line.write(Buffer.alloc(maxPayload / 16));
          await line.drained();
        }
      },
    ],
    [
      "one byte more than a message may have",
      1009,
      async (line) => void line.write(frame({ opcode: "binary", payload: Buffer.alloc(maxPayload + 1) })),
    ],
    [
      "one byte more, in two fragments",
      1009,
      async (line) => {
        line.write(frame({ opcode: "binary", payload: Buffer.alloc(maxPayload), fin: false }));
        line.write(frame({ opcode: "continuation", payload: some }));
      },
    ],
    [
      "a control frame of 126 bytes",
      1002,
      async (line) => void line.write(frame({ opcode: "ping", payload: Buffer.alloc(126) })),
    ],
  ];

  const { perAgent } = newcomersDefaults;
  /** How many there may be at once of an agent. */
  const stages: readonly [string, number, () => Promise<RogueLine>][] = [
    ["not yet greeted", perAgent, () => scene().rogue.upgrade()],
    ["greeted", 1, () => scene().rogue.greet()],
  ];

  it.each(stages)("%s, that sends what no agent sends is ended with the code for it", async (stage, each, open) => {
    await withstand(scene(), {
      name: `frames that no agent sends, ${stage}`,
      // A message may be held whole by each of them, and be garbage for a while.
      caps: {
        descriptors: 2 * each + ownDescriptors,
        bytes: ownBytes + each * (handshakeBytes + attacks.length * maxPayload),
      },
      async attack() {
        return await againAndAgain(async () => {
          for (const [what, by, act] of attacks) {
            const lines = await Promise.all(Array.from({ length: each }, open));
            await Promise.all(lines.map(act));
            const endings = await Promise.all(lines.map(({ ended }) => ended));
            expect({ what, by: new Set(endings.map((ending) => ending.by)) }).toEqual({ what, by: new Set([by]) });
          }
        });
      },
    });
  });

  it.each(stages)(
    "%s, that is flooded with pings is ended when its pongs pile up, and a few at a time are answered",
    async (stage, _each, open) => {
      const ping = frame({ opcode: "ping", payload: Buffer.alloc(125) });
      const flood = Buffer.concat(Array.from({ length: 1_000 }, () => ping));
      await withstand(scene(), {
        name: `floods of pings, ${stage}`,
        caps: { descriptors: 2 + ownDescriptors, bytes: ownBytes + 2 * (handshakeBytes + maxPayload) },
        async attack() {
          return await againAndAgain(async () => {
            const reader = await open();
            for (let no = 1; no <= 200; no += 1) {
              reader.write(ping);
              await reader.ponged(no);
            }
            expect(reader.pongs).toBeGreaterThanOrEqual(200);
            reader.destroy();
            for (const hears of [true, false]) {
              const line = await open();
              if (!hears) line.deafen();
              for (let no = 0; no < 400 && line.isOpen; no += 1) {
                line.write(flood);
                await line.drained();
              }
              line.listen();
              // Without a word: who does not take its pongs would not take that either.
              expect(await line.ended).toEqual({ by: null });
            }
          });
        },
      });
    },
  );

  it(
    "that says true things without end of attempts that are not its own is read as fast as it is answered",
    { timeout: 300_000 },
    async () => {
      await withstand(scene(), {
        name: "messages without end",
        caps: {
          descriptors: 2 + ownDescriptors,
          // What waits, twice for what its count leaves out; and a heap in which garbage is made so fast grows to several
          // times what lives in it before it is collected.
          bytes: 5 * (ownBytes + 2 * heldBytesAtMost),
        },
        async attack() {
          return await againAndAgain(async () => {
            for (const [what, message] of endless()) {
              const line = await scene().rogue.greet();
              const untilMs = systemClock.monotonicMs() + floodMs;
              let said = 0;
              for (; line.isOpen && systemClock.monotonicMs() < untilMs; said += 1) {
                line.say(message(said));
                await line.drained();
              }
              expect({ what, isOpen: line.isOpen, said: said >= 10 }).toEqual({ what, isOpen: true, said: true });
              line.destroy();
              await line.ended;
            }
          });
        },
      });
    },
  );

  it(
    "that speaks and does not read is offered no more than is stated, and is ended within minutes",
    { timeout: 300_000 },
    async () => {
      // Queued before the node's memory is looked at: they are in the database, and the agent is not connected.
      const script = `#${"x".repeat(500_000)}`;
      for (let no = 0; no < 40; no += 1) {
        const task = { on: "rogue-01", spec: { kind: "script" as const, script } };
        await scene().cluster.client.submit({ tasks: Array.from({ length: 10 }, () => task) });
      }
      await withstand(scene(), {
        name: "large tasks for an agent that does not read",
        caps: {
          descriptors: 2 + ownDescriptors,
          // What is offered, and what one claim brings beyond it; twice, for the text that comes from the database and what
          // is made of it. Without bounds: 192 offers, 96 MB of text.
          bytes: ownBytes + 2 * (mostOfferedBytes + claimBytes.lane + maxPayload),
        },
        async attack() {
          const line = await scene().rogue.greet();
          line.say({ type: "ready", work: 400, system: 0 });
          line.deafen();
          return async () => {
            for (let no = 0; line.isOpen; no += 1) {
              line.say({
                type: "progress",
                items: [{ attempt: randomUUID(), homeNo: no, percent: 1, message: "x" }],
              });
              await Promise.race([line.ended, systemClock.sleep(500)]);
            }
            expect(await line.ended).toEqual({ by: null });
          };
        },
      });
      await eventually("what it was offered is anybody's again", async () => {
        const rows = await queryRows(
          await scene().cluster.databaseUrl(),
          `select count(*)::int as n, count(*) filter (where offer_until > clock_timestamp())::int as held
          from attempt where agent_id = '${scene().rogue.identity.agentId}' and rank < 2`,
        );
        return { done: rows[0]?.["n"] === 400 && rows[0]["held"] === 0, state: rows };
      });
    },
  );

  it("that renews its certificate without end is given so many an hour, and is heard in all else", async () => {
    const { agentId, cluster: name } = scene().rogue.identity;
    const before = await issued();
    const line = await scene().rogue.greet();
    const renew = (): void => {
      const { publicKeySpki, privateKeyPem } = generateKeyPair();
      const transcript = renewalTranscript({ cluster: name, agentId, publicKeySpki });
      line.say({ type: "renew", spki: publicKeySpki, proof: signTranscript(privateKeyPem, transcript) });
    };
    // The welcome, and the certificate of its enrolment, which counts as well.
    for (let no = 1; no < mostIssued.count; no += 1) {
      renew();
      await line.answered(1 + no);
    }
    for (let no = 0; no < 100; no += 1) renew();
    const [, question] = endless()[0] ?? [];
    for (let no = 0; no < 3; no += 1) line.say(question?.(no) ?? {});
    await line.answered(mostIssued.count + 1);
    expect(line.isOpen).toBe(true);
    const { program } = scene().cluster.server;
    await eventually("the node says that it refused one", () => {
      const said = program.output.split("a certificate was not renewed").length - 1;
      return { done: said > 0, state: program.output.slice(-2_000) };
    });
    expect(program.output.split("a certificate was not renewed")).toHaveLength(2);
    expect((await issued()) - before).toBe(mostIssued.count - 1);
    line.destroy();
    await line.ended;
  });
});
