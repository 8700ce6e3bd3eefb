// The published package: built, packed, installed from the tarball into an empty folder, and used there.
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

const root = join(import.meta.dirname, "..", "..");
/** Two installs and a build; on a machine busy with other work they take a multiple of their usual 15 s. */
const budgetMs = 150_000;
/** What this test made and removes; never derived from another path. */
let scratch = "";
let folder = "";

interface Ended {
  readonly exitCode: number;
  readonly out: string;
  readonly err: string;
}

function run(file: string, words: readonly string[], cwd: string): Promise<Ended> {
  // The Node that runs this test, and nothing that `npm test` put into the environment.
  const path = [dirname(process.execPath), process.env["PATH"] ?? ""].join(delimiter);
  const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("npm_")));
  return new Promise((resolve) => {
    execFile(file, [...words], { cwd, env: { ...environment, PATH: path }, timeout: budgetMs }, (error, out, err) => {
      const exitCode = error === null ? 0 : typeof error.code === "number" ? error.code : 1;
      resolve({ exitCode, out, err });
    });
  });
}

async function expectDone(ended: Promise<Ended>): Promise<string> {
  const { exitCode, out, err } = await ended;
  expect(exitCode, `${out}\n${err}`).toBe(0);
  return out;
}

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "holdfast-package-"));
  await expectDone(run("npm", ["run", "build"], root));
  await expectDone(run("npm", ["pack", "--ignore-scripts", "--pack-destination", scratch], root));
  const target = join(scratch, "empty");
  await mkdir(target);
  await writeFile(join(target, "package.json"), '{ "private": true, "type": "module" }\n');
  const tarball =
    (await expectDone(run("ls", [scratch], scratch))).split("\n").find((name) => name.endsWith(".tgz")) ?? "";
  // The embedded PostgreSQL is an optional dependency of 100 MB that nothing here starts.
  const quiet = ["--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional"];
  await expectDone(run("npm", ["install", ...quiet, join(scratch, tarball)], target));
  folder = target;
}, budgetMs);

afterAll(async () => {
  if (scratch !== "") await rm(scratch, { recursive: true, force: true });
});

test("`holdfast --version` tells version, protocol and Node", async () => {
  expect(await expectDone(run("node_modules/.bin/holdfast", ["--version"], folder))).toMatch(
    /^holdfast \d+\.\d+\.\d+ \(.*protocol \d+, Node v/,
  );
});

test("`holdfast server start --help` shows its flags", async () => {
  expect(await expectDone(run("node_modules/.bin/holdfast", ["server", "start", "--help"], folder))).toContain(
    "--data-dir <dir>",
  );
});

test("the entry files of server and agent load from the package", async () => {
  const dist = join(folder, "node_modules", "holdfast", "dist");
  for (const entry of ["server/main.js", "agent/main.js"]) {
    await expectDone(
      run(
        process.execPath,
        ["--input-type=module", "-e", `await import(${JSON.stringify(join(dist, entry))})`],
        folder,
      ),
    );
  }
});

test("a client command without a server fails by its code, not by a missing file", async () => {
  const ended = await run(
    "node_modules/.bin/holdfast",
    ["nodes", "list", "--api-key", "k", "--url", "nonsense"],
    folder,
  );
  expect([ended.exitCode, ended.err]).toEqual([2, expect.stringContaining("config.invalid")]);
});

test('`import { Holdfast } from "holdfast"` gives the SDK', async () => {
  const script =
    'import { Holdfast, AppError } from "holdfast"; console.log(typeof new Holdfast({ url: "http://x", apiKey: "k" }).run, AppError.name);';
  await writeFile(join(folder, "use.js"), script);
  expect(await expectDone(run(process.execPath, ["use.js"], folder))).toBe("function AppError\n");
});

test("migrations and the shim are in the package, sources and tests are not", async () => {
  const files = (await expectDone(run("find", ["node_modules/holdfast", "-type", "f"], folder))).split("\n");
  expect(files.some((file) => /dist\/server\/store\/migrations\/.*\.sql$/.test(file))).toBe(true);
  expect(files.some((file) => /dist\/agent\/.*\.sh$/.test(file))).toBe(true);
  expect(files.filter((file) => /\/test\/|(?<!\.d)\.ts$/.test(file))).toEqual([]);
});

test("an agent runs under the flags of its own", async () => {
  const preload =
    "data:text/javascript,if(process.execArgv.length>2){console.log(process.execArgv.join(' '));process.exit(0)}";
  const flags = await readFile(join(root, "bin", "agent-flags"), "utf8");
  const ended = await expectDone(
    run(process.execPath, ["--import", preload, "node_modules/holdfast/bin/holdfast.js", "agent", "run"], folder),
  );
  expect(ended).toBe(`${flags.trim().split("\n").join(" ")} --import ${preload}\n`);
});

test("an older Node is told so plainly", async () => {
  const older =
    'data:text/javascript,Object.defineProperties(process,{version:{value:"v20.19.0"},versions:{value:{node:"20.19.0"}}})';
  const ended = await run(
    process.execPath,
    ["--import", older, "node_modules/holdfast/bin/holdfast.js", "--version"],
    folder,
  );
  expect(ended).toEqual({
    exitCode: 2,
    out: "",
    err: expect.stringContaining("Node v20.19.0 is too old; 24.12 or later is needed"),
  });
});
