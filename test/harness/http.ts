// HTTP calls as a client without the SDK makes them: the raw answer, whatever its status.
import { z } from "zod";

/** What any of the API's JSON answers may hold; a test asks for what it expects. */
const answerSchema = z.looseObject({
  id: z.string().optional(),
  tasks: z.array(z.looseObject({ id: z.string(), agent: z.string() })).default([]),
  repeated: z.boolean().optional(),
  finishedAt: z.string().nullish(),
  address: z.string().optional(),
});
export type AnswerBody = z.output<typeof answerSchema>;

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The JSON value; empty when the answer is none. */
  readonly body: AnswerBody;
}

/** `raw` among the headers is sent as the body as it is. */
export type ApiCaller = (
  method: string,
  path: string,
  body?: object,
  headers?: Readonly<Record<string, string>>,
) => Promise<Answer>;

export function apiCaller(url: string, apiKey: string): ApiCaller {
  return async (method, path, body, { raw, ...headers } = {}) => {
    const sent = raw ?? (body === undefined ? undefined : JSON.stringify(body));
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${apiKey}`,
        ...(sent === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      ...(sent === undefined ? {} : { body: sent }),
      signal: AbortSignal.timeout(30_000),
    });
    const text = await response.text();
    const isObject = text.startsWith("{") && (response.headers.get("content-type") ?? "").includes("json");
    const value: unknown = isObject ? JSON.parse(text) : {};
    return { status: response.status, headers: response.headers, text, body: answerSchema.parse(value) };
  };
}

export interface SentEvent {
  readonly event: string;
  readonly id: string;
  readonly data: { readonly bytes?: string | undefined; readonly task?: unknown };
}

const eventData = z.looseObject({ bytes: z.string().optional(), task: z.unknown().optional() });

/** Follows a stream to its end, or until `mostLogEvents` were read: then the connection is dropped. */
export async function readEvents(
  server: { readonly url: string; readonly apiKey: string },
  path: string,
  headers: Readonly<Record<string, string>>,
  options: { readonly mostLogEvents?: number } = {},
): Promise<readonly SentEvent[]> {
  const stop = new AbortController();
  const response = await fetch(`${server.url}${path}`, {
    headers: { authorization: `Bearer ${server.apiKey}`, ...headers },
    signal: AbortSignal.any([stop.signal, AbortSignal.timeout(60_000)]),
  });
  if (response.status !== 200 || response.body === null) throw new Error(`${path} answered ${response.status}`);
  const events: SentEvent[] = [];
  let text = "";
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const blocks = text.split("\n\n");
    text = blocks.pop() ?? "";
    for (const block of blocks) {
      const fields = new Map(
        block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]),
      );
      const event = fields.get("event");
      if (event === undefined) continue;
      events.push({ event, id: fields.get("id") ?? "", data: eventData.parse(JSON.parse(fields.get("data") ?? "{}")) });
      if (events.filter((sent) => sent.event === "log").length < (options.mostLogEvents ?? Infinity)) continue;
      stop.abort();
      return events;
    }
  }
  return events;
}
