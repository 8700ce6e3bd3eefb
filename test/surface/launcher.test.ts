// bin/holdfast of a checkout: finds its checkout and a Node, or says what is missing.
import { execFile } from "node:child_process";
import { chmod, copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

const root = join(import.meta.dirname, "..", "..");
let folder = "";

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast launcher-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

function run(file: string, path: string): Promise<{ exitCode: number; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(file, ["--version"], { env: { PATH: path } }, (error, out, err) => {
      resolve({ exitCode: error === null ? 0 : Number(error.code), out, err });
    });
  });
}

/** A checkout with the launcher and a command line that says which Node ran it. */
async function checkout(parts: { readonly dependencies: "installed" | "missing" }): Promise<string> {
  const place = join(folder, "check out");
  await mkdir(join(place, "bin"), { recursive: true });
  await copyFile(join(root, "bin", "holdfast"), join(place, "bin", "holdfast"));
  if (parts.dependencies === "installed") await mkdir(join(place, "node_modules", "commander"), { recursive: true });
  return place;
}

/** A folder for PATH with the tools the launcher needs and a Node that names itself. */
async function tools(node?: string): Promise<string> {
  const place = join(folder, "tools");
  await mkdir(place);
  for (const tool of ["sh", "dirname", "readlink"]) await symlink(join("/usr/bin", tool), join(place, tool));
  if (node !== undefined) await fakeNode(join(place, "node"), node);
  return place;
}

async function fakeNode(file: string, version: string): Promise<void> {
  await writeFile(
    file,
    `#!/bin/sh\nif [ "$1" = --version ] && [ $# = 1 ]; then echo ${version}; else echo "${version} runs $@"; fi\n`,
  );
  await chmod(file, 0o755);
}

test("it runs through a chain of symlinks from anywhere", async () => {
  await symlink(join(root, "bin", "holdfast"), join(folder, "one"));
  await symlink("one", join(folder, "two"));
  const { exitCode, out, err } = await run(join(folder, "two"), process.env["PATH"] ?? "");
  expect([exitCode, err]).toEqual([0, ""]);
  expect(out).toMatch(/^holdfast \d/);
});

test("without dependencies it says to install them", async () => {
  const place = await checkout({ dependencies: "missing" });
  expect(await run(join(place, "bin", "holdfast"), await tools("v26.1.0"))).toEqual({
    exitCode: 2,
    out: "",
    err: expect.stringContaining("npm ci"),
  });
});

test("the checkout's own Node wins over the machine's", async () => {
  const place = await checkout({ dependencies: "installed" });
  await mkdir(join(place, "node_modules", ".bin"));
  await fakeNode(join(place, "node_modules", ".bin", "node"), "v26.10.0");
  expect((await run(join(place, "bin", "holdfast"), await tools("v20.1.0"))).out).toContain(
    `v26.10.0 runs ${place}/cli/holdfast.ts --version`,
  );
});

test.each(["v24.12.0", "v25.0.0", "v26.10.0"])("the machine's Node %s is used", async (version) => {
  const place = await checkout({ dependencies: "installed" });
  expect((await run(join(place, "bin", "holdfast"), await tools(version))).out).toContain(`${version} runs`);
});

test.each(["v24.11.9", "v20.20.2"])("the machine's Node %s is too old, and it says so", async (version) => {
  const place = await checkout({ dependencies: "installed" });
  expect(await run(join(place, "bin", "holdfast"), await tools(version))).toEqual({
    exitCode: 2,
    out: "",
    err: expect.stringContaining(`${version} is too old`),
  });
});

test("no Node at all is said plainly", async () => {
  const place = await checkout({ dependencies: "installed" });
  expect(await run(join(place, "bin", "holdfast"), await tools())).toEqual({
    exitCode: 2,
    out: "",
    err: expect.stringContaining("there is no Node"),
  });
});
