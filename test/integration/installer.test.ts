// install.sh as dash with curl and as busybox with its own wget run it: what it downloads, what it refuses, what it leaves
// behind, what it passes on. The executable is a script of this test; the real one is installed in install-without-node.test.ts.
import { execFile, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ExecutableFolder } from "../../server/executables/folder.ts";
import { encodeToken } from "../../shared/enrolment-token.ts";
import { createIdSource, newId, tokenIdSchema } from "../../shared/ids.ts";
import { systemClock } from "../../shared/clock.ts";
import { silentLogger } from "../../shared/logger.ts";
import { SystemRandom } from "../../shared/random.ts";
import { startApi, type RunningApi } from "../fakes/api-backend.ts";

const name = `holdfast-agent-linux-${process.arch}`;
/** Says its version; else notes how it was called, and ends as it is told. */
const executable = `#!/bin/sh
[ "$1" != --version ] || { echo "holdfast 9.9.9 (of a test)"; exit 0; }
echo "$* token=\${HOLDFAST_TOKEN-none} proxy=\${HOLDFAST_PROXY-none}" >>"$SAID"
exit "$ENDS"
# ${"padding ".repeat(20_000)}
`;
const sumOf = (text: string): string => createHash("sha256").update(text).digest("hex");
const hasBusybox = spawnSync("busybox", ["true"]).status === 0;
const hasCurl = spawnSync("curl", ["--version"]).status === 0;
const isSkipped = !(hasBusybox && hasCurl) && process.env["CI"] !== "true";
if (isSkipped) process.stderr.write("\nSKIPPED, no busybox or curl: sh scripts/install-test-tools.sh\n");

let folder = "";
let served: ExecutableFolder;
let api: RunningApi;
let token = "";
const servers: Server[] = [];

beforeEach(async () => {
  // Not in the scratch folder: that may forbid programs.
  folder = await mkdtemp(join(tmpdir(), "holdfast-installer-"));
  await mkdir(join(folder, "served"));
  await writeFile(join(folder, "served", name), executable);
  served = new ExecutableFolder({ logger: silentLogger }, { folder: join(folder, "served") });
  api = await startApi({}, served);
  const tokenId = newId(createIdSource({ clock: systemClock, random: new SystemRandom() }), tokenIdSchema);
  const listDigest = (await served.list())?.digest;
  token = encodeToken({ tokenId, secret: new Uint8Array(32), nodesCaPin: "0".repeat(64), listDigest });
  await writeFile(join(folder, "install.sh"), await served.installer());
});
afterEach(async () => {
  await api[Symbol.asyncDispose]();
  for (const server of servers.splice(0)) server.close();
  await rm(folder, { recursive: true, force: true });
});

interface Ended {
  readonly exitCode: number;
  readonly err: string;
}

type Kind = "dash with curl" | "busybox with wget";

async function install(kind: Kind, words: readonly string[], settings: Record<string, string> = {}): Promise<Ended> {
  const tools = join(folder, "tools");
  if (!existsSync(tools)) {
    await mkdir(tools);
    spawnSync("busybox", ["--install", "-s", tools]);
    await rm(join(tools, "wget"));
    const found = spawnSync("sh", ["-c", "command -v curl; command -v busybox"], { encoding: "utf8" }).stdout.split(
      "\n",
    );
    if (kind === "dash with curl") await symlink(found[0] ?? "", join(tools, "curl"));
    else await symlink(found[1] ?? "", join(tools, "wget"));
  }
  const shell = kind === "dash with curl" ? "/usr/bin/dash" : join(tools, "sh");
  const env = { PATH: tools, HOME: join(folder, "home"), SAID: join(folder, "said"), ENDS: "0", ...settings };
  const all = [join(folder, "install.sh"), "--prefix", prefix(), "--data-dir", join(folder, "data"), ...words];
  return new Promise((resolve) => {
    execFile(shell, all, { env }, (error, _out, err) => {
      resolve({ exitCode: error === null ? 0 : Number(error.code), err });
    });
  });
}

