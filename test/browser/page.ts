// A web server of another origin than the API's: one page that loads the built SDK and zod as they are published, by an
// import map and without a bundler.
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join, normalize } from "node:path";
import { promisify } from "node:util";

const root = join(import.meta.dirname, "..", "..");

/** `window.seen` is all that the test looks at; `begin` is called by it. */
const page = `<!doctype html>
<meta charset="utf-8">
<script type="importmap">{ "imports": { "holdfast": "/dist/sdk/public.js", "zod": "/zod/index.js" } }</script>
<script type="module">
  import { AppError, Holdfast } from "holdfast";
  const seen = { lines: [], troubles: [], result: null, error: null };
  window.seen = seen;
  window.begin = async ({ on, script, ...options }) => {
    try {
      const holdfast = new Holdfast(options);
      const handle = await holdfast.run({ on, script });
      for await (const line of handle.log({ onTrouble: (error) => seen.troubles.push(error.code) }))
        seen.lines.push(line.stream + " " + line.text);
      seen.result = await handle.result();
    } catch (error) {
      seen.error = error instanceof AppError ? error.code : String(error);
    }
  };
</script>
`;

export class Page implements AsyncDisposable {
  readonly #server: Server;
  readonly #folder: string;
  readonly port: number;

  private constructor(server: Server, folder: string, port: number) {
    this.#server = server;
    this.#folder = folder;
    this.port = port;
  }

  /** Builds the SDK into a folder of its own, so that no `dist/` of the checkout is touched. */
  static async start(): Promise<Page> {
    const folder = await mkdtemp(join(tmpdir(), "holdfast-page-"));
    const compiler = join(root, "node_modules", ".bin", "tsc");
    await promisify(execFile)(compiler, ["-p", "tsconfig.build.json", "--outDir", join(folder, "dist")], { cwd: root });
    const folders = { "/dist/": join(folder, "dist"), "/zod/": join(root, "node_modules", "zod") };
    const server = createServer((request, response) => {
      const path = normalize(new URL(request.url ?? "/", "http://page").pathname);
      const [prefix, from] = Object.entries(folders).find(([start]) => path.startsWith(start)) ?? [];
      if (prefix === undefined || from === undefined) {
        response.writeHead(200, { "content-type": "text/html" }).end(page);
        return;
      }
      readFile(join(from, path.slice(prefix.length))).then(
        (body) => response.writeHead(200, { "content-type": "text/javascript" }).end(body),
        () => response.writeHead(404).end(),
      );
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    return new Page(server, folder, typeof address === "object" && address !== null ? address.port : 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await rm(this.#folder, { recursive: true, force: true });
  }
}
