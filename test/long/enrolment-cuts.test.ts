// An enrolment over HTTP, cut at every 37th byte of each direction of its two requests, by a seeded phase: repeated with the
// same token and folder, as a person does, it ends with one agent and a certificate that is its own (faults 58 and 90).
import { join } from "node:path";
import { expect, test } from "vitest";
import { loadIdentity } from "../../agent/identity.ts";
import { registerAgent } from "../../agent/register.ts";
import { FaultProxy, type Direction } from "../harness/fault-proxy.ts";
import { startTestNode } from "../harness/node.ts";

const seed = Number(process.env["HOLDFAST_SEED"] ?? Date.now() % 1_000_000);
const step = process.env["HOLDFAST_EVERY_BYTE"] === "1" ? 1 : 37;
const phase = seed % step;
const limitMs = step === 1 ? 7_200_000 : 400_000;

interface Cut {
  /** 0: the greeting, 1: the request. */
  readonly connection: number;
  readonly direction: Direction;
  readonly bytes: number;
}

/** A connection for each request, so that the bytes of each are counted from its start. */
const fetchOnce: typeof fetch = (input, init) => {
  const headers = new Headers(init?.headers);
  headers.set("connection", "close");
  return fetch(input, { ...init, headers });
};

test(
  `an enrolment cut at any byte is done by doing it again (seed ${seed}, every ${step})`,
  { timeout: limitMs },
  async () => {
    const node = await startTestNode();
    let armed: Cut | undefined;
    let before = 0;
    const proxy = await FaultProxy.start({
      target: { host: "127.0.0.1", port: Number(new URL(node.url).port) },
      seed,
      plan: (number) =>
        armed === undefined || number - before !== armed.connection
          ? {}
          : { [armed.direction]: { cut: { after: { bytes: armed.bytes }, act: "reset" } } },
    });
    try {
      const server = `http://127.0.0.1:${proxy.port}`;
      let enrolled = 0;
      const enrol = async (cut?: Cut): Promise<void> => {
        const name = `web-${(enrolled += 1)}`;
        const { token } = await node.client.tokens.create({});
        const dataPath = join(node.folder, name);
        armed = cut;
        before = proxy.connections.length;
        const register = () => registerAgent({ server, token, name, dataPath }, { fetch: fetchOnce });
        const { agentId } = await register().catch(register);
        const { id } = await node.client.agents.show(name);
        expect({ cut, id, kept: (await loadIdentity(dataPath))?.agentId }).toEqual({ cut, id: agentId, kept: agentId });
      };
      await enrol();
      const cuts: Cut[] = proxy.connections.flatMap(({ number, ...lengths }) =>
        (["toTarget", "toClient"] as const).flatMap((direction) =>
          Array.from({ length: Math.ceil((lengths[direction] - phase) / step) }, (_, index) => ({
            connection: number,
            direction,
            bytes: phase + index * step,
          })),
        ),
      );
      expect(cuts.length).toBeGreaterThan(100);
      for (const cut of cuts) await enrol(cut);
      process.stdout.write(`enrolment: ${proxy.cuts} of ${cuts.length} cuts, seed ${seed}\n`);
      expect(proxy.cuts).toBeGreaterThan(cuts.length * 0.9);
    } finally {
      await proxy[Symbol.asyncDispose]();
      await node.stop();
    }
  },
);
