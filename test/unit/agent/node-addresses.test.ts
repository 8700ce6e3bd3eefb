// The file that keeps the list of nodes over restarts.
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { loadNodeList, NodeListFile } from "../../../agent/node-addresses.ts";
import { Background } from "../../../shared/background.ts";
import { nodeIdSchema } from "../../../shared/ids.ts";
import { silentLogger } from "../../../shared/logger.ts";
import type { NodeList } from "../../../shared/wire/nodes.ts";

const listOf = (version: number): NodeList => ({
  version,
  want: 0,
  // The later, the shorter: what is left of an older one would show.
  nodes: Array.from({ length: 60 - version }, (_, at) => ({
    id: nodeIdSchema.parse(`00000000-0000-4000-8000-${String(at).padStart(12, "0")}`),
    name: `node-${at}`,
    addresses: [`node-${at}:10943`],
  })),
});

it("is the newest list as a whole, however many come at once", async () => {
  const folder = await mkdtemp(join(tmpdir(), "holdfast-list-"));
  const failures: string[] = [];
  const background = new Background({ logger: { ...silentLogger, error: (_fields, text) => failures.push(text) } });
  const path = join(folder, "nodes.json");
  const file = new NodeListFile({ background }, { path });
  for (let version = 1; version <= 50; version += 1) file.keep(listOf(version));
  await background.settle();
  expect(await loadNodeList(path)).toEqual(listOf(50));
  file.keep(listOf(51));
  await background.settle();
  expect([(await loadNodeList(path)).version, failures, await readdir(folder)]).toEqual([51, [], ["nodes.json"]]);
  await rm(folder, { recursive: true });
});
