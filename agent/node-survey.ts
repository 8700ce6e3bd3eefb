// Dials every address of a list of nodes, follows newer lists it is told of on the way, and makes one row of each.
// Invariant: the rows are those of the newest list that any node gave, not of the one it began with.
import { AppError } from "../shared/errors.ts";
import type { ListedNode, NodeList } from "../shared/wire/nodes.ts";
import type { FindingKind } from "./finding.ts";
import type { Identity } from "./identity.ts";
import { newerList } from "./node-addresses.ts";
import { chooseNodes } from "./node-choice.ts";
import type { NodeChoice } from "./node-choice.ts";
import { lookAtNode } from "./node-look.ts";
import type { NodeLookDeps, NodeLookOptions, NodeAddress } from "./node-look.ts";
import { seedsOf } from "./reach.ts";

export interface NodeRow {
  /** The listed node's name; of an address that no node advertises, the name of the node that answered, else null. */
  readonly name: string | null;
  readonly address: string;
  readonly ok: boolean;
  readonly finding: FindingKind | "reached";
  /** Empty when it was reached. */
  readonly reason: string;
  readonly mend: string;
  /** TCP, TLS and greeting together. */
  readonly roundTripMs: number | null;
}

export interface Survey {
  readonly list: NodeList;
  readonly choice: NodeChoice;
  readonly rows: readonly NodeRow[];
  /** A node counts as reached when one of its addresses leads to it. */
  readonly reached: "all" | "some" | "none";
}

export type SurveyDeps = NodeLookDeps;

export interface SurveyOptions {
  readonly identity: Identity;
  readonly list: NodeList;
  /** `fresh`: just given by the cluster; `remembered`: whoever answers is asked for a newer one. */
  readonly listFrom: "fresh" | "remembered";
  /** Words of `--node`; none chooses every node. */
  readonly named: readonly string[];
  readonly seeds: readonly string[];
  /** For each address. */
  readonly dialMs: number;
}

const dialsAtOnce = 64;
/** Each round follows a newer list; nodes that change theirs faster than this are left to the running agent. */
const roundsAtMost = 4;

/** Throws `config.invalid` when `--node` names what no node of the newest list is called. */
export async function surveyNodes(deps: SurveyDeps, options: SurveyOptions): Promise<Survey> {
  const { identity, named, seeds, dialMs } = options;
  const results = new Map<string, NodeRow>();
  let list = options.list;
  let isFresh = options.listFrom === "fresh";
  const dialAll = (addresses: readonly NodeAddress[]): Promise<void> =>
    eachOf(
      addresses.filter((one) => !results.has(keyOf(one))),
      async (one) => {
        const { row, heard } = await dialOne(deps, { ...one, identity, dialMs });
        results.set(keyOf(one), row);
        if (heard === undefined) return;
        isFresh = true;
        list = newerList(list, heard);
      },
    );
  if (!isFresh) await dialAll(listed(list.nodes));
  // Whoever was away for long may know no address any more that is a listed node's.
  if (!isFresh)
    await dialAll(
      seedsOf(
        seeds,
        listed(list.nodes).map(({ address }) => address),
      ).map(anyNode),
    );
  for (let round = 0; round < roundsAtMost; round += 1) {
    const { nodes, anyNode: others } = chooseNodes(list, named);
    const missing = [...listed(nodes), ...others.map(anyNode)].filter((one) => !results.has(keyOf(one)));
    if (missing.length === 0) break;
    await dialAll(missing);
  }
  const choice = chooseNodes(list, named);
  refuseUnknown(choice, list, isFresh);
  const rowsOf = (addresses: readonly NodeAddress[]): NodeRow[] =>
    addresses.flatMap((one) => results.get(keyOf(one)) ?? []);
  const groups = [
    ...choice.nodes.map((node) => rowsOf(listed([node])).map((row) => ({ ...row, name: node.name }))),
    ...choice.anyNode.map((address) => rowsOf([anyNode(address)])),
  ];
  // Nothing is listed: what is left to show is where the cluster once was.
  if (groups.length === 0) groups.push(...seeds.map((address) => rowsOf([anyNode(address)])));
  const reached = groups.filter((rows) => rows.some(({ ok }) => ok)).length;
  return {
    list,
    choice,
    rows: groups.flat(),
    reached: reached === 0 ? "none" : reached === groups.length ? "all" : "some",
  };
}

const anyNode = (address: string): NodeAddress => ({ address, node: undefined });
const keyOf = ({ address, node }: NodeAddress): string => `${node ?? ""} ${address}`;
const listed = (nodes: readonly ListedNode[]): NodeAddress[] =>
  nodes.flatMap(({ id, addresses }) => addresses.map((address) => ({ address, node: id })));

function refuseUnknown({ unknown }: NodeChoice, list: NodeList, isFresh: boolean): void {
  const [first] = unknown;
  if (first === undefined) return;
  const names = list.nodes.map(({ name, addresses }) => `${name} (${addresses.join(", ")})`).join(", ");
  const which = isFresh ? "the cluster's nodes are" : "no node could be asked; the last ones known are";
  throw new AppError("config.invalid", `--node ${first}: ${which} ${names === "" ? "none" : names}`, {
    mend: "Name a node or an address as listed here, or HOST:PORT of a load balancer. The identity is kept: a repetition needs no new token.",
  });
}

/** As a row; with the list that the node told of. */
async function dialOne(
  deps: SurveyDeps,
  options: NodeLookOptions,
): Promise<{ readonly row: NodeRow; readonly heard: NodeList | undefined }> {
  const { address } = options;
  const look = await lookAtNode(deps, options);
  if (look.kind === "reached") {
    const { welcome, roundTripMs } = look;
    const { name } = welcome.node;
    const row: NodeRow = { name, address, ok: true, finding: "reached", reason: "", mend: "", roundTripMs };
    return { row, heard: welcome.nodes };
  }
  const { kind: finding, reason, mend } = look.finding;
  return { row: { name: null, address, ok: false, finding, reason, mend, roundTripMs: null }, heard: undefined };
}

async function eachOf<T>(items: readonly T[], act: (item: T) => Promise<void>): Promise<void> {
  const left = [...items];
  const work = async (): Promise<void> => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await act(item);
  };
  await Promise.all(Array.from({ length: Math.min(dialsAtOnce, items.length) }, work));
}
