// `holdfast agent register`: enrols this machine, or keeps the identity it has, then dials every node it is to reach and
// says of each address whether it leads there. Leaves the exchange to enrol.ts and the dialling to node-survey.ts.
// Invariant: a repetition keeps journal and identity, and uses its token only when the certificate is of no use any more.
import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import type { Clock } from "../shared/clock.ts";
import { systemClock } from "../shared/clock.ts";
import { decodeToken } from "../shared/enrolment-token.ts";
import { makeClosedFolder } from "../shared/closed-folder.ts";
import { AppError } from "../shared/errors.ts";
import type { Labels } from "../shared/task.ts";
import type { NodeList } from "../shared/wire/nodes.ts";
import type { Dial } from "./dial.ts";
import { createDial } from "./dial.ts";
import { enrol, greet } from "./enrol.ts";
import { EnrolmentApi } from "./enrolment-api.ts";
import type { Identity } from "./identity.ts";
import { loadIdentity } from "./identity.ts";
import { loadNodeList, newerList, storeNodeList } from "./node-addresses.ts";
import type { NodeRow, Survey } from "./node-survey.ts";
import { surveyNodes } from "./node-survey.ts";
import { createFetch } from "./proxied-fetch.ts";
import { ProxyRules } from "./proxy.ts";
import { loadReach, seedsOf, storeReach } from "./reach.ts";
import type { Reach } from "./reach.ts";

export interface RegisterOptions {
  /** Base URL of any node's API or of the load balancer before them, such as `https://holdfast.example:8080`. */
  readonly server: string;
  readonly token: string;
  readonly name: string;
  readonly labels?: Labels;
  readonly dataPath: string;
  /**
   * Nodes to keep to: names, ids or addresses they advertise, or addresses behind which any node answers. The running
   * agent dials no other node from then on. Empty (the default): every node, now and later.
   */
  readonly nodes?: readonly string[];
  /**
   * URL of the proxy for everything this agent dials, now and when it runs; kept with the data directory, taken away by
   * "". Without it HTTPS_PROXY counts; NO_PROXY exempts from either.
   */
  readonly proxy?: string | undefined;
  /** Milliseconds for each HTTP exchange. Default 15,000. */
  readonly timeoutMs?: number;
  /** Milliseconds for TCP, TLS and greeting of each address; below 15,000. Default 10,000. */
  readonly dialMs?: number;
}

export interface RegisterDeps {
  readonly clock?: Clock;
  readonly dial?: Dial;
  readonly fetch?: typeof fetch;
  /** Of proxies. Default: the process's. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
}

export interface Registration {
  readonly agentId: Identity["agentId"];
  readonly name: string;
  readonly cluster: Identity["cluster"];
  /**
   * `kept`: this data directory was registered with the cluster before; the token was not used. `renewed`: it was, but
   * its certificate had expired or was not trusted any more; the token was used for a new one, the journal is kept.
   */
  readonly enrolment: "new" | "kept" | "renewed";
  readonly reached: Survey["reached"];
  /** One for each advertised address of each chosen node, and for each chosen address that no node advertises. */
  readonly nodes: readonly NodeRow[];
  /** The restriction that was stored, null when the agent connects to every node. */
  readonly keepsTo: { readonly nodes: readonly string[]; readonly addresses: readonly string[] } | null;
  /** How far the server's clock is ahead of this machine's; null when its answers did not tell. */
  readonly serverAheadMs: number | null;
}

export type { NodeRow } from "./node-survey.ts";

/**
 * Throws AppError: `token.refused`, `enrolment.untrusted` (wrong pin or foreign server), `agent.name-taken`,
 * `cluster.unreachable`, `config.invalid` (another cluster's data directory, an unknown node named). Nodes that cannot be
 * reached are rows, not errors.
 */
