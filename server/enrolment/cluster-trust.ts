// The cluster's identity and its two CAs, created once by whichever node comes first and opened by every other with the
// master key. A node with a wrong key gets no further than here.
import { createAuthority, type Authority } from "../../certs/authority.ts";
import { readTrustAnchor, type TrustAnchor } from "../../certs/trust.ts";
import type { Clock } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import { clusterIdSchema, newId, type ClusterId, type IdSource } from "../../shared/ids.ts";
import type { Random } from "../../shared/random.ts";
import type { Database, Sql } from "../store/connection.ts";
import { createCluster, readAuthorities, readCluster, storeAuthority } from "../store/trust.ts";
import type { MasterKey } from "./master-key.ts";

const checkPurpose = "cluster key check";
const checkText = "holdfast";

export interface ClusterTrust {
  readonly cluster: ClusterId;
  /** Sign with these. */
  readonly agentsCa: Authority;
  readonly nodesCa: Authority;
  /** Accept leaves of these: current and, during rotation, next. */
  readonly agentAnchors: readonly TrustAnchor[];
  readonly agentsCaPems: readonly string[];
  readonly nodesCaPems: readonly string[];
  readonly origin: "created" | "found";
}

export interface TrustDeps {
  readonly database: Database;
  readonly masterKey: MasterKey;
  readonly ids: IdSource;
  readonly clock: Clock;
  readonly random: Random;
}

/** Throws `master-key.wrong` when the key is not this cluster's. */
export async function openClusterTrust(deps: TrustDeps): Promise<ClusterTrust> {
  const origin = (await readCluster(deps.database.durable)) === undefined ? await create(deps) : "found";
  const cluster = await readCluster(deps.database.durable);
  if (cluster === undefined) throw new AppError("internal", "the cluster's row is missing after it was created");
  deps.masterKey.open(checkPurpose, cluster.keyCheck);
  const authorities = (await readAuthorities(deps.database.durable)).map((row) => ({
    kind: row.kind,
    state: row.state,
    certificatePem: row.certificate,
    privateKeyPem: deps.masterKey.open(keyPurpose(row.kind), row.keyCiphertext).toString(),
  }));
  const current = (kind: Authority["kind"]): Authority => {
    const found = authorities.find((authority) => authority.kind === kind && authority.state === "current");
    if (found === undefined) throw new AppError("internal", `the cluster has no current ${kind} CA`);
    return found;
  };
  const agents = authorities.filter((authority) => authority.kind === "agents");
  return {
    cluster: cluster.id,
    agentsCa: current("agents"),
    nodesCa: current("nodes"),
    agentAnchors: agents.map(readTrustAnchor),
    agentsCaPems: agents.map((authority) => authority.certificatePem),
    nodesCaPems: authorities
      .filter((authority) => authority.kind === "nodes")
      .map((authority) => authority.certificatePem),
    origin,
  };
}

function create(deps: TrustDeps): Promise<"created" | "found"> {
  const id = newId(deps.ids, clusterIdSchema);
  const keyCheck = deps.masterKey.seal(checkPurpose, Buffer.from(checkText));
  return deps.database.transaction(async (sql) => {
    const made = await createCluster(sql, { id, name: "holdfast", keyCheck });
    if (made === undefined) return "found";
    for (const kind of ["agents", "nodes"] as const)
      await addAuthority(sql, deps, createAuthority({ kind, cluster: id, clock: deps.clock, random: deps.random }));
    return "created";
  });
}

async function addAuthority(sql: Sql, deps: TrustDeps, authority: Authority): Promise<void> {
  const keyCiphertext = deps.masterKey.seal(keyPurpose(authority.kind), Buffer.from(authority.privateKeyPem));
  await storeAuthority(sql, {
    id: deps.ids.next(),
    kind: authority.kind,
    certificate: authority.certificatePem,
    keyCiphertext,
  });
}

const keyPurpose = (kind: Authority["kind"]): string => `${kind} CA key`;
