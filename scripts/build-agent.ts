// Makes the agent's single executable: bundles cli/agent-executable.ts, packs the files it reads beside the code, and has Node
// join both with itself (`node --build-sea`). Needs nothing but what `npm ci` brings, and no network.
// Run it: npm run build:agent. Writes dist/agent/holdfast-agent-<platform>-<arch> and the same with .sha256.
import { execFile, execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { rolldown } from "rolldown";
import { stripElf } from "./strip-elf.ts";

const root = resolve(import.meta.dirname, "..");
const dist = join(root, "dist", "agent");
const executableName = `holdfast-agent-${process.platform}-${process.arch}`;
/** Of what a build is made from: a test that builds the same again takes the earlier one. */
const cache = join(root, "node_modules", ".cache", "holdfast", "agent-executables");

export interface BuildPlan {
  readonly version: string;
  readonly commit: string | undefined;
}

/** Resolves with the executable's path in the cache. */
export async function buildAgent(plan: BuildPlan): Promise<string> {
  const packed: Record<string, string> = {
    "package.json": JSON.stringify({ name: "holdfast", version: plan.version }),
    "shim.sh": await readFile(join(root, "agent", "shim.sh"), "utf8"),
    "holdfast-set.sh": await readFile(join(root, "agent", "holdfast-set.sh"), "utf8"),
    "holdfast-progress.sh": await readFile(join(root, "agent", "holdfast-progress.sh"), "utf8"),
    ...(plan.commit === undefined ? {} : { "build.json": JSON.stringify({ commit: plan.commit }) }),
  };
  const flags = (await readFile(join(root, "bin", "agent-flags"), "utf8")).trim().split("\n");
  const code = await bundle();
  const content = [code, packed, flags, process.version, await readFile(import.meta.filename, "utf8")];
  const sum = createHash("sha256").update(JSON.stringify(content)).digest("hex");
  const made = join(cache, sum.slice(0, 16), executableName);
  if (existsSync(made)) return made;
  await mkdir(cache, { recursive: true });
  // Renamed as a whole when it is whole: two builds at once, or one that was stopped, leave no half executable.
  const folder = await mkdtemp(join(cache, "building-"));
  try {
    await writeFile(join(folder, "agent.cjs"), code);
    for (const [name, text] of Object.entries(packed)) await writeFile(join(folder, name), text);
    await joinWithNode(folder, { flags, assets: Object.keys(packed) });
    await rename(folder, join(cache, sum.slice(0, 16))).catch((cause: unknown) => {
      if (!existsSync(made)) throw cause;
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return made;
}

/**
 * One file that requires nothing but Node's own; a dynamic import becomes part of it, for the executable loads no files.
 * CommonJS: Node caches the compiled code of such a main only, and an import of `node:http` reads all that it exports, which
 * loads an HTTP client that the agent never uses (3 MB, 20 ms).
 */
async function bundle(): Promise<string> {
  const bundled = await rolldown({
    input: join(root, "cli", "agent-executable.ts"),
    cwd: root,
    platform: "node",
    logLevel: "warn",
    // Speeds ws up where it is installed, which here it never is.
    external: ["bufferutil", "utf-8-validate"],
  });
  try {
    const { output } = await bundled.generate({ format: "cjs", codeSplitting: false, minify: false });
    const [entry, ...others] = output;
    if (others.length > 0)
      throw new Error(`expected one file, saw also ${others.map((one) => one.fileName).join(", ")}`);
    return entry.code;
  } finally {
    await bundled.close();
  }
}

async function joinWithNode(
  folder: string,
  { flags, assets }: { readonly flags: readonly string[]; readonly assets: readonly string[] },
): Promise<void> {
  const node = join(folder, "node");
  await writeFile(node, stripElf(await readFile(process.execPath)), { mode: 0o755 });
  const configuration = {
    main: join(folder, "agent.cjs"),
    mainFormat: "commonjs",
    executable: node,
    output: join(folder, executableName),
    disableExperimentalSEAWarning: true,
    useCodeCache: true,
    // Nothing that the target's environment says gets into Node: NODE_OPTIONS counts for other programs.
    execArgv: flags,
    execArgvExtension: "none",
    assets: Object.fromEntries(assets.map((name) => [name, join(folder, name)])),
  };
  const file = join(folder, "sea.json");
  await writeFile(file, JSON.stringify(configuration));
  // With the flags it will run with: V8 refuses code that was cached under others.
  await promisify(execFile)(process.execPath, [...flags, "--build-sea", file]);
  await chmod(join(folder, executableName), 0o755);
  await rm(node);
}

function commitOf(): string | undefined {
  try {
    return execFileSync("git", ["rev-parse", "--short=12", "HEAD"], {
      cwd: root,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return undefined;
  }
}

if (import.meta.main) {
  const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { version: string };
  const made = await buildAgent({ version, commit: commitOf() });
  await mkdir(dist, { recursive: true });
  const target = join(dist, executableName);
  // Beside and renamed: an executable that runs, or is being downloaded, stays what it was.
  await copyFile(made, `${target}.new`);
  await rename(`${target}.new`, target);
  const content = await readFile(target);
  const sum = createHash("sha256").update(content).digest("hex");
  await writeFile(`${target}.sha256`, `${sum}  ${executableName}\n`);
  console.log(`${target}\n${(content.length / 1e6).toFixed(1)} MB, SHA-256 ${sum}`);
}
