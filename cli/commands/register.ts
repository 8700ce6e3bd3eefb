// `holdfast agent register`: enrols this machine and shows which nodes have greeted it. The enrolment is agent/main.ts's.
import type { Command, Option } from "commander";
import { AppError } from "../../shared/errors.ts";
import { nameSchema, type Labels } from "../../shared/task.ts";
import { command, type CommandContext } from "../command.ts";
import { exitCodes } from "../exit-code.ts";
import { jsonOption, option } from "../option.ts";
import { note, printJson, printTable } from "../output.ts";
import { parseLabels } from "../pairs.ts";
import { resolveSecret } from "../secret.ts";
import type { Shell } from "../shell.ts";
import { stateDirectory } from "../state-directory.ts";

interface RegisterFlags {
  readonly server?: readonly string[];
  readonly token?: string;
  readonly allNodes?: boolean;
  readonly name?: string;
  readonly label?: readonly string[];
  readonly dataDir?: string;
  readonly json?: boolean;
}

/** What `registerAgent` of agent/main.ts takes and answers; see agent/register.ts. */
interface RegisterOptions {
  readonly server: string;
  readonly token: string;
  readonly name: string;
  readonly labels: Labels;
  readonly dataPath: string;
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
        description: "succeed only when every node has greeted this agent",
        kind: "setting",
      }),
      option({ flags: "--name <name>", description: "name of this agent (else the host's name)", kind: "setting" }),
      option({
        flags: "--label <k=v...>",
        description: "labels (repeatable)",
        kind: "setting",
        repeatable: "repeatable",
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
    ],
  }).action(async (flags: RegisterFlags) => finish(await register(shell, flags)));
}

async function register(shell: Shell, flags: RegisterFlags): Promise<number> {
  const servers = (flags.server ?? []).flatMap((text) => text.split(",")).map((text) => text.trim());
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
  };
  const { registerAgent } = await import("../../agent/register.ts");
  const registration = await firstReachable(servers, (server) => {
    const options: RegisterOptions = { ...common, server };
    return registerAgent(options);
  });
  if (flags.json === true) {
    await printJson(shell.out, registration);
  } else {
    const done = registration.enrolment === "new" ? "enrolled" : "was enrolled already";
    await note(
      shell,
      `${registration.name} ${done}; start it with: ${shell.environment["HOLDFAST_COMMAND"] ?? "holdfast"} agent run --data-dir ${common.dataPath}`,
    );
    await printTable(shell.out, registration.nodes, [
      { title: "NODE", cell: (node) => node.name },
      { title: "ADDRESS", cell: (node) => node.address },
      { title: "GREETED", cell: (node) => (node.ok ? "yes" : "no") },
      { title: "REASON", cell: (node) => (node.ok ? null : `${node.reason} ${node.mend}`) },
    ]);
  }
  const greeted = registration.nodes.filter((node) => node.ok).length;
  const wanted = flags.allNodes === true ? registration.nodes.length : 1;
  return greeted >= Math.max(wanted, 1) ? exitCodes.done : exitCodes.unreachable;
}

/** A server that refuses has decided; only one that does not answer is passed over. */
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
      if (error.code !== "cluster.unreachable") throw error;
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
