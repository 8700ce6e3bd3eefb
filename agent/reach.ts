// What registration said about how to reach the cluster: addresses kept for ever as seeds, and the nodes this agent keeps
// to when it was registered with `--node`, the proxy it goes through. In reach.json, beside the identity.
// Invariant: only register writes the file, so neither a renewal nor a pushed list undoes what a person chose.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { AppError, describeError, errnoOf } from "../shared/errors.ts";
import type { NodeId } from "../shared/ids.ts";
import { nodeIdSchema } from "../shared/ids.ts";
import type { NodeList } from "../shared/wire/nodes.ts";
import { addressSchema } from "../shared/wire/nodes.ts";
import { replaceFile } from "./durable-file.ts";

/** Seeds of one data directory; what comes later than this many is not kept. */
export const seedsAtMost = 256;

const addresses = z.array(addressSchema).max(seedsAtMost);
const reachSchema = z.object({
  /** Where some node of the cluster was to be found, at any registration. Used only while no session is open. */
  seeds: addresses,
  /**
   * Nodes by id, so that one that moves or is renamed stays chosen; seeds of these alone, and every address that no node
   * advertises, such as a load balancer's. Without it the agent connects to every listed node.
   */
  only: z.object({ nodes: z.array(nodeIdSchema).max(256), seeds: addresses }).optional(),
  /** URL of the proxy given at registration, with its credentials: the file is its owner's alone. */
  proxy: z.string().max(2_048).optional(),
});
export type Reach = z.infer<typeof reachSchema>;

const pathIn = (dataPath: string): string => join(dataPath, "reach.json");

/** Throws `config.invalid` for a file that cannot be read: going on without it would lift a restriction silently. */
export async function loadReach(dataPath: string): Promise<Reach> {
  const path = pathIn(dataPath);
  try {
    return reachSchema.parse(JSON.parse(await readFile(path, "utf8")));
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT") return { seeds: [] };
    const mend = "Run `holdfast agent register` again with the same --data-dir; it writes the file anew.";
    throw new AppError("config.invalid", `${path}: ${describeError(cause).slice(0, 300)}`, { mend, cause });
  }
}

export function storeReach(dataPath: string, reach: Reach): Promise<void> {
  return replaceFile(pathIn(dataPath), `${JSON.stringify(reach, null, 2)}\n`);
}

/** Without repetitions, the first ones kept at the bound. */
export function seedsOf(...sources: readonly (readonly string[])[]): string[] {
  return [...new Set(sources.flat())].slice(0, seedsAtMost);
}

/** The part of a list that an agent keeps to. */
export function keptOf(list: NodeList, only: readonly NodeId[] | undefined): NodeList {
  if (only === undefined) return list;
  return { ...list, nodes: list.nodes.filter(({ id }) => only.includes(id)) };
}
