// Dials one address as the agent would and greets with a probe, which changes nothing on the node. For register and doctor.
import { hostname } from "node:os";
import type { Clock } from "../shared/clock.ts";
import { AppError, errorRows } from "../shared/errors.ts";
import { bootIdSchema, journalIdSchema } from "../shared/ids.ts";
import { Link, readFrame } from "../shared/link.ts";
import { fromNodeSchema } from "../shared/wire/from-node.ts";
import type { FromAgent } from "../shared/wire/from-agent.ts";
import { ownVersion } from "../shared/version.ts";
import { ownProtocols } from "../shared/wire/version.ts";
import type { Welcome } from "../shared/wire/welcome.ts";
import type { Dial, DialEnd, DialTarget } from "./dial.ts";

const knownTypes: ReadonlySet<string> = new Set(fromNodeSchema.options.map((option) => option.shape.type.value));
const nobody = "00000000-0000-4000-8000-000000000000";

export type ProbeResult =
  | { readonly ok: true; readonly welcome: Welcome; readonly roundTripMs: number }
  | { readonly ok: false; readonly error: AppError };

/** Never throws; ends within `withinMs`. */
export function probe(
  target: DialTarget,
  deps: { readonly dial: Dial; readonly clock: Clock },
  withinMs = 15_000,
): Promise<ProbeResult> {
  return new Promise((resolve) => {
    const startedMs = deps.clock.monotonicMs();
    const finish = (result: ProbeResult): void => {
      timer.cancel();
      resolve(result);
    };
    const timer = deps.clock.after(withinMs, () => {
      const error = new AppError("operation.timed-out", `${target.address} did not greet within ${withinMs} ms`);
      finish({ ok: false, error });
      socket.terminate();
    });
    const socket = deps.dial(target, {
      onOpen: () => {
        const link = new Link<FromAgent>({ socket });
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
          finish({ ok: true, welcome: incoming.message, roundTripMs: deps.clock.monotonicMs() - startedMs });
          socket.close(1000, "probe done");
        } else if (incoming.kind === "refused") {
          finish({ ok: false, error: new AppError("frame.invalid", `${target.address}: ${incoming.reason}`) });
          socket.terminate();
        }
      },
      onPong: () => undefined,
      onEnd: (end) => finish({ ok: false, error: errorOf(end, target.address) }),
    });
  });
}

function errorOf(end: DialEnd, address: string): AppError {
  switch (end.kind) {
    case "failed":
      return end.error;
    case "rejected": {
      const code =
        end.status === 503 || end.status === 429
          ? "node.draining"
          : end.status === 426
            ? "protocol.unsupported"
            : "tls.refused";
      return new AppError(code, `${address} answered HTTP ${end.status} ${end.detail}`, { mend: errorRows[code].mend });
    }
    case "closed":
      return new AppError("tls.refused", `${address} closed before it greeted: ${end.code} ${end.reason}`);
  }
}
