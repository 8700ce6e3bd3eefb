// Dials every address of a list of nodes, follows newer lists it is told of on the way, and makes one row of each.
// Invariant: the rows are those of the newest list that any node gave, not of the one it began with.
import { AppError } from "../shared/errors.ts";
import type { NodeList } from "../shared/wire/nodes.ts";
import type { FindingKind } from "./finding.ts";
import type { Identity } from "./identity.ts";
import { chooseNodes } from "./node-choice.ts";
import type { NodeChoice } from "./node-choice.ts";
import { anyNode, isReached, keyOf, listedAddresses, lookAtEach } from "./node-look.ts";
import type { NodeAddress, NodeLook, NodeLookDeps, NodeLooks } from "./node-look.ts";
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

/** Each round follows a newer list; nodes that change theirs faster than this are left to the running agent. */
const roundsAtMost = 4;

/** Throws `config.invalid` when `--node` names what no node of the newest list is called. */
export async function surveyNodes(deps: SurveyDeps, options: SurveyOptions): Promise<Survey> {
  const { identity, named, seeds, dialMs } = options;
  const looks: NodeLooks = new Map();
  let list = options.list;
  const dialAll = async (addresses: readonly NodeAddress[]): Promise<void> => {
    list = await lookAtEach(deps, addresses, { identity, dialMs, looks, list });
  };
  const isFresh = (): boolean => options.listFrom === "fresh" || [...looks.values()].some(isReached);
  if (!isFresh()) await dialAll(listedAddresses(list.nodes));
  // Whoever was away for long may know no address any more that is a listed node's.
  if (!isFresh())
    await dialAll(
      seedsOf(
        seeds,
        listedAddresses(list.nodes).map(({ address }) => address),
      ).map(anyNode),
    );
  for (let round = 0; round < roundsAtMost; round += 1) {
    const { nodes, anyNode: others } = chooseNodes(list, named);
    const missing = [...listedAddresses(nodes), ...others.map(anyNode)].filter((one) => !looks.has(keyOf(one)));
    if (missing.length === 0) break;
    await dialAll(missing);
  }
  const choice = chooseNodes(list, named);
  refuseUnknown(choice, list, isFresh());
  const rowsOf = (addresses: readonly NodeAddress[]): NodeRow[] =>
    addresses.flatMap((one) => {
      const look = looks.get(keyOf(one));
      return look === undefined ? [] : [rowOf(look, one.address)];
    });
  const groups = [
    ...choice.nodes.map((node) => rowsOf(listedAddresses([node])).map((row) => ({ ...row, name: node.name }))),
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

function refuseUnknown({ unknown }: NodeChoice, list: NodeList, isFresh: boolean): void {
  const [first] = unknown;
  if (first === undefined) return;
  const names = list.nodes.map(({ name, addresses }) => `${name} (${addresses.join(", ")})`).join(", ");
  const which = isFresh ? "the cluster's nodes are" : "no node could be asked; the last ones known are";
  throw new AppError("config.invalid", `--node ${first}: ${which} ${names === "" ? "none" : names}`, {
    mend: "Name a node or an address as listed here, or HOST:PORT of a load balancer. The identity is kept: a repetition needs no new token.",
  });
}

function rowOf(look: NodeLook, address: string): NodeRow {
  if (look.kind === "reached") {
    const { welcome, roundTripMs } = look;
    const { name } = welcome.node;
    return { name, address, ok: true, finding: "reached", reason: "", mend: "", roundTripMs };
  }
  const { kind: finding, reason, mend } = look.finding;
  return { name: null, address, ok: false, finding, reason, mend, roundTripMs: null };
}
