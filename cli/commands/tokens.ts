// `holdfast tokens`: let a new agent in.
import type { Command } from "commander";
import type { CreatedToken } from "../../shared/api/tokens.ts";
import type { PageRequest } from "../../shared/api/page.ts";
import { clientUrl, openClient, type ClientOptions } from "../client.ts";
import { command, group, type CommandContext } from "../command.ts";
import { exitCodes } from "../exit-code.ts";
import { installLine } from "../install-line.ts";
import { durationOption, jsonOption, option, pageOptions, urlOptions } from "../option.ts";
import { note, pairs, printJson, printTable } from "../output.ts";
import { printMore } from "../page.ts";
import { parseLabels } from "../pairs.ts";
import type { Shell } from "../shell.ts";

interface JsonFlag extends ClientOptions {
  readonly json?: boolean;
}

interface CreateFlags extends JsonFlag {
  readonly label?: readonly string[];
  readonly expires: number;
  readonly replace?: string;
}

export function tokensCommand(context: CommandContext): Command {
  return group("tokens", {
    summary: "create, list and revoke enrolment tokens",
    commands: [createCommand(context), listCommand(context), revokeCommand(context)],
    examples: [["holdfast tokens create --label role=web", "a token for one new agent"]],
  });
}

function createCommand({ shell, finish }: CommandContext): Command {
  return command("create", {
    summary: "create a token that enrols one agent; it is shown this once",
    options: [
      option({
        flags: "--label <k=v...>",
        description: "labels given to the agent (repeatable)",
        kind: "act",
        repeatable: "repeatable",
      }),
      durationOption({
        flags: "--expires <duration>",
        description: "valid this long, at most 1d",
        kind: "act",
        fallback: { value: 3_600_000, shown: "1h" },
      }),
      option({ flags: "--replace <name>", description: "the new agent may take this existing name over", kind: "act" }),
      jsonOption(),
      ...urlOptions(),
    ],
    examples: [
      ["holdfast tokens create --label role=web --label env=prod --expires 1h", "bound to labels"],
      ["TOKEN=$(holdfast tokens create)", "standard output holds the token alone"],
    ],
  }).action(async (flags: CreateFlags) => {
    const client = await openClient(shell, flags);
    const created = await client.tokens.create({
      labels: parseLabels(flags.label ?? []),
      expiresMs: flags.expires,
      replace: flags.replace,
    });
    if (flags.json === true) {
      await printJson(shell.out, created);
    } else {
      await shell.out.write(`${created.token}\n`);
      await note(
        shell,
        `for one agent, until ${created.expiresAt}; on the target: holdfast agent register --server URL --token TOKEN --all-nodes`,
      );
      await noteInstallation(shell, created, await clientUrl(shell, flags));
    }
    finish(exitCodes.done);
  });
}

/** On standard error, for standard output holds the token alone. */
async function noteInstallation(shell: Shell, { token, installerSha256 }: CreatedToken, url: string): Promise<void> {
  if (installerSha256 === null) return;
  await note(shell, "on a target without Node, as root (--no-service: only enrol):");
  await shell.err.write(`  ${installLine({ url, token, installerSha256 })}\n`);
  const { hostname } = new URL(url);
  if (["localhost", "127.0.0.1", "[::1]"].includes(hostname))
    await note(shell, `${hostname} is this machine: put the address there that the target reaches`);
}

function listCommand({ shell, finish }: CommandContext): Command {
  return command("list", {
    summary: "list tokens, newest first (never their text)",
    options: [...pageOptions(), jsonOption(), ...urlOptions()],
    examples: [["holdfast tokens list", "which are used, by whom"]],
  }).action(async ({ limit, cursor, ...flags }: JsonFlag & PageRequest) => {
    const page = await (await openClient(shell, flags)).tokens.list({ limit, cursor });
    if (flags.json === true) {
      await printJson(shell.out, page);
    } else {
      await printTable(shell.out, page.items, [
        { title: "ID", cell: (token) => token.id },
        { title: "STATE", cell: (token) => token.state },
        { title: "AGENT", cell: (token) => token.agent },
        { title: "LABELS", cell: (token) => pairs(token.labels) },
        { title: "EXPIRES", cell: (token) => token.expiresAt },
        { title: "BY", cell: (token) => token.createdBy },
      ]);
      await printMore(shell, page);
    }
    finish(exitCodes.done);
  });
}

function revokeCommand({ shell, finish }: CommandContext): Command {
  return command("revoke <id>", {
    summary: "make a token useless",
    options: [jsonOption(), ...urlOptions()],
    examples: [["holdfast tokens revoke 0190b7e5-…", "agents already enrolled by it stay"]],
  }).action(async (id: string, flags: JsonFlag) => {
    const token = await (await openClient(shell, flags)).tokens.revoke(id);
    if (flags.json === true) await printJson(shell.out, token);
    else await shell.out.write(`${token.id} is ${token.state}\n`);
    finish(exitCodes.done);
  });
}
