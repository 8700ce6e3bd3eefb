// What `--node` names: listed nodes by name, id or an address they advertise, and addresses that no node advertises, such
// as a load balancer's. Invariant: a chosen node is known by its id from then on, so that it may move and be renamed.
import { AppError } from "../shared/errors.ts";
import type { ListedNode, NodeList } from "../shared/wire/nodes.ts";
import { addressSchema } from "../shared/wire/nodes.ts";

export interface NodeChoice {
  readonly nodes: readonly ListedNode[];
  /** Addresses behind which any node may answer. */
  readonly anyNode: readonly string[];
  /** Words that are no address and name no listed node. */
  readonly unknown: readonly string[];
}

/** Every listed node when nothing is named. Throws `config.invalid` for a URL that is none. */
export function chooseNodes(list: NodeList, named: readonly string[]): NodeChoice {
  if (named.length === 0) return { nodes: list.nodes, anyNode: [], unknown: [] };
  const nodes = new Set<ListedNode>();
  const anyNode = new Set<string>();
  const unknown: string[] = [];
  for (const word of named.map(plainAddress)) {
    const found = list.nodes.filter(
      ({ id, name, addresses }) => id === word || name === word || addresses.includes(word),
    );
    for (const node of found) nodes.add(node);
    if (found.length > 0) continue;
    if (addressSchema.safeParse(word).success) anyNode.add(word);
    else unknown.push(word);
  }
  return { nodes: list.nodes.filter((node) => nodes.has(node)), anyNode: [...anyNode], unknown };
}

/** `https://host:port` and `wss://host:port` are `host:port`, port 443 when there is none; anything else stays as it is. */
function plainAddress(text: string): string {
  if (!text.includes("://")) return text;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url !== undefined && (url.protocol === "https:" || url.protocol === "wss:") && url.pathname === "/")
    return `${url.hostname}:${url.port === "" ? "443" : url.port}`;
  throw new AppError("config.invalid", `--node ${text}: expected https://HOST:PORT, HOST:PORT or a node's name`);
}
