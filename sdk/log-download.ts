// Downloads what is stored of a task's log now, as bytes. Leaves following it to follow.ts.
import { AppError } from "../shared/errors.ts";
import type { Stream } from "../shared/task.ts";
import { taskPath } from "./paths.ts";
import type { Transport } from "./transport.ts";

export interface LogDownload {
  readonly stream?: Stream | "both";
  readonly signal?: AbortSignal;
}

export async function* downloadLog(
  transport: Transport,
  task: string,
  { stream, signal }: LogDownload = {},
): AsyncGenerator<Uint8Array> {
  const response = await transport.response({
    method: "GET",
    path: `${taskPath(task)}/log`,
    query: { stream },
    repeatable: "repeatable",
    signal,
  });
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } catch (cause) {
    throw new AppError("connection.closed", "the log's download broke off", {
      cause,
      mend: "Download it again, or follow it.",
    });
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
