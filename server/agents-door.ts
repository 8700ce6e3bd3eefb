// The agents' side of a node as the network sees it: the listener and its figures. What sessions mean is couriers.ts's.
import { Counter, type Registry } from "prom-client";
import type { TrustAnchor } from "../certs/trust.ts";
import type { Background } from "../shared/background.ts";
import type { Clock } from "../shared/clock.ts";
import type { Logger } from "../shared/logger.ts";
import type { Refusals } from "./refusals.ts";
import type { Couriers } from "./couriers.ts";
import { AgentListener } from "./gateway/listener.ts";
import type { AgentListenerIdentity } from "./gateway/tls-options.ts";
import { markCertificateUsed } from "./store/agent-certificates.ts";
import { createAdmissionReader } from "./store/agents.ts";
import { gauge } from "./metrics.ts";
import type { Database } from "./store/connection.ts";

export interface DoorDeps {
  readonly database: Database;
  readonly couriers: Couriers;
  readonly anchors: () => readonly TrustAnchor[];
  readonly isOpen: () => boolean;
  readonly refusals: Pick<Refusals, "note">;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly background: Background;
  readonly logger: Logger;
}

export interface DoorOptions {
  readonly listen: { readonly host: string; readonly port: number };
  readonly identity: AgentListenerIdentity;
}

export function createAgentsDoor(deps: DoorDeps, options: DoorOptions): AgentListener {
  const { database, couriers, background, clock, logger, registry } = deps;
  const refused = new Counter({
    name: "holdfast_gateway_connects_refused_total",
    help: "Agent connections refused",
    labelNames: ["reason"],
    registers: [registry],
  });
  gauge(registry, "holdfast_gateway_sessions", "Agents with a session here", () => couriers.sessions.size);
  gauge(
    registry,
    "holdfast_gateway_log_bytes",
    "Log bytes received and not yet stored",
    () => couriers.budget.heldBytes,
  );
  return new AgentListener(
    {
      clock,
      background,
      logger,
      anchors: deps.anchors,
      isOpen: deps.isOpen,
      findAdmission: createAdmissionReader(database.durable),
      onRefused(reason, agent) {
        refused.inc({ reason: reason.split(":")[0] ?? "" });
        if (agent !== undefined) deps.refusals.note(agent, reason);
      },
      openSession(socket, admitted) {
        if (admitted.certificate === "new")
          background.run("certificate used", () => markCertificateUsed(database.relaxed, admitted.thumbprint));
        return couriers.open(socket, admitted);
      },
    },
    { ...options.listen, identity: options.identity },
  );
}
