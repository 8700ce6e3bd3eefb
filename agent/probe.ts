// Dials one address as the agent would and greets with a probe, which changes nothing on the node. For register and doctor.
import type { X509Certificate } from "node:crypto";
import { hostname } from "node:os";
import type { Clock } from "../shared/clock.ts";
import { AppError } from "../shared/errors.ts";
import { bootIdSchema, journalIdSchema } from "../shared/ids.ts";
import { Link, readFrame } from "../shared/link.ts";
import { fromNodeSchema } from "../shared/wire/from-node.ts";
import type { FromAgent } from "../shared/wire/from-agent.ts";
import { ownVersion } from "../shared/version.ts";
import { ownProtocols } from "../shared/wire/version.ts";
import type { Welcome } from "../shared/wire/welcome.ts";
import type { ProbeFailure } from "./diagnosis.ts";
import type { Dial, DialStage, DialTarget } from "./dial.ts";

const knownTypes: ReadonlySet<string> = new Set(fromNodeSchema.options.map((option) => option.shape.type.value));
const nobody = "00000000-0000-4000-8000-000000000000";

export type ProbeResult =
  | {
      readonly ok: true;
      readonly welcome: Welcome;
      readonly roundTripMs: number;
      /** The certificate that was shown and verified. */
      readonly peer: X509Certificate | undefined;
      /** The node's clock less this machine's, to half of the greeting's time; undefined when it does not tell. */
      readonly aheadMs: number | undefined;
    }
  | { readonly ok: false; readonly failure: ProbeFailure; readonly peer: X509Certificate | undefined };

/** Never throws; ends within `withinMs`, which is less than the dial's own limit so that the stage is known. */
export function probe(
  target: DialTarget,
  deps: { readonly dial: Dial; readonly clock: Clock },
  withinMs = 10_000,
): Promise<ProbeResult> {
  return new Promise((resolve) => {
    const startedMs = deps.clock.monotonicMs();
    let stage: DialStage = "dialled";
    let peer: X509Certificate | undefined;
    let greetedWallMs = 0;
    const finish = (result: ProbeResult): void => {
      timer.cancel();
      resolve(result);
    };
    const fail = (end: ProbeFailure["end"]): void => finish({ ok: false, failure: { end, stage }, peer });
    const timer = deps.clock.after(withinMs, () => {
      fail({ kind: "timed-out", afterMs: withinMs });
      socket.terminate();
    });
    const socket = deps.dial(target, {
      onStage: (reached, shown) => {
        stage = reached;
        peer = shown;
      },
      onOpen: () => {
        const link = new Link<FromAgent>({ socket });
        greetedWallMs = deps.clock.wallMs();
        link.send({
          type: "hello",
          probe: true,
          protocols: ownProtocols,
          version: ownVersion(),
          bootCounter: 0,
          bootId: bootIdSchema.parse(nobody),
          journalId: journalIdSchema.parse(nobody),
          attempts: [],
          capabilities: [],
          host: { hostname: hostname(), os: process.platform, arch: process.arch, slots: 0 },
        });
      },
      onFrame: (frame) => {
        const incoming = readFrame(frame, fromNodeSchema, knownTypes);
        if (incoming.kind === "message" && incoming.message.type === "welcome") {
          const { message: welcome } = incoming;
          const halfWayMs = (greetedWallMs + deps.clock.wallMs()) / 2;
          const aheadMs = welcome.wallMs === undefined ? undefined : Math.round(welcome.wallMs - halfWayMs);
          finish({ ok: true, welcome, roundTripMs: deps.clock.monotonicMs() - startedMs, peer, aheadMs });
          socket.close(1000, "probe done");
        } else if (incoming.kind === "refused") {
          fail({ kind: "failed", error: new AppError("frame.invalid", `${target.address}: ${incoming.reason}`) });
          socket.terminate();
        }
      },
      onPong: () => undefined,
      onEnd: fail,
    });
  });
}