const prefix = (): string => join(folder, "opt", "holdfast");
const said = (): string => (existsSync(join(folder, "said")) ? readFileSync(join(folder, "said"), "utf8") : "");
const everything = (): string[] => (existsSync(prefix()) ? readdirSync(prefix(), { recursive: true }).map(String) : []);
const version = `versions/9.9.9-${sumOf(executable).slice(0, 12)}`;
const common = (server = api.url): string[] => ["--server", server, "--token", token, "--no-service"];

/** Between the target and the node, changing what it passes on. */
async function liar(lie: (path: string, body: Buffer, answer: ServerResponse) => void): Promise<string> {
  const server = createServer((request, answer) => {
    void (async () => {
      // A proxy is asked by whole URLs.
      const truth = await fetch(new URL(request.url ?? "", api.url));
      lie(request.url ?? "", Buffer.from(await truth.arrayBuffer()), answer);
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  servers.push(server);
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe.skipIf(isSkipped).for<Kind>(["dash with curl", "busybox with wget"])("in %s", (kind) => {
  test("it installs, links and enrols, and says so; the token is in no argument", async () => {
    const seen: string[] = [];
    const proxy = (await liar((path, body, answer) => void (seen.push(path), answer.end(body)))).replace(
      "//",
      "//u:p@",
    );
    const words = ["--name", "web-01", "--label", "role=web", "--label", "env=prod", "--proxy", proxy];
    const { exitCode, err } = await install(kind, [...common(), ...words]);
    expect({ exitCode, err }).toMatchObject({ exitCode: 0 });
    expect(seen).toEqual([`${api.url}/downloads/SHA256SUMS`, `${api.url}/downloads/${name}`]);
    expect(
      everything()
        .filter((path) => !path.startsWith("current/"))
        .toSorted(),
    ).toEqual(["current", "versions", version, `${version}/holdfast-agent`]);
    expect(readFileSync(join(prefix(), "current", "holdfast-agent"), "utf8")).toBe(executable);
    expect(said()).toBe(
      `agent register --server ${api.url} --all-nodes --data-dir ${join(folder, "data")} --name web-01 --label role=web,env=prod token=${token} proxy=${proxy}\n`,
    );
    expect(err).toContain("enrolled; no service was installed");
  });

  test("a run that failed half-way is repeated, and downloads nothing again", async () => {
    const first = await install(kind, common(), { ENDS: "77" });
    expect([first.exitCode, first.err]).toEqual([77, expect.stringContaining("expected 0")]);
    expect(first.err).toContain("mend: ");
    const again = await install(kind, common());
    expect([again.exitCode, again.err]).toEqual([0, expect.stringContaining("is here already")]);
    expect(said().match(/agent register/g)).toHaveLength(2);
  });

  test("a damaged installation is downloaded again", async () => {
    await install(kind, common());
    await writeFile(join(prefix(), version, "holdfast-agent"), "damaged");
    expect((await install(kind, common())).exitCode).toBe(0);
    expect(readFileSync(join(prefix(), version, "holdfast-agent"), "utf8")).toBe(executable);
  });

  test("an executable that was changed on the way is refused, and nothing of it stays", async () => {
    const server = await liar((path, body, answer) => {
      answer.end(path.endsWith(name) ? body.toString().replace("9.9.9", "6.6.6") : body);
    });
    const { exitCode, err } = await install(kind, common(server));
    expect(exitCode).toBe(1);
    expect(err).toContain(`expected SHA-256 ${sumOf(executable)}, saw `);
    expect(err).toContain("mend: Nothing was kept");
    expect([existsSync(join(folder, "opt")), said()]).toEqual([false, ""]);
  });

  test("a list that was changed with it is refused by the digest in the token", async () => {
    const changed = executable.replace("9.9.9", "6.6.6");
    const server = await liar((path, body, answer) => {
      if (path.endsWith(name)) answer.end(changed);
      else answer.end(body.toString().replace(sumOf(executable), sumOf(changed)));
    });
    const { exitCode, err } = await install(kind, common(server));
    expect([exitCode, err]).toEqual([
      1,
      expect.stringContaining(`expected SHA-256 ${token.split(".")[1]}… (from the token)`),
    ]);
    expect(existsSync(join(folder, "opt"))).toBe(false);
  });

  test("a short answer is refused, and a connection that breaks is tried again", async () => {
    const short = await liar((path, body, answer) => {
      answer.end(path.endsWith(name) ? body.subarray(0, 1_000) : body);
    });
    const refused = await install(kind, common(short));
    expect([refused.exitCode, refused.err]).toEqual([1, expect.stringContaining("in 1000 bytes")]);
    expect(existsSync(join(folder, "opt"))).toBe(false);
    let broken = 0;
    const breaking = await liar((path, body, answer) => {
      if (path.endsWith(name) && broken === 0) {
        broken += 1;
        answer.writeHead(200, { "content-length": body.length });
        answer.write(body.subarray(0, 1), () => answer.destroy());
      } else {
        answer.end(body);
      }
    });
    const ended = await install(kind, common(breaking));
    // Whether it goes on or not with a server that knows no ranges, nothing wrong is kept.
    const kept = join(prefix(), "current", "holdfast-agent");
    const outcome = [ended.exitCode, existsSync(kept) ? readFileSync(kept, "utf8") : "nothing"];
    expect([
      [0, executable],
      [69, "nothing"],
    ]).toContainEqual(outcome);
    expect(broken).toBe(1);
  });

  test("over http a token without digest needs --sha256, which has to agree", async () => {
    const [plain = ""] = token.split(".");
    const words = ["--server", api.url, "--token", plain, "--no-service"];
    const bare = await install(kind, words);
    expect([bare.exitCode, bare.err]).toEqual([2, expect.stringContaining("or --sha256, saw neither")]);
    expect(existsSync(join(folder, "opt"))).toBe(false);
    const wrong = await install(kind, [...words, "--sha256", "0".repeat(64)]);
    expect([wrong.exitCode, wrong.err]).toEqual([1, expect.stringContaining(`saw ${sumOf(executable)}`)]);
    expect(existsSync(join(folder, "opt"))).toBe(false);
    const right = await install(kind, [...words, "--sha256", sumOf(executable).toUpperCase()]);
    expect(right).toMatchObject({ exitCode: 0 });
  });

  test("a digest that was cut off is no digest", async () => {
    const cut = token.slice(0, -8);
    const { exitCode, err } = await install(kind, ["--server", api.url, "--token", cut, "--no-service"]);
    expect([exitCode, err]).toEqual([2, expect.stringContaining("expected 32 hex digits, saw 24")]);
  });

  test("a script that was cut off anywhere does nothing", async () => {
    const script = readFileSync(join(folder, "install.sh"), "utf8");
    for (const part of [0.3, 0.6, 0.9, 0.999]) {
      await writeFile(join(folder, "install.sh"), script.slice(0, Math.floor(script.length * part)));
      await install(kind, common());
      expect([part, existsSync(join(folder, "opt")), said()]).toEqual([part, false, ""]);
    }
  });

  test("what is wrong with a call is said before anything is downloaded", async () => {
    const cases: [string[], string][] = [
      [["--no-service"], "expected --token, saw none"],
      [["--token", token, "--no-service"], "expected --server, saw none"],
      [["--server", "ftp://x", "--token", token], "expected http://… or https://…, saw ftp://x"],
      [[...common(), "--labell", "x"], "unknown option --labell"],
      [[...common(), "--name"], "--name: expected a value"],
      [[...common(), "--sha256", "12"], "expected 64 hex digits, saw 2"],
    ];
    for (const [words, expected] of cases) {
      const { exitCode, err } = await install(kind, words);
      expect([exitCode, err]).toEqual([2, expect.stringContaining(expected)]);
      expect(err).toContain("mend: ");
    }
    expect(existsSync(join(folder, "opt"))).toBe(false);
  });
});
