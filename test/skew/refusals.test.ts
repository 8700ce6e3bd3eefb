// What an agent of an earlier version does not know is never left out: its task is refused, with words for the operator, and
// the command lines of both versions understand the nodes of the other.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { runProgram } from "../../demo/processes.ts";
import { checkOut } from "./checkout.ts";
import { Pairing, type Version } from "./pairing.ts";
import { features, previousVersions, type Feature } from "./previous.ts";

/** Exit code of `run` when the agent refused. */
const refused = 204;

it.concurrent.each(previousVersions)("today's node spares an agent $title what it does not know", async (previous) => {
  await using earlier = await checkOut(previous);
  await using pairing = await Pairing.start({ node: undefined, agent: earlier });
  const { folder } = pairing.cluster;
  const attached = join(folder, "app.conf");
  await writeFile(attached, "x");
  const flags = {
    isolation: ["--isolation", "full"],
    secrets: ["--secret", `PIN=file://${attached}`],
    "interpreter-args": ["--interpreter-arg=-u"],
    attachments: ["--attach", attached],
    user: ["--user", "root"],
  } as const satisfies Record<Exclude<Feature, "update">, readonly string[]>;

  const seen = await Promise.all(
    Object.entries(flags).map(async ([feature, words]) => {
      const args = ["run", "--on", "web-01", ...words, "--", "echo", `ran with ${feature}`];
      const { exitCode, output } = await cli(pairing, { version: undefined, args });
      const isRefused = exitCode === refused && /refused: unsupported: this agent's version .*: update it/.test(output);
      const isRun = exitCode === 0 && output.includes(`ran with ${feature}`);
      return [feature, isRefused ? "refused" : isRun ? "run" : `${exitCode}: ${output}`];
    }),
  );
  const wanted = features.filter((feature) => feature !== "update");
  expect(Object.fromEntries(seen)).toEqual(
    Object.fromEntries(wanted.map((feature) => [feature, previous.lacks.includes(feature) ? "refused" : "run"])),
  );
});

const sides = [
  ["the earlier command line", "today's node"],
  ["today's command line", "the earlier node"],
] as const;
const pairs = previousVersions.flatMap((previous) => sides.map(([line, node]) => ({ ...previous, line, node })));

it.concurrent.each(pairs)("$title: $line understands $node", async ({ line, node: _, ...previous }) => {
  await using earlier = await checkOut(previous);
  const isLineEarlier = line === sides[0][0];
  const node = isLineEarlier ? undefined : earlier;
  await using pairing = await Pairing.start({ node, agent: undefined });
  const version = isLineEarlier ? earlier : undefined;
  const ran = await cli(pairing, { version, args: ["run", "--on", "web-01", "--", "echo one; echo two >&2; exit 7"] });
  expect(ran).toEqual({ exitCode: 7, output: expect.stringMatching(/one[^]*two|two[^]*one/) });
  for (const noun of ["tasks", "agents", "nodes"]) {
    const listed = await cli(pairing, { version, args: [noun, "list", "--json"] });
    expect([noun, listed.exitCode, listed.output]).toEqual([noun, 0, expect.stringMatching(/web-01|node-a/)]);
  }
});

function cli(pairing: Pairing, { version, args }: { readonly version: Version; readonly args: readonly string[] }) {
  const { server, apiKey } = pairing.cluster;
  const environment = { HOLDFAST_URL: server.url, HOLDFAST_API_KEY: apiKey };
  const root = version === undefined ? {} : { root: version.root };
  return runProgram({ title: `holdfast ${args.join(" ")}`, args, environment, ...root });
}
