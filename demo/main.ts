// `npm run demo`: a server node with its own PostgreSQL, two agents, one real script on both with its log live, a table
// of results. Stays up until Ctrl-C; with --once it ends by itself. Leaves nothing behind either way.
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Holdfast } from "../sdk/holdfast.ts";
import { Program, runProgram, startServer } from "./processes.ts";

const agents = [
  { name: "web-01", label: "role=web" },
  { name: "web-02", label: "role=web" },
];

const say = (text: string): void => void process.stdout.write(`${text}\n`);
const steps: (() => Promise<unknown>)[] = [];

async function demo(mode: "once" | "stay"): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), "holdfast-demo-"));
  steps.push(() => rm(folder, { recursive: true, force: true }));
  say("1. A server node starts, with a PostgreSQL of its own.");
  const server = await startServer({
    name: "node-a",
    dataDirectory: join(folder, "server"),
    onProgram: (program) => steps.push(() => program.stop()),
  });
  const apiKey = (await readFile(join(folder, "server", "admin-api-key"), "utf8")).trim();
  const client = new Holdfast({ url: server.url, apiKey });

  say("2. Two agents enrol with single-use tokens and dial every node.");
  for (const { name, label } of agents) {
    const { token } = await client.tokens.create({ labels: { demo: "true" } });
    const dataDirectory = join(folder, name);
    const registered = await runProgram({
      title: `register ${name}`,
      args: [
        "agent",
        "register",
        "--server",
        server.url,
        "--token",
        token,
        "--all-nodes",
        "--name",
        name,
        "--label",
        label,
        "--data-dir",
        dataDirectory,
      ],
    });
    if (registered.exitCode !== 0) throw new Error(registered.output);
    say(registered.output.trimEnd().replaceAll(/^/gm, "   "));
    const agent = new Program({ title: `agent ${name}`, args: ["agent", "run", "--data-dir", dataDirectory] });
    steps.push(() => agent.stop());
  }

  await connected(client);
  say("3. One script on both:  holdfast run --on role=web --script demo/hello.sh");
  const environment = { HOLDFAST_URL: server.url, HOLDFAST_API_KEY: apiKey };
  const exitCode = await shown(
    ["run", "--on", "role=web", "--script", join(import.meta.dirname, "hello.sh")],
    environment,
  );
  say("");
  say("The cluster is up. From another terminal in this folder:");
  say("");
  say(`  export HOLDFAST_URL=${server.url} HOLDFAST_API_KEY=${apiKey}`);
  say("  bin/holdfast run --on web-01 -- 'uname -a; exit 3'; echo \"exit code $?\"");
  say("  bin/holdfast agents list");
  say(`  API description: ${server.url}/api/docs`);
  if (mode === "stay") {
    say("\nCtrl-C ends everything.");
    await Promise.race([interrupted, server.program.exited]);
  }
  return exitCode;
}

async function connected(client: Holdfast): Promise<void> {
  const endMs = performance.now() + 15_000;
  while (performance.now() < endMs) {
    const { items } = await client.agents.list();
    if (items.filter((agent) => agent.connection === "fully").length === agents.length) return;
    await new Promise((resolve) => void setTimeout(resolve, 50));
  }
  throw new Error("the agents did not connect within 15 s");
}

/** Runs a command with its output on this terminal. */
function shown(args: readonly string[], environment: Readonly<Record<string, string>>): Promise<number> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "..", "cli", "holdfast.ts"), ...args], {
    env: { ...process.env, ...environment },
    stdio: ["ignore", "inherit", "inherit"],
  });
  return new Promise((resolve) => void child.once("close", (code) => resolve(code ?? 1)));
}

async function cleanUp(): Promise<void> {
  for (const step of steps.splice(0).toReversed()) await step();
}

const interrupted = new Promise<void>((resolve) => {
  let asked = 0;
  const onSignal = (): void => {
    asked += 1;
    // The second time nothing is waited for any more.
    if (asked > 1) process.exit(130);
    resolve();
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
});

try {
  const ended = interrupted.then(() => 130);
  process.exitCode = await Promise.race([demo(process.argv.includes("--once") ? "once" : "stay"), ended]);
} catch (cause) {
  process.stderr.write(`demo: ${cause instanceof Error ? cause.message : String(cause)}\n`);
  process.exitCode = 1;
} finally {
  await cleanUp();
}