export async function registerAgent(options: RegisterOptions, deps: RegisterDeps = {}): Promise<Registration> {
  const clock = deps.clock ?? systemClock;
  const { server, dataPath, nodes: named = [], dialMs = 10_000, timeoutMs = 15_000 } = options;
  const token = decodeToken(options.token);
  await makeClosedFolder(dataPath);
  const earlier = await earlierReach(dataPath);
  const proxy = options.proxy ?? earlier.proxy;
  const proxies = ProxyRules.read(proxy, deps.environment ?? process.env);
  const api = new EnrolmentApi({ fetch: deps.fetch ?? createFetch(proxies), clock }, { server, timeoutMs });
  const greeted = await greet({ api, clock }, { server, token });
  const known = await loadIdentity(dataPath);
  refuseOtherCluster(known, { dataPath, cluster: greeted.cluster });
  const listPath = join(dataPath, "nodes.json");
  const remembered = await loadNodeList(listPath);
  const enrolAs = (name: string, labels: Labels) =>
    enrol({ api, clock }, { server, token, name, labels, dataPath }, greeted);
  const survey = (identity: Identity, given: { readonly list: NodeList; readonly listFrom: "fresh" | "remembered" }) =>
    surveyNodes(
      { dial: deps.dial ?? createDial(proxies), clock, serverAheadMs: api.serverAheadMs, proxies },
      { identity, ...given, named, seeds: seedsOf(identity.seeds, earlier.seeds), dialMs },
    );

  let enrolment: Registration["enrolment"] = "kept";
  let identity = known;
  let seen: Survey | undefined;
  if (identity !== undefined && !isExpired(identity, clock)) {
    seen = await survey(identity, { list: remembered, listFrom: "remembered" });
  }
  if (identity === undefined || seen === undefined || isRefused(seen)) {
    const name = identity?.name ?? options.name;
    const answer = await enrolAs(name, options.labels ?? identity?.labels ?? {}).catch((cause: unknown) => {
      throw known === undefined ? cause : withReplaceMend(cause, known);
    });
    enrolment = answer.identity.agentId === known?.agentId ? "renewed" : "new";
    identity = answer.identity;
    const list = newerList(remembered, answer.list);
    await storeNodeList(listPath, list);
    seen = await survey(identity, { list, listFrom: "fresh" });
  }
  await storeNodeList(listPath, seen.list);
  const reach = reachOf(seen, { named, known: seedsOf(identity.seeds, known?.seeds ?? [], earlier.seeds) });
  await storeReach(dataPath, { ...reach, ...(proxy === undefined || proxy === "" ? {} : { proxy }) });
  const { agentId, name, cluster } = identity;
  const { choice, reached, rows } = seen;
  return {
    agentId,
    name,
    cluster,
    enrolment,
    reached,
    nodes: rows,
    keepsTo: named.length === 0 ? null : { nodes: choice.nodes.map((node) => node.name), addresses: choice.anyNode },
    serverAheadMs: api.serverAheadMs ?? null,
  };
}

function refuseOtherCluster(
  known: Identity | undefined,
  { dataPath, cluster }: { readonly dataPath: string; readonly cluster: Identity["cluster"] },
): void {
  if (known === undefined || known.cluster === cluster) return;
  const mend = "Give another --data-dir, or remove this one if the old cluster is gone.";
  throw new AppError("config.invalid", `${dataPath} belongs to cluster ${known.cluster}, the token to ${cluster}`, {
    mend,
  });
}

/** A file that cannot be read is what registering again mends: it is written anew. */
function earlierReach(dataPath: string): Promise<Reach> {
  return loadReach(dataPath).catch((cause: unknown) => {
    if (AppError.from(cause).code === "config.invalid") return { seeds: [] };
    throw cause;
  });
}

function reachOf(
  { list, choice }: Survey,
  { named, known }: { readonly named: readonly string[]; readonly known: readonly string[] },
): Reach {
  const advertised = list.nodes.flatMap(({ addresses }) => addresses);
  const seeds = seedsOf(known, choice.anyNode, advertised);
  if (named.length === 0) return { seeds };
  const own = choice.nodes.flatMap(({ addresses }) => addresses);
  return { seeds, only: { nodes: choice.nodes.map(({ id }) => id), seeds: seedsOf(choice.anyNode, own) } };
}

function isExpired({ certificate }: Identity, clock: Clock): boolean {
  return new X509Certificate(certificate).validToDate.getTime() < clock.wallMs();
}

/** No node takes this certificate, and at least one said so: only a new one helps. */
function isRefused({ reached, rows }: Survey): boolean {
  return reached === "none" && rows.some(({ finding }) => finding === "agent-refused" || finding === "agent-expired");
}

function withReplaceMend(cause: unknown, { name }: Identity): AppError {
  const error = AppError.from(cause);
  if (error.code !== "agent.name-taken") return error;
  return new AppError(error.code, `${name}'s certificate is not good any more, and this token allows no other one`, {
    mend: `Create the token with \`holdfast tokens create --replace ${name}\` and register with it: identity and journal are kept.`,
    cause: error,
  });
}
