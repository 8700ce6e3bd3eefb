// Connections that mean ill (faults 98 to 100), against a real node with a healthy agent beside them: handshakes that never
// end, requests byte by byte, upgrades without a greeting. What is sent over a WebSocket is session-abuse.test.ts's. The caps are made of the node's own
// limits; what a connection of each kind costs is stated here. Afterwards the node has let go of all of them.
import { describe, expect, it } from "vitest";
import { apiConnectionsDefaults } from "../../server/api/connections.ts";
import { newcomersDefaults } from "../../server/gateway/newcomers.ts";
import { waitingLineDefaults } from "../../server/gateway/waiting-line.ts";
import { systemClock } from "../../shared/clock.ts";
import { closeCode } from "../../shared/wire/close-code.ts";
import { eventually } from "../harness/eventually.ts";
import { clientHello } from "./abuse/client-hello.ts";
import { addresses, Crowd } from "./abuse/crowd.ts";
import { againAndAgain, handshakeBytes, ownBytes, ownDescriptors, withstand } from "./abuse/healthy.ts";
import { frame, upgradeRequest } from "./abuse/rogue.ts";
import { useScene } from "./abuse/scene.ts";

/** A socket that nobody reads, or one of plain HTTP with a part of a head. */
const socketBytes = 16 * 1024;

const { underWayAtMost, waitingAtMost } = waitingLineDefaults;
const strangers = underWayAtMost + waitingAtMost;
const doorCaps = {
  descriptors: strangers + ownDescriptors,
  bytes: ownBytes + underWayAtMost * handshakeBytes + waitingAtMost * socketBytes,
};
const apiCaps = {
  descriptors: apiConnectionsDefaults.most + ownDescriptors,
  bytes: ownBytes + apiConnectionsDefaults.most * socketBytes,
};

const scene = useScene();

const refusals = async (): Promise<Record<string, number>> => {
  const text = await (
    await fetch(`${scene().cluster.server.url}/metrics`, {
      headers: { authorization: `Bearer ${scene().cluster.apiKey}` },
    })
  ).text();
  return Object.fromEntries(
    [
      ...text.matchAll(
        /^holdfast_(?:gateway_connects_refused|api_connections_closed)_total\{reason="([^"]+)"\} (\d+)/gm,
      ),
    ].map(([, reason = "", count]) => [reason, Number(count)]),
  );
};

/** Waits until the node has ended every one by itself. */
async function expectForsaken(what: string, crowd: { readonly held: number }): Promise<void> {
  await eventually(`the node has ended ${what}`, () => ({ done: crowd.held === 0, state: crowd.held }), {
    limitMs: 60_000,
  });
}

