// The agents' side of a node: listener, sessions and what their coming and going means for presence and claims.
import { Counter, type Registry } from "prom-client";
import type { TrustAnchor } from "../certs/trust.ts";
import type { Background } from "../shared/background.ts";
import { afterThisTurn, type Clock } from "../shared/clock.ts";
import type { AttemptId, BootId, NodeId } from "../shared/ids.ts";
import type { Logger } from "../shared/logger.ts";
import type { NodeList } from "../shared/wire/nodes.ts";
import { AgentSession, type SessionDeps } from "./gateway/agent-session.ts";
import { AgentListener } from "./gateway/listener.ts";
import { LogBudget } from "./gateway/log-budget.ts";
import type { SessionRegistry } from "./gateway/session-registry.ts";
import type { AgentListenerIdentity } from "./gateway/tls-options.ts";
import { markCertificateUsed } from "./store/agent-certificates.ts";
import { readAdmission } from "./store/agents.ts";
import { gauge } from "./metrics.ts";
import type { Database } from "./store/connection.ts";
import type { CourierStore } from "./store/store.ts";
import type { Dispatcher } from "./tasks/dispatcher.ts";

export interface DoorDeps {
  readonly database: Database;
  readonly store: CourierStore;
  readonly sessions: SessionRegistry;
  readonly dispatcher: Dispatcher;
  readonly nodes: { current(): NodeList };
  readonly anchors: () => readonly TrustAnchor[];
  readonly isOpen: () => boolean;
  /** Something of this attempt was stored through this node. */
  readonly changed: (attempt: AttemptId) => void;
  readonly renew: SessionDeps["renew"];
  readonly registry: Registry;
  readonly clock: Clock;
  readonly background: Background;
  readonly logger: Logger;
}

export interface DoorOptions {
  readonly node: { readonly id: NodeId; readonly name: string };
  readonly bootId: BootId;
  readonly listen: { readonly host: string; readonly port: number };
  readonly identity: AgentListenerIdentity;
}

export function createAgentsDoor(deps: DoorDeps, options: DoorOptions): AgentListener {
  const { database, store, sessions, dispatcher, background, clock, logger, registry } = deps;
  const budget = new LogBudget();
  const refused = new Counter({
    name: "holdfast_gateway_connects_refused_total",
    help: "Agent connections refused",
    labelNames: ["reason"],
    registers: [registry],
  });
  gauge(registry, "holdfast_gateway_sessions", "Agents with a session here", () => sessions.size);
  gauge(registry, "holdfast_gateway_log_bytes", "Log bytes received and not yet stored", () => budget.heldBytes);
  const record = (session: AgentSession, change: "connected" | "disconnected"): void => {
    const row = { agent: session.agent, node: options.node.id, nodeBootId: options.bootId, change };
    background.run("presence", () => store.presence(row));
  };
  const events = {
    opened(session: AgentSession): void {
      sessions.add(session);
      record(session, "connected");
      dispatcher.mayHaveWork([session.agent], [session.agent]);
    },
    closed(session: AgentSession): void {
      if (!sessions.remove(session)) return;
      dispatcher.forget(session.agent);
      record(session, "disconnected");
    },
    claimable: (session: AgentSession): void => dispatcher.hasCredit(session.agent),
    changed: deps.changed,
  };
  return new AgentListener(
    {
      clock,
      background,
      logger,
      anchors: deps.anchors,
      isOpen: deps.isOpen,
      findAdmission: (thumbprint) => readAdmission(database.durable, thumbprint),
      onRefused: (reason) => refused.inc({ reason: reason.split(":")[0] ?? "" }),
      openSession(socket, admitted) {
        background.run("certificate used", () => markCertificateUsed(database.relaxed, admitted.thumbprint));
        const { nodes, renew } = deps;
        const sessionDeps = { socket, store, clock, defer: afterThisTurn, background, logger, budget, nodes, events, renew };
        return new AgentSession(sessionDeps, {
          agent: admitted.agent,
          agentName: admitted.name,
          thumbprint: admitted.thumbprint,
          node: options.node,
        });
      },
    },
    { ...options.listen, identity: options.identity },
  );
}
