// What an operator sees where versions meet: the command line of either understands the nodes of the other, and what an agent
// does not know is refused in words, never left out.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { runProgram } from "../../demo/processes.ts";
import type { Pairing, Version } from "./pairing.ts";
import { features, type Feature, type PreviousVersion } from "./previous.ts";

/** Exit code of `run` when the agent refused. */
const refused = 204;
/** An update is not asked for by `run`. */
const askedByRun = features.filter((feature): feature is Exclude<Feature, "update"> => feature !== "update");

/** Each feature through today's command line: refused where the version lacks it, else it runs. */
export async function expectRefusals(pairing: Pairing, { lacks }: Pick<PreviousVersion, "lacks">): Promise<void> {
  const flags = await flagsFor(pairing.cluster.folder);
  const seen = await Promise.all(
    askedByRun.map(async (feature) => {
      const args = ["run", "--on", "web-01", ...flags[feature], "--", "echo", "ran all the same"];
      const { exitCode, output } = await cli(pairing, { version: undefined, args });
      if (exitCode === 0 && output.includes("ran all the same")) return [feature, "run"];
      const isRefused = exitCode === refused && /refused: unsupported: this agent's version .*: update it/.test(output);
      return [feature, isRefused ? "refused" : `${exitCode}: ${output}`];
    }),
  );
  const wanted = askedByRun.map((feature) => [feature, lacks.includes(feature) ? "refused" : "run"]);
  expect(Object.fromEntries(seen)).toEqual(Object.fromEntries(wanted));
}

export async function expectUnderstood(pairing: Pairing, version: Version): Promise<void> {
  const ran = await cli(pairing, { version, args: ["run", "--on", "web-01", "--", "echo one; echo two >&2; exit 7"] });
  expect(ran).toEqual({ exitCode: 7, output: expect.stringMatching(/one[^]*two|two[^]*one/) });
  for (const noun of ["tasks", "agents", "nodes"]) {
    const listed = await cli(pairing, { version, args: [noun, "list", "--json"] });
    expect([noun, listed.exitCode, listed.output]).toEqual([noun, 0, expect.stringMatching(/web-01|node-a/)]);
  }
}

async function flagsFor(folder: string) {
  const attached = join(folder, "app.conf");
  await writeFile(attached, "x");
  return {
    isolation: ["--isolation", "full"],
    secrets: ["--secret", `PIN=file://${attached}`],
    "interpreter-args": ["--interpreter-arg=-u"],
    attachments: ["--attach", attached],
    user: ["--user", "root"],
  } as const satisfies Record<(typeof askedByRun)[number], readonly string[]>;
}

function cli(pairing: Pairing, { version, args }: { readonly version: Version; readonly args: readonly string[] }) {
  const { server, apiKey } = pairing.cluster;
  const environment = { HOLDFAST_URL: server.url, HOLDFAST_API_KEY: apiKey };
  const root = version === undefined ? {} : { root: version.root };
  return runProgram({ title: `holdfast ${args.join(" ")}`, args, environment, ...root });
}
