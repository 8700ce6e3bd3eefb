// The node's side of enrolment: greets with its own proof, then exchanges a token's MAC for a certificate, once.
// Unknown, used, expired and revoked tokens get one and the same answer. A repeated request with the same key within ten
// minutes gets the same certificate again, for the first answer may have been lost.
import {
  buildAnswer,
  buildGreeting,
  issuingPin,
  verifyRequest,
  type NodeIdentity,
} from "../../certs/enrolment-proof.ts";
import { issueAgentLeaf } from "../../certs/leaf.ts";
import { leafLifetimeMs } from "../../certs/profile.ts";
import type { Clock } from "../../shared/clock.ts";
import {
  enrolmentRequestSchema,
  type EnrolmentAnswer,
  type EnrolmentGreeting,
  type EnrolmentRequest,
} from "../../shared/enrolment.ts";
import { AppError } from "../../shared/errors.ts";
import { agentIdSchema, newId, type AgentId, type IdSource } from "../../shared/ids.ts";
import type { Random } from "../../shared/random.ts";
import { sha256Hex } from "../../shared/thumbprint.ts";
import type { NodeList } from "../../shared/wire/nodes.ts";
import { findCertificate, insertAgent, replaceAgent, storeAgentCertificate } from "../store/agent-certificates.ts";
import { findAgent } from "../store/agents.ts";
import { recordAudit } from "../store/audit.ts";
import type { Database, Sql } from "../store/connection.ts";
import { lockToken, useToken, type TokenSecret } from "../store/tokens.ts";
import type { ClusterTrust } from "./cluster-trust.ts";
import type { Nonces } from "./nonce.ts";

export interface EnrolDeps {
  readonly database: Database;
  readonly trust: () => ClusterTrust;
  /** Current leaf and key of this node. */
  readonly node: () => NodeIdentity;
  readonly nonces: Nonces;
  readonly ids: IdSource;
  readonly clock: Clock;
  readonly random: Random;
  readonly nodes: { current(): NodeList };
}

export interface EnrolOptions {
  /** Life of agents' certificates in milliseconds. Default 30 days; 1 h to 90 days outside tests. */
  readonly agentLeafMs?: number;
}

export interface Enrolment {
  greeting(): Promise<EnrolmentGreeting>;
  enrol(body: unknown, address: string): Promise<EnrolmentAnswer>;
}

const refusedToken = (): AppError => new AppError("token.refused", "the token is unknown, used, expired or revoked");

/** Exchanges at once: anybody may try, and each takes a connection and a signature check. */
const exchangesAtOnce = 4;

export function createEnrolment(deps: EnrolDeps, options: EnrolOptions = {}): Enrolment {
  const lifetimeMs = options.agentLeafMs ?? leafLifetimeMs;
  let exchanges = 0;
  return {
    greeting() {
      const { cluster, nodesCaPems } = deps.trust();
      return Promise.resolve(
        buildGreeting({ nonce: deps.nonces.issue(), nodesCa: nodesCaPems.join("\n"), cluster }, deps.node()),
      );
    },
    async enrol(body, address) {
      const parsed = enrolmentRequestSchema.safeParse(body);
      if (!parsed.success)
        throw new AppError(
          "request.invalid",
          `enrolment request: ${parsed.error.issues[0]?.path.join(".")} ${parsed.error.issues[0]?.message}`,
        );
      const request = parsed.data;
      deps.nonces.check(request.nonce);
      if (exchanges >= exchangesAtOnce) {
        throw new AppError("rate.limited", `${exchanges} enrolments are under way on this node`, {
          retryAfterSeconds: 1,
        });
      }
      exchanges += 1;
      const issued = await deps.database
        .transaction((sql) => exchange(sql, deps, { request, address, lifetimeMs }))
        .finally(() => {
          exchanges -= 1;
        });
      const { cluster, agentsCaPems, nodesCaPems } = deps.trust();
      const { version, nodes } = deps.nodes.current();
      const answer = {
        ...issued,
        cluster,
        agentsCa: agentsCaPems.join("\n"),
        nodesCa: nodesCaPems.join("\n"),
        nodes,
        nodesVersion: version,
      };
      return buildAnswer(answer, request, deps.node());
    },
  };
}

interface Exchange {
  readonly request: EnrolmentRequest;
  readonly address: string;
  readonly lifetimeMs: number;
}

type Issued = Pick<EnrolmentAnswer, "agentId" | "name" | "certificate">;

async function exchange(sql: Sql, deps: EnrolDeps, { request, address, lifetimeMs }: Exchange): Promise<Issued> {
  const token = await lockToken(sql, request.tokenId);
  // The MAC is checked for unknown tokens too, against nothing, so that the answer takes as long.
  const { cluster, nodesCaPems } = deps.trust();
  const pin = issuingPin(nodesCaPems.join("\n"), deps.node().certificatePem);
  const { publicKeySpki } = checked(() =>
    verifyRequest(request, { cluster, ...pin, secretDigest: token?.secretSha256 ?? Buffer.alloc(32) }),
  );
  if (token === undefined) throw refusedToken();
  const spkiSha256 = sha256Hex(publicKeySpki);
  if (token.state === "used") return await repeat(sql, token, spkiSha256);
  if (token.state !== "unused") throw refusedToken();
  const agent = await agentFor(sql, deps, { request, token });
  const leaf = issueAgentLeaf(
    { authority: deps.trust().agentsCa, cluster, agentId: agent, publicKeySpki, lifetimeMs },
    deps,
  );
  await storeAgentCertificate(sql, {
    thumbprint: leaf.thumbprint,
    agent,
    spkiSha256,
    certificate: leaf.certificatePem,
    notAfterMs: leaf.notAfterMs,
  });
  await useToken(sql, { id: request.tokenId, spkiSha256, agent });
  await recordAudit(sql, {
    actor: `token ${request.tokenId}`,
    address,
    action: "agent-enrol",
    target: agent,
    detail: { name: request.name, thumbprint: leaf.thumbprint },
  });
  return { agentId: agent, name: request.name, certificate: leaf.certificatePem };
}

/** A wrong MAC and a wrong token look the same from outside. */
function checked<T>(verify: () => T): T {
  try {
    return verify();
  } catch (cause) {
    if (AppError.from(cause).code === "enrolment.proof-invalid") throw refusedToken();
    throw cause;
  }
}

async function repeat(sql: Sql, token: TokenSecret, spkiSha256: string): Promise<Issued> {
  if (!token.usedRecently || token.usedSpkiSha256 !== spkiSha256 || token.agent === null) throw refusedToken();
  const certificate = await findCertificate(sql, token.agent, spkiSha256);
  const agent = await findAgent(sql, token.agent);
  if (certificate === undefined || agent === undefined) throw refusedToken();
  return { agentId: token.agent, name: agent.name, certificate };
}

async function agentFor(
  sql: Sql,
  deps: EnrolDeps,
  { request, token }: { readonly request: EnrolmentRequest; readonly token: TokenSecret },
): Promise<AgentId> {
  // The token's labels win: who made it decides what the agent may be selected for.
  const labels = { ...request.labels, ...token.labels };
  const { name } = request;
  const agent = token.replaces === name ? await replaceAgent(sql, { name, labels }) : undefined;
  const made = agent ?? (await insertAgent(sql, { id: newId(deps.ids, agentIdSchema), name, labels }));
  if (made === undefined) throw new AppError("agent.name-taken", `an agent named ${name} is enrolled already`);
  return made;
}
