// Doctor's checks of each address the agent may dial: DNS, TCP, TLS with the certificate seen, a probe's greeting, and the
// clock of the node that answered. Leaves dialling and the words of a failure to node-look.ts and diagnosis.ts.
// Invariant: a running agent is not disturbed: probes open no session.
import type { X509Certificate } from "node:crypto";
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import type { NodeList } from "../../shared/wire/nodes.ts";
import { describeError } from "../../shared/errors.ts";
import { describeSpan } from "../clock-offset.ts";
import type { HealthLine } from "../health-line.ts";
import type { Identity } from "../identity.ts";
import { anyNode, isReached, keyOf, listedAddresses, lookAtEach } from "../node-look.ts";
import type { NodeAddress, NodeLook, NodeLookDeps, NodeLooks } from "../node-look.ts";
import type { Reach } from "../reach.ts";
import { keptOf, seedsOf } from "../reach.ts";
import type { CheckRow } from "./check-row.ts";
import { failed, noted, passed, warned } from "./check-row.ts";

export interface NodesOptions {
  readonly identity: Identity;
  readonly list: NodeList;
  readonly reach: Reach;
  readonly health: HealthLine | undefined;
  /** For each address. */
  readonly dialMs: number;
}

/** Each round follows a newer list that a node told; who changes it faster is left to the running agent. */
const roundsAtMost = 4;
const noticedMs = 2_000;
const refusedMs = 60_000;

interface Place extends NodeAddress {
  /** The listed node's name. */
  readonly name: string | undefined;
}

export async function checkNodes(deps: NodeLookDeps, options: NodesOptions): Promise<CheckRow[]> {
  const { identity, reach, dialMs } = options;
  const seeds = reach.only?.seeds ?? seedsOf(reach.seeds, identity.seeds);
  const looks: NodeLooks = new Map();
  let { list } = options;
  let places = placesOf(list, { reach, seeds });
  for (let round = 0; round < roundsAtMost && places.some((one) => !looks.has(keyOf(one))); round += 1) {
    list = await lookAtEach(deps, places, { identity, dialMs, looks, list });
    places = placesOf(list, { reach, seeds });
  }
  if (places.length === 0) {
    const mend = "Register again: it asks the cluster for its nodes and keeps their addresses.";
    return [failed("node", { seen: "no node and no seed address is known", mend })];
  }
  const seen = places.flatMap((place) => {
    const look = looks.get(keyOf(place));
    return look === undefined ? [] : [{ place, look }];
  });
  const rows = await Promise.all(
    seen.map(async ({ place, look }) => {
      const others = seen.filter((one) => one.place !== place && isReached(one.look));
      return rowOf({ place, look }, { health: options.health, others: others.map((one) => one.place), dialMs, deps });
    }),
  );
  return [...rows, ...clocksOf(seen.map(({ look }) => look))];
}

/** Listed nodes as the agent dials them, then seeds that none of them advertises. */
function placesOf(
  list: NodeList,
  { reach, seeds }: { readonly reach: Reach; readonly seeds: readonly string[] },
): Place[] {
  const kept = keptOf(list, reach.only?.nodes).nodes;
  const listed = kept.flatMap((node) => listedAddresses([node]).map((one) => ({ ...one, name: node.name })));
  const advertised = new Set(listed.map(({ address }) => address));
  const rest = seeds.filter((address) => !advertised.has(address));
  return [...listed, ...rest.map((address) => ({ ...anyNode(address), name: undefined }))];
}

interface Around {
  readonly health: HealthLine | undefined;
  /** Other places that were reached. */
  readonly others: readonly Place[];
  readonly dialMs: number;
  readonly deps: NodeLookDeps;
}