describe("the agents' door", () => {
  it("10,000 half-open handshakes of 20 addresses are held within the line's bounds, and an agent that comes gets in", async () => {
    const hello = await clientHello();
    const crowd = { count: 10_000, addresses: addresses(20), port: scene().cluster.server.agentPort };
    // Nothing at all, the half of a greeting, and a whole one whose answer is never answered.
    const said = [Buffer.alloc(0), hello.subarray(0, hello.length / 2), hello];
    await withstand(scene(), {
      name: "half-open handshakes",
      caps: doorCaps,
      async attack() {
        const gathered = await Crowd.gather({ ...crowd, says: (no) => said[no % said.length] ?? hello });
        expect(gathered.accepted).toBe(crowd.count);
        // Far from all are gone already: the script that follows runs beside them.
        expect(gathered.held).toBeGreaterThan(underWayAtMost / 2);
        return async () => {
          const late = await scene().cluster.startAgent({ name: "late-01" });
          await late.program.stop();
          await gathered.leave();
        };
      },
    });
  });

  it("handshakes and requests byte by byte, and upgrades that never greet, are ended by the node itself", async () => {
    const hello = await clientHello();
    const before = await refusals();
    const each = 40;
    await withstand(scene(), {
      name: "slow handshakes, requests and greetings",
      caps: {
        descriptors: 4 * each + ownDescriptors,
        bytes: ownBytes + 4 * each * handshakeBytes,
      },
      async attack() {
        const port = scene().cluster.server.agentPort;
        const slowTls = await Crowd.gather({ port, count: each, addresses: addresses(4), goesOn: () => hello });
        const garbage = await Crowd.gather({
          port,
          count: each,
          addresses: addresses(4),
          says: () => Buffer.from("GET / HTTP/1.1\r\nHost: node\r\n\r\n"),
        });
        slowTls.drip(500);
        const lines = await Promise.all(Array.from({ length: each }, () => scene().rogue.dial()));
        let said = 0;
        const slowHead = systemClock.every(500, () => {
          for (const line of lines.slice(0, each / 2)) line.write(upgradeRequest.slice(said, said + 1));
          said += 1;
        });
        const greeting = await Promise.all(
          Array.from({ length: newcomersDefaults.perAgent }, () => scene().rogue.upgrade()),
        );
        // Signs of life are no greeting.
        const alive = systemClock.every(500, () => {
          for (const line of greeting) line.write(frame({ opcode: "ping" }));
        });
        return async () => {
          await expectForsaken("what is no TLS", garbage);
          await expectForsaken("slow handshakes", slowTls);
          const endings = await Promise.all(greeting.map(({ ended }) => ended));
          expect(new Set(endings.map(({ by }) => by))).toEqual(new Set([closeCode.silent]));
          await expectForsaken("slow requests and silent ones", scene().rogue);
          slowHead.cancel();
          alive.cancel();
          await slowTls.leave();
          await garbage.leave();
        };
      },
    });
    expect((await refusals())["tls"]).toBeGreaterThanOrEqual((before["tls"] ?? 0) + 2 * each);
  });

  it("an agent that opens connections without end and greets on none holds a few of them", async () => {
    const { perAgent } = newcomersDefaults;
    // One handshake is under way at a time, and what was cut off may take a turn of the loop.
    await withstand(scene(), {
      name: "upgrades without a greeting",
      caps: { descriptors: 4 * perAgent + ownDescriptors, bytes: ownBytes + 4 * perAgent * handshakeBytes },
      async attack() {
        const end = await againAndAgain(async () => {
          for (let no = 0; no < 100; no += 1) await scene().rogue.upgrade();
        });
        return async () => {
          await end();
          await eventually("all but a few are ended", () => ({
            done: scene().rogue.held <= perAgent,
            state: scene().rogue.held,
          }));
          await scene().rogue.leave();
        };
      },
    });
  });
});

describe("the API", () => {
  it("is not held by requests that come byte by byte, and ends them itself", async () => {
    const { most } = apiConnectionsDefaults;
    const head = "GET /api/v1/tasks HTTP/1.1\r\nHost: node\r\nX-Slow: ";
    const body =
      "POST /api/v1/enrolment HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{";
    const said = ["", head, body];
    await withstand(scene(), {
      name: "slow requests to the API",
      caps: apiCaps,
      async attack() {
        const crowd = await Crowd.gather({
          port: Number(new URL(scene().cluster.server.url).port),
          count: most + 2_000,
          addresses: addresses(20),
          says: (no) => Buffer.from(said[no % said.length] ?? ""),
          goesOn: (no) => Buffer.from(no % said.length === 0 ? "" : " "),
        });
        crowd.drip(1_000);
        expect(crowd.accepted).toBe(most + 2_000);
        expect(crowd.held).toBeGreaterThan(most / 2);
        return async () => {
          await eventually("the node has ended what was too many", () => ({
            done: crowd.held <= most,
            state: crowd.held,
          }));
          const late = await scene().cluster.startAgent({ name: "late-02" });
          await late.program.stop();
          // A body has a minute.
          await eventually("the node has ended silent callers and slow heads", () => ({
            done: crowd.held <= most / 2,
            state: crowd.held,
          }));
          await crowd.leave();
        };
      },
    });
  });
});
