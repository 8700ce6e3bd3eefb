// `holdfast agent register`: reads what is asked, has agent/register.ts do it and shows the outcome (registration-report.ts).
import type { Command, Option } from "commander";
import { AppError } from "../../shared/errors.ts";
import { nameSchema, type Labels } from "../../shared/task.ts";
import { command, type CommandContext } from "../command.ts";
import { jsonOption, option } from "../option.ts";
import { parseLabels } from "../pairs.ts";
import { exitCodeOfRegistration, printRegistration } from "../registration-report.ts";
import { resolveSecret } from "../secret.ts";
import type { Shell } from "../shell.ts";
import { stateDirectory } from "../state-directory.ts";

interface RegisterFlags {
  readonly server?: readonly string[];
  readonly token?: string;
  readonly allNodes?: boolean;
  readonly node?: readonly string[];
  readonly name?: string;
  readonly label?: readonly string[];
  readonly dataDir?: string;
  readonly proxy?: string;
  readonly json?: boolean;
}

/** What `registerAgent` of agent/main.ts takes and answers; see agent/register.ts. */
interface RegisterOptions {
  readonly server: string;
  readonly token: string;
  readonly name: string;
  readonly labels: Labels;
  readonly dataPath: string;
  readonly nodes: readonly string[];
  readonly proxy: string | undefined;
}

export const agentDataDirectory = (): Option =>
  option({
    flags: "--data-dir <dir>",
    description: "identity and journal (else /var/lib/holdfast/agent for root, or the XDG state folder)",
    kind: "setting",
  });

export function registerCommand({ shell, finish }: CommandContext): Command {
  return command("register", {
    summary: "enrol this machine with a token from `holdfast tokens create`",
    options: [
      option({
        flags: "--server <url>",
        description: "API address of the cluster (repeatable: tried in order)",
        kind: "setting",
        repeatable: "repeatable",
      }),
      option({
        flags: "--token <token>",
        description: "enrolment token, or file://PATH, env://NAME, fd://N",
        kind: "setting",
      }),
      option({
        flags: "--all-nodes",
        description: "exit 0 only when every node was reached (else one is enough): 69 some or none, 77 refused by all",
        kind: "setting",
      }),
      option({
        flags: "--node <url>",
        description:
          "keep to this node: its name, an address it advertises, or HOST:PORT of a TCP load balancer (repeatable)",
        kind: "setting",
        repeatable: "repeatable",
      }),
      option({ flags: "--name <name>", description: "name of this agent (else the host's name)", kind: "setting" }),
      option({
        flags: "--label <k=v...>",
        description: "labels (repeatable)",
        kind: "setting",
        repeatable: "repeatable",
      }),
      option({
        flags: "--proxy <url>",
        description:
          "go through this proxy, now and when the agent runs: http://user:password@proxy:3128 or socks5://proxy:1080, or file://PATH, env://NAME with it ('' takes it away; else HTTPS_PROXY and NO_PROXY)",
        kind: "setting",
      }),
      agentDataDirectory(),
      jsonOption(),
    ],
    examples: [
      [
        "holdfast agent register --server http://holdfast:8080 --token T --all-nodes --name web-01 --label role=web",
        "as web-01",
      ],
      [
        "holdfast agent register --server http://holdfast:8080 --token file://token",
        "token not in the process listing",
      ],
      [
        "holdfast agent register --server http://holdfast:8080 --token T --node node-a --node https://10.0.0.7:10943",
        "two nodes only",
      ],
    ],
  }).action(async (flags: RegisterFlags) => finish(await register(shell, flags)));
}

async function register(shell: Shell, flags: RegisterFlags): Promise<number> {
  const servers = parted(flags.server);
  if (servers.length === 0 || flags.token === undefined) {
    throw new AppError("config.invalid", "register needs --server and --token", {
      mend: "Take the server's API address and a token from `holdfast tokens create`.",
    });
  }
  const common = {
    token: await resolveSecret(shell, flags.token),
    name: checkedName(flags.name ?? shell.hostName),
    labels: parseLabels(flags.label ?? []),
    dataPath: flags.dataDir ?? stateDirectory(shell, "agent"),
    nodes: parted(flags.node),
    proxy: flags.proxy === undefined || flags.proxy === "" ? flags.proxy : await resolveSecret(shell, flags.proxy),
  };
  const { registerAgent } = await import("../../agent/register.ts");
  const registration = await firstReachable(servers, (server) => {
    const options: RegisterOptions = { ...common, server };
    return registerAgent(options, { environment: shell.environment });
  });
  const program = shell.environment["HOLDFAST_COMMAND"] ?? "holdfast";
  const runCommand = `${program} agent run --data-dir ${common.dataPath}`;
  await printRegistration(shell, registration, { json: flags.json === true, runCommand });
  return exitCodeOfRegistration(registration, { nodes: flags.allNodes === true ? "every" : "any" });
}

/** Given several times, or parted by commas in the environment. */
function parted(given: readonly string[] | undefined): string[] {
  return (given ?? [])
    .flatMap((text) => text.split(","))
    .map((text) => text.trim())
    .filter((text) => text !== "");
}

/** A server that refuses has decided; one that does not answer, or cannot for now, as without its database, is passed over. */
async function firstReachable<Answer>(
  servers: readonly string[],
  ask: (server: string) => Promise<Answer>,
): Promise<Answer> {
  let unreached: AppError | undefined;
  for (const server of servers) {
    try {
      return await ask(server);
    } catch (cause) {
      const error = AppError.from(cause);
      if (!error.retryable) throw error;
      unreached = error;
    }
  }
  throw unreached ?? new AppError("cluster.unreachable", "no server was named");
}

function checkedName(name: string): string {
  const parsed = nameSchema.safeParse(name);
  if (parsed.success) return parsed.data;
  throw new AppError(
    "config.invalid",
    `"${name}" cannot be an agent's name: ${parsed.error.issues[0]?.message ?? "not allowed"}`,
    {
      mend: "Choose one with --name.",
    },
  );
}
