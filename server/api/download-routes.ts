// The agent's executables for machines without Node, and the script that installs them. Public: nothing of it is secret, and
// who installs has a token only. Streamed from the disk; how many at once, and how long one may stand still, is bounded.
import type { FileHandle } from "node:fs/promises";
import type { Readable } from "node:stream";
import { z } from "zod";
import type { Clock } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import { parseRange } from "./byte-range.ts";
import type { ApiInstance } from "./route.ts";

export interface ServedFile {
  /** The receiver's to close. */
  readonly handle: FileHandle;
  readonly bytes: number;
  readonly sha256: string;
}

export interface SumList {
  /** As `sha256sum -c` reads it. */
  readonly text: string;
  /** What a token carries of the text's own sum. */
  readonly digest: string;
  readonly installerSha256: string;
}

export interface Downloads {
  installer(): Promise<string>;
  /** Undefined when this node serves no executable. */
  list(): Promise<SumList | undefined>;
  open(name: string): Promise<ServedFile | undefined>;
}

/** A read of 256 KiB each: 16 MiB in all. */
const mostAtOnce = 64;
const readBytes = 256 * 1024;
/** Nothing was taken for this long: the place is for another. Milliseconds. */
const stallMs = 60_000;
const retryAfterSeconds = 10;

const text = { "text/plain": { schema: z.string() } };
const bytes = z.custom<Readable | string>().meta({ type: "string", format: "binary" });
const binary = { "application/octet-stream": { schema: bytes } };

export function addDownloadRoutes(
  app: ApiInstance,
  { downloads, clock }: { readonly downloads: Downloads; readonly clock: Clock },
): void {
  const demandList = async (): Promise<SumList> => {
    const list = await downloads.list();
    if (list === undefined) throw new AppError("download.unknown", "this node serves no executables of the agent");
    return list;
  };

  app.route({
    method: "GET",
    url: "/install.sh",
    config: { permission: "public" },
    schema: {
      summary: "The installer, for `curl … | sh -s -- --token T`",
      description:
        "Knows the server it came from. The same without that is `/downloads/install.sh`, whose sum is listed.",
      tags: ["downloads"],
      response: { 200: { description: "A POSIX shell script", content: text } },
    },
    handler: async (request, reply) => {
      await demandList();
      const server = cameTo(request.headers);
      const script = await downloads.installer();
      reply.header("content-type", "text/x-shellscript; charset=utf-8").serializer(asItIs);
      return reply.send(server === undefined ? script : script.replace(/^server=""$/m, () => `server="${server}"`));
    },
  });

  let open = 0;
  app.route({
    method: "GET",
    url: "/downloads/:name",
    config: { permission: "public" },
    schema: {
      summary: "An executable of the agent, SHA256SUMS, or the installer",
      description: "`holdfast-agent-<platform>-<arch>` as Node calls them. Ranges are served.",
      tags: ["downloads"],
      params: z.object({ name: z.string().max(128) }),
      response: {
        200: { description: "The file", content: binary },
        206: { description: "The range that was asked for", content: binary },
        416: { description: "The range begins behind the file's end", content: text },
      },
    },
    handler: async (request, reply) => {
      const { name } = request.params;
      if (name === "SHA256SUMS" || name === "install.sh") {
        const list = await demandList();
        reply.header("content-type", "text/plain; charset=utf-8").serializer(asItIs);
        return reply.send(name === "SHA256SUMS" ? list.text : await downloads.installer());
      }
      if (open >= mostAtOnce) {
        throw new AppError("stream.limit", `this node serves ${mostAtOnce} downloads at once, and all are taken`, {
          mend: "Try again in a while, or download from another node.",
          retryAfterSeconds,
        });
      }
      open += 1;
      let body: Readable | undefined;
      try {
        const file = await downloads.open(name);
        if (file === undefined) throw new AppError("download.unknown", `there is no download "${name}" on this node`);
        const { bytes: size, sha256 } = file;
        const entity = `"${sha256}"`;
        reply
          .header("accept-ranges", "bytes")
          .header("etag", entity)
          .header("repr-digest", `sha-256=:${Buffer.from(sha256, "hex").toString("base64")}:`)
          .header("content-type", "application/octet-stream");
        const condition = request.headers["if-range"];
        const isSame = condition === undefined || condition === entity;
        const range = isSame ? parseRange(request.headers.range, size) : { kind: "whole" as const };
        if (range.kind === "beyond") {
          await file.handle.close();
          open -= 1;
          return await reply.code(416).header("content-range", `bytes */${size}`).serializer(asItIs).send("");
        }
        const { start, end } = range.kind === "part" ? range : { start: 0, end: size - 1 };
        if (range.kind === "part") reply.code(206).header("content-range", `bytes ${start}-${end}/${size}`);
        reply.header("content-length", end - start + 1);
        const stream = file.handle.createReadStream({ start, end, highWaterMark: readBytes });
        body = stream;
        let seen = 0;
        const watch = clock.every(stallMs, () => {
          if (stream.bytesRead === seen) reply.raw.destroy();
          seen = stream.bytesRead;
        });
        body.once("close", () => {
          open -= 1;
          watch.cancel();
        });
        return await reply.send(body);
      } catch (cause) {
        // Once there is a stream, its end gives the place back.
        if (body === undefined) open -= 1;
        throw cause;
      }
    },
  });
}

const asItIs = (given: unknown): string => String(given);

/** The server as the caller wrote it; what could break out of the script's quotes is not believed. */
function cameTo(headers: { readonly host?: string | undefined; readonly [name: string]: unknown }): string | undefined {
  const { host = "" } = headers;
  if (!/^(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?$/.test(host)) return undefined;
  // A load balancer that ends TLS says so. Who lies here lies to nobody but to himself.
  return `${headers["x-forwarded-proto"] === "https" ? "https" : "http"}://${host}`;
}
