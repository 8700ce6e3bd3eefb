// Asks the running agent for its health line. Invariant: never throws, and ends within its time.
import { connect } from "node:net";
import type { Clock } from "../shared/clock.ts";
import { describeError, errnoOf } from "../shared/errors.ts";
import type { HealthLine } from "./health-line.ts";
import { healthLineSchema, openSocketFolder } from "./health-line.ts";

export type HealthAnswer =
  | { readonly kind: "line"; readonly line: HealthLine }
  /** No socket there. */
  | { readonly kind: "none" }
  /** A socket that nobody listens on, one we may not open, or an answer of another form. */
  | { readonly kind: "silent"; readonly why: string };

/** 256 nodes with their last words fit many times. */
const lineBytesAtMost = 4 * 1024 * 1024;

export function readHealth(
  dataPath: string,
  deps: { readonly clock: Pick<Clock, "after"> },
  withinMs = 2_000,
): Promise<HealthAnswer> {
  return new Promise((resolve) => {
    let folder: ReturnType<typeof openSocketFolder>;
    try {
      folder = openSocketFolder(dataPath, "health.sock");
    } catch (cause) {
      resolve({ kind: "silent", why: describeError(cause) });
      return;
    }
    const chunks: Buffer[] = [];
    let bytes = 0;
    const finish = (answer: HealthAnswer): void => {
      timer.cancel();
      socket.destroy();
      resolve(answer);
    };
    const timer = deps.clock.after(withinMs, () =>
      finish({ kind: "silent", why: `no answer within ${withinMs} ms: the agent's process stands still` }),
    );
    const socket = connect(folder.pathOf("health.sock"));
    socket.on("close", () => folder.close());
    socket.on("error", (cause) =>
      finish(errnoOf(cause) === "ENOENT" ? { kind: "none" } : { kind: "silent", why: describeError(cause) }),
    );
    socket.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > lineBytesAtMost) finish({ kind: "silent", why: `its answer has more than ${lineBytesAtMost} bytes` });
    });
    socket.on("end", () => finish(parse(Buffer.concat(chunks).toString("utf8"))));
  });
}

function parse(text: string): HealthAnswer {
  try {
    return { kind: "line", line: healthLineSchema.parse(JSON.parse(text)) };
  } catch {
    return { kind: "silent", why: "its answer is no health line of this version" };
  }
}
