// Server-sent events out of bytes (WHATWG HTML, section 9.2). An event counts only once its blank line arrived, so a
// connection cut in the middle of one leaves nothing behind.
import { AppError } from "../shared/errors.ts";

export interface ServerEvent {
  readonly event: string;
  readonly id: string | undefined;
  readonly data: string;
}

/** Far over the server's 64 KiB of log per event. */
const longestEventChars = 4 * 1024 * 1024;

/** Calls `onBytes` whenever anything arrives, comments too: proof of life. */
export async function* readEvents(body: ReadableStream<Uint8Array>, onBytes: () => void): AsyncGenerator<ServerEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let fields = new EventFields();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      onBytes();
      rest += decoder.decode(value, { stream: true });
      let start = 0;
      for (let end = rest.indexOf("\n", start); end >= 0; end = rest.indexOf("\n", start)) {
        const line = rest.slice(start, rest[end - 1] === "\r" && end > start ? end - 1 : end);
        start = end + 1;
        if (line !== "") {
          fields.add(line);
          continue;
        }
        const event = fields.event();
        fields = new EventFields();
        if (event !== undefined) yield event;
      }
      rest = rest.slice(start);
      if (rest.length + fields.chars > longestEventChars)
        throw new AppError("frame.invalid", "an event of the server is larger than 4 MiB");
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

class EventFields {
  #event = "message";
  #id: string | undefined;
  readonly #data: string[] = [];
  chars = 0;

  add(line: string): void {
    this.chars += line.length;
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "event") this.#event = value;
    if (name === "id") this.#id = value;
    if (name === "data") this.#data.push(value);
  }

  event(): ServerEvent | undefined {
    if (this.#data.length === 0) return undefined;
    return { event: this.#event, id: this.#id, data: this.#data.join("\n") };
  }
}
