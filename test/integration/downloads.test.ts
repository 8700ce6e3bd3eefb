// The node's downloads over real HTTP from a real folder: sums, ranges, what is not served, how many at once.
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { type FileHandle, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { get, type IncomingMessage } from "node:http";
import { join } from "node:path";
import { Registry } from "prom-client";
import { afterEach, beforeEach, expect, test } from "vitest";
import { executablesFolder, ExecutableFolder } from "../../server/executables/folder.ts";
import type { ServedFile } from "../../server/api/download-routes.ts";
import { ApiServer } from "../../server/api/http-server.ts";
import { silentLogger } from "../../shared/logger.ts";
import { ids, startApi, type RunningApi } from "../fakes/api-backend.ts";
import { FakeClock } from "../fakes/clock.ts";
import { eventually } from "../harness/eventually.ts";
import { scratchParent } from "../harness/scratch.ts";

const name = "holdfast-agent-linux-x64";
const content = randomBytes(100_000);
let folder = "";
let api: RunningApi;

beforeEach(async () => {
  folder = await mkdtemp(join(scratchParent(), "holdfast-downloads-"));
  await writeFile(join(folder, name), content);
  api = await startApi({}, new ExecutableFolder({ logger: silentLogger }, { folder }));
});
afterEach(async () => {
  await api[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

const sumOf = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");
const ask = (path: string, headers: Record<string, string> = {}) => fetch(`${api.url}${path}`, { headers });
const textOf = async (path: string): Promise<string> => (await ask(path)).text();

test("an executable comes whole, with its sum, without a key", async () => {
  const answer = await ask(`/downloads/${name}`);
  expect(answer.status).toBe(200);
  expect(Buffer.from(await answer.arrayBuffer()).equals(content)).toBe(true);
  expect(answer.headers.get("content-length")).toBe("100000");
  expect(answer.headers.get("etag")).toBe(`"${sumOf(content)}"`);
});

test("a range goes on with the same file, and not with another", async () => {
  const part = await ask(`/downloads/${name}`, { range: "bytes=99990-" });
  expect(part.status).toBe(206);
  expect(part.headers.get("content-range")).toBe("bytes 99990-99999/100000");
  expect(Buffer.from(await part.arrayBuffer()).equals(content.subarray(99_990))).toBe(true);
  const other = await ask(`/downloads/${name}`, { range: "bytes=99990-", "if-range": '"another"' });
  expect([other.status, (await other.arrayBuffer()).byteLength]).toEqual([200, 100_000]);
  const beyond = await ask(`/downloads/${name}`, { range: "bytes=100000-" });
  expect([beyond.status, beyond.headers.get("content-range")]).toEqual([416, "bytes */100000"]);
});

test("SHA256SUMS names the executables and the installer, and follows a file that changed", async () => {
  const before = await textOf("/downloads/SHA256SUMS");
  const installer = await textOf("/downloads/install.sh");
  expect(before).toBe(`${sumOf(content)}  ${name}\n${sumOf(installer)}  install.sh\n`);
  await writeFile(join(folder, name), "another");
  await writeFile(join(folder, `${name}.sha256`), "no executable");
  expect(await textOf("/downloads/SHA256SUMS")).toBe(before.replace(sumOf(content), sumOf("another")));
  expect(await textOf(`/downloads/${name}`)).toBe("another");
});

test("the installer knows the server as it was called, unless that could break out of its quotes", async () => {
  const plain = await textOf("/downloads/install.sh");
  expect(plain).toContain('\nserver=""\n');
  expect(await textOf("/install.sh")).toBe(plain.replace('server=""', `server="${api.url}"`));
  const serverLine = async (headers: Record<string, string>): Promise<string | undefined> => {
    const [answer] = (await once(get(`${api.url}/install.sh`, { headers }), "response")) as [IncomingMessage];
    return (await answer.toArray()).join("").match(/^server=.*$/m)?.[0];
  };
  expect(await serverLine({ host: "hf.example", "x-forwarded-proto": "https" })).toBe('server="https://hf.example"');
  for (const host of ['a";id;"', "a$(id)", "a`id`", "a b", "a\\b"])
    expect(await serverLine({ host })).toBe('server=""');
});

test("nothing else of the folder or the machine is served", async () => {
  await writeFile(join(folder, "secret"), "x");
  await symlink("/etc/passwd", join(folder, "holdfast-agent-linux-arm64"));
  const names = ["secret", "holdfast-agent-linux-arm64", "..%2f..%2fetc%2fpasswd", "holdfast-agent-linux-none", "%00"];
  const statuses = await Promise.all(names.map(async (other) => (await ask(`/downloads/${other}`)).status));
  expect(statuses).toEqual([404, 404, 404, 404, 400]);
});

test("without executables there is no list, no installer and no digest", async () => {
  await rm(join(folder, name));
  for (const path of ["/install.sh", "/downloads/install.sh", "/downloads/SHA256SUMS"]) {
    const answer = await ask(path);
    expect(answer.status).toBe(404);
    expect(await answer.json()).toMatchObject({ code: "download.unknown" });
  }
});

test("64 downloads at once have a place, one more is told to come back, and a broken one gives its place back", async () => {
  // More than the sockets' buffers hold, so that each stays open.
  await writeFile(join(folder, name), Buffer.alloc(32 * 1024 * 1024));
  const answers: IncomingMessage[] = [];
  for (let no = 0; no < 64; no += 1) {
    const [answer] = (await once(get(`${api.url}/downloads/${name}`, { agent: false }), "response")) as [
      IncomingMessage,
    ];
    answers.push(answer);
  }
  const refused = await ask(`/downloads/${name}`, { range: "bytes=0-0" });
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "10"]);
  expect((await ask("/downloads/SHA256SUMS")).status).toBe(200);
  for (const answer of answers) answer.destroy();
  await eventually("a place is free", async () => {
    const { status } = await ask(`/downloads/${name}`, { range: "bytes=0-0" });
    return { done: status === 206, state: status };
  });
});

test("a download of which nothing is taken ends, and its place is free", async () => {
  await writeFile(join(folder, name), Buffer.alloc(32 * 1024 * 1024));
  const clock = new FakeClock();
  const handles: FileHandle[] = [];
  const downloads = new (class extends ExecutableFolder {
    override async open(wanted: string): Promise<ServedFile | undefined> {
      const file = await super.open(wanted);
      if (file !== undefined) handles.push(file.handle);
      return file;
    }
  })({ logger: silentLogger }, { folder });
  const server = new ApiServer(
    {
      backend: api.backend,
      enrolment: api.backend,
      downloads,
      clock,
      ids,
      logger: silentLogger,
      registry: new Registry(),
    },
    { host: "127.0.0.1", port: 0, trustedProxies: [], version: "0.0.0" },
  );
  await server.start();
  const url = `http://127.0.0.1:${server.address.port}/downloads/${name}`;
  const [answer] = (await once(get(url, { agent: false }), "response")) as [IncomingMessage];
  // Until the sockets between are full and the node reads no more from its disk.
  await eventually("the node gives it up", () => {
    clock.advance(60_000);
    return { done: handles.length === 1 && handles[0]?.fd === -1, state: handles.map(({ fd }) => fd) };
  });
  await expect(answer.toArray()).rejects.toThrow("aborted");
  await server.stop();
});

test("the folder is the named one, else the data directory's own", async () => {
  expect(executablesFolder("/named", folder)).toBe("/named");
  expect(executablesFolder(undefined, folder)).not.toBe(join(folder, "agent-executables"));
  await symlink(".", join(folder, "agent-executables"));
  expect(executablesFolder(undefined, folder)).toBe(join(folder, "agent-executables"));
});