async function rowOf(
  { place, look }: { readonly place: Place; readonly look: NodeLook },
  around: Around,
): Promise<CheckRow> {
  const { address, node, name } = place;
  const subject = name === undefined ? `seed ${address}` : `${name} ${address}`;
  const session = around.health?.sessions.find(({ id }) => id !== null && id === node);
  const common = {
    node: name ?? null,
    nodeId: node ?? null,
    address,
    dns: await resolved(address, around),
    certificate: certificateOf(look.leaf),
    runningAgent: session === undefined ? null : { state: session.state, lastEnd: session.lastEnd },
  };
  if (look.kind === "reached") {
    const { roundTripMs, welcome } = look;
    const detail = { ...common, finding: "reached", stage: "greeted", answeredBy: welcome.node.name, roundTripMs };
    const seen = `greeted by ${welcome.node.name} in ${roundTripMs} ms (DNS, TCP, TLS, greeting); ${shownCertificate(look.leaf)}`;
    if (session?.state === "waiting" && session.lastEnd !== null) {
      const mend =
        "Wait for its next dial, up to a minute; if it lasts, restart the agent, which leaves scripts running.";
      const lacks = `${seen}; but the running agent has no session there: ${session.lastEnd}`;
      return warned("node", { subject, seen: lacks, mend, detail });
    }
    return passed("node", { subject, seen, detail });
  }
  const { kind: finding, reason, mend } = look.finding;
  const detail = { ...common, finding, stage: look.stage, answeredBy: null, roundTripMs: null };
  const seen = look.leaf === undefined ? reason : `${reason}; ${shownCertificate(look.leaf)}`;
  // One way to a node is enough, a seed serves only without any session, and a node that drains comes back.
  const isSpare = around.others.some((other) => other.node === node) || node === undefined || finding === "not-now";
  const make = isSpare && around.others.length > 0 ? warned : failed;
  return make("node", { subject, seen, mend, detail });
}

/** What the name leads to, for a person who compares; whether it can be dialled is the look's to say. */
async function resolved(address: string, { dialMs, deps }: Around): Promise<readonly string[] | string> {
  const host = address.slice(0, address.lastIndexOf(":")).replaceAll(/[[\]]/g, "");
  if (isIP(host) !== 0) return [host];
  const found = lookup(host, { all: true }).then(
    (rows) => rows.map((row) => row.address),
    (cause: unknown) => describeError(cause),
  );
  return await new Promise((resolve) => {
    const timer = deps.clock.after(dialMs, () => resolve(`no answer within ${dialMs} ms`));
    void found.then((answer) => {
      timer.cancel();
      resolve(answer);
    });
  });
}

function certificateOf(leaf: X509Certificate | undefined) {
  if (leaf === undefined) return null;
  const { subject, issuer, subjectAltName, validFromDate, validToDate, fingerprint256 } = leaf;
  return {
    subject,
    issuer,
    names: subjectAltName ?? "",
    validFrom: validFromDate.toISOString(),
    validTo: validToDate.toISOString(),
    thumbprint: fingerprint256.replaceAll(":", "").toLowerCase(),
  };
}

/** A stranger's words are quoted and cut; the terminal's safety is the command line's. */
function shownCertificate(leaf: X509Certificate | undefined): string {
  if (leaf === undefined) return "no certificate was seen";
  const line = (text: string | undefined): string => (text ?? "nobody").replaceAll("\n", ", ").slice(0, 160);
  return `certificate of "${line(leaf.subject)}" by "${line(leaf.issuer)}" for ${line(leaf.subjectAltName)}, until ${leaf.validToDate.toISOString()}`;
}

/** One row per node that tells its time, whichever way it was reached. */
function clocksOf(looks: readonly NodeLook[]): CheckRow[] {
  const told = new Map(
    looks
      .filter(isReached)
      .flatMap(({ welcome, aheadMs }) => (aheadMs === undefined ? [] : [[welcome.node.name, aheadMs]])),
  );
  if (told.size === 0)
    return [noted("clock", { seen: "no node told its time: nothing to compare this machine's clock with" })];
  return [...told].map(([subject, aheadMs]) => {
    const offMs = Math.abs(aheadMs);
    const detail = { node: subject, nodeAheadMs: aheadMs };
    if (offMs <= noticedMs) return passed("clock", { subject, seen: `within ${offMs} ms of the node's`, detail });
    const seen = `${describeSpan(offMs)} ${aheadMs > 0 ? "behind" : "ahead of"} the node's`;
    const mend =
      "Set the clocks of this machine and of the node (NTP): certificates allow an hour, and times of logs mislead.";
    return offMs > refusedMs
      ? failed("clock", { subject, seen, mend, detail })
      : warned("clock", { subject, seen, mend, detail });
  });
}
