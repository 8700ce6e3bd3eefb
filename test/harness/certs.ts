// A throw-away cluster's CAs and leaves for tests, made by the product's own builder.
import { randomBytes } from "node:crypto";
import { createAuthority } from "../../certs/authority.ts";
import type { Authority } from "../../certs/authority.ts";
import { issueAgentLeaf, issueNodeLeaf } from "../../certs/leaf.ts";
import type { Leaf } from "../../certs/leaf.ts";
import { generateKeyPair } from "../../certs/public-key.ts";
import { systemClock } from "../../shared/clock.ts";
import type { Clock } from "../../shared/clock.ts";
import { agentIdSchema, clusterIdSchema, createIdSource, nodeIdSchema } from "../../shared/ids.ts";
import type { AgentId, ClusterId, NodeId } from "../../shared/ids.ts";

type WallClock = Pick<Clock, "wallMs">;

export interface TestLeaf extends Leaf {
  readonly privateKeyPem: string;
  readonly publicKeySpki: Buffer;
}

export interface TestAuthorities {
  readonly cluster: ClusterId;
  readonly agents: Authority;
  readonly nodes: Authority;
  agentLeaf(options?: {
    readonly agentId?: AgentId;
    readonly lifetimeMs?: number;
    readonly clock?: WallClock;
  }): TestLeaf & { readonly agentId: AgentId };
  nodeLeaf(options?: {
    readonly nodeId?: NodeId;
    readonly lifetimeMs?: number;
    readonly clock?: WallClock;
    readonly publicNames?: readonly string[];
  }): TestLeaf & { readonly nodeId: NodeId };
}

const random = { unit: () => Math.random(), bytes: (count: number) => randomBytes(count) };
const ids = createIdSource({ clock: systemClock, random });

export function createTestAuthorities(
  options: { readonly cluster?: ClusterId; readonly clock?: WallClock } = {},
): TestAuthorities {
  const cluster = options.cluster ?? clusterIdSchema.parse(ids.next());
  const clock = options.clock ?? systemClock;
  const agents = createAuthority({ kind: "agents", cluster, clock, random });
  const nodes = createAuthority({ kind: "nodes", cluster, clock, random });
  return {
    cluster,
    agents,
    nodes,
    agentLeaf(leaf = {}) {
      const { publicKeySpki, privateKeyPem } = generateKeyPair();
      const agentId = leaf.agentId ?? agentIdSchema.parse(ids.next());
      const issued = issueAgentLeaf(
        { authority: agents, cluster, agentId, publicKeySpki, lifetimeMs: leaf.lifetimeMs ?? 60_000 },
        { clock: leaf.clock ?? clock, random },
      );
      return { ...issued, privateKeyPem, publicKeySpki, agentId };
    },
    nodeLeaf(leaf = {}) {
      const { publicKeySpki, privateKeyPem } = generateKeyPair();
      const nodeId = leaf.nodeId ?? nodeIdSchema.parse(ids.next());
      const issued = issueNodeLeaf(
        {
          authority: nodes,
          cluster,
          nodeId,
          publicKeySpki,
          lifetimeMs: leaf.lifetimeMs ?? 60_000,
          publicNames: leaf.publicNames ?? [],
        },
        { clock: leaf.clock ?? clock, random },
      );
      return { ...issued, privateKeyPem, publicKeySpki, nodeId };
    },
  };
}
