// Enrols simulated agents straight into the cluster's database: one certificate each, signed by the cluster's own agents CA
// through the shipped code, and the rows an enrolment leaves. All share one key pair, for making 5,000 keys would take longer
// than the bench; a node checks each certificate and each handshake's signature all the same.
import { issueAgentLeaf, issueNodeLeaf } from "../certs/leaf.ts";
import { leafLifetimeMs } from "../certs/profile.ts";
import { generateKeyPair } from "../certs/public-key.ts";
import { openClusterTrust } from "../server/enrolment/cluster-trust.ts";
import { loadMasterKey } from "../server/enrolment/master-key.ts";
import { insertAgent, storeAgentCertificate } from "../server/store/agent-certificates.ts";
import { Database } from "../server/store/connection.ts";
import { systemClock as clock } from "../shared/clock.ts";
import {
  agentIdSchema,
  createIdSource,
  newId,
  nodeIdSchema,
  type AgentId,
  type ClusterId,
  type NodeId,
} from "../shared/ids.ts";
import { silentLogger as logger } from "../shared/logger.ts";
import { SystemRandom } from "../shared/random.ts";
import { sha256Hex } from "../shared/thumbprint.ts";

const random = new SystemRandom();

/** What a fleet's process and the bare server are started with; JSON. */
export interface FleetPlan {
  readonly cluster: ClusterId;
  readonly nodesCaPems: readonly string[];
  readonly agentsCaPems: readonly string[];
  /** The one key of every agent, PEM. */
  readonly key: string;
  readonly agents: readonly { readonly id: AgentId; readonly certificate: string }[];
  /** For the bare server: a leaf of the nodes CA for a node that is in no row. */
  readonly bareNode: { readonly id: NodeId; readonly key: string; readonly certificate: string };
}

export interface FleetOrder {
  readonly databaseUrl: string;
  readonly masterKeyFile: string;
  readonly agents: number;
}

const agentsPerTransaction = 250;

export async function enrolFleet({ databaseUrl, masterKeyFile, agents }: FleetOrder): Promise<FleetPlan> {
  const database = new Database({ logger }, { url: databaseUrl, poolSize: 1 });
  await database.start();
  try {
    const ids = createIdSource({ clock, random });
    const masterKey = await loadMasterKey({ random }, { path: masterKeyFile, create: "forbidden" });
    const trust = await openClusterTrust({ database, masterKey, ids, clock, random });
    const { cluster, agentsCa, nodesCa, agentsCaPems, nodesCaPems } = trust;
    const terms = { cluster, lifetimeMs: leafLifetimeMs };
    const { publicKeySpki, privateKeyPem } = generateKeyPair();
    const enrolled: { id: AgentId; certificate: string }[] = [];
    while (enrolled.length < agents) {
      const most = Math.min(agents, enrolled.length + agentsPerTransaction);
      await database.transaction(async (sql) => {
        while (enrolled.length < most) {
          const id = newId(ids, agentIdSchema);
          const leaf = issueAgentLeaf({ ...terms, authority: agentsCa, agentId: id, publicKeySpki }, { clock, random });
          await insertAgent(sql, { id, name: `fleet-${enrolled.length}`, labels: {} });
          await storeAgentCertificate(sql, {
            thumbprint: leaf.thumbprint,
            agent: id,
            spkiSha256: sha256Hex(publicKeySpki),
            certificate: leaf.certificatePem,
            notAfterMs: leaf.notAfterMs,
          });
          enrolled.push({ id, certificate: leaf.certificatePem });
        }
      });
    }
    const nodeKey = generateKeyPair();
    const nodeId = newId(ids, nodeIdSchema);
    const nodeLeaf = issueNodeLeaf(
      { ...terms, authority: nodesCa, nodeId, publicKeySpki: nodeKey.publicKeySpki },
      { clock, random },
    );
    return {
      cluster,
      nodesCaPems,
      agentsCaPems,
      key: privateKeyPem,
      agents: enrolled,
      bareNode: { id: nodeId, key: nodeKey.privateKeyPem, certificate: nodeLeaf.certificatePem },
    };
  } finally {
    await database.stop();
  }
}
