// The list of nodes the agent knows, kept on disk. Decides which list counts; connections.ts dials.
// Invariant: a lower version never replaces a higher one, and an empty list never replaces one with nodes.
import { readFile } from "node:fs/promises";
import type { Background } from "../shared/background.ts";
import type { NodeList } from "../shared/wire/nodes.ts";
import { nodeListSchema } from "../shared/wire/nodes.ts";
import { replaceFile } from "./durable-file.ts";

export const noNodes: NodeList = { version: 0, want: 0, nodes: [] };

/** What is in the file; a missing or unreadable one is no reason not to start, for the seeds remain. */
export async function loadNodeList(path: string): Promise<NodeList> {
  try {
    return nodeListSchema.parse(JSON.parse(await readFile(path, "utf8")));
  } catch {
    return noNodes;
  }
}

export function storeNodeList(path: string, list: NodeList): Promise<void> {
  return replaceFile(path, `${JSON.stringify(list, null, 2)}\n`);
}

/** Keeps the file at the newest list: one write at a time, for two at once would mix their bytes; lists in between are skipped. */
export class NodeListFile {
  readonly #background: Background;
  readonly #path: string;
  #waiting: NodeList | undefined;
  #state: "idle" | "writing" = "idle";

  constructor(deps: { readonly background: Background }, options: { readonly path: string }) {
    this.#background = deps.background;
    this.#path = options.path;
  }

  keep(list: NodeList): void {
    this.#waiting = list;
    if (this.#state === "writing") return;
    this.#state = "writing";
    this.#background.run("store the node list", async () => {
      try {
        for (let next = this.#take(); next !== undefined; next = this.#take()) await storeNodeList(this.#path, next);
      } finally {
        this.#state = "idle";
      }
    });
  }

  #take(): NodeList | undefined {
    const next = this.#waiting;
    this.#waiting = undefined;
    return next;
  }
}

/** The list that counts after `heard` came in. */
export function newerList(known: NodeList, heard: NodeList): NodeList {
  if (heard.version < known.version) return known;
  if (heard.nodes.length === 0) return known;
  return heard;
}
