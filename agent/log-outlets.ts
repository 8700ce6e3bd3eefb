// The way of one attempt's log through the session that is its home.
import type { AttemptId } from "../shared/ids.ts";
import type { Stream } from "../shared/task.ts";
import type { LogOutlet } from "./log-shipper.ts";
import type { Outbox } from "./outbox.ts";

export function logOutlets(
  outbox: Pick<Outbox, "send" | "queued">,
  { attempt, homeNo }: { readonly attempt: AttemptId; readonly homeNo: number },
): Readonly<Record<Stream, LogOutlet>> {
  const outletOf = (stream: Stream): LogOutlet => ({
    send: (offset, content) => outbox.send({ type: "log", attempt, stream, offset, homeNo, content }),
    get queued() {
      return outbox.queued;
    },
  });
  return { out: outletOf("out"), err: outletOf("err") };
}
