// The courier side of one node without sockets, SQL or HTTP: sessions, claim loop, looks at the database and membership,
// and what each has to tell the others. node.ts gives it PostgreSQL and a TLS listener, the simulator gives it models.
import type { Background } from "../shared/background.ts";
import type { Clock } from "../shared/clock.ts";
import { AppError } from "../shared/errors.ts";
import type { AgentId, AttemptId, BootId, NodeId, TaskId } from "../shared/ids.ts";
import type { FrameSocket } from "../shared/link.ts";
import type { Logger } from "../shared/logger.ts";
import { closeCode } from "../shared/wire/close-code.ts";
import type { NodeList } from "../shared/wire/nodes.ts";
import type { HintKind } from "./cluster/hints.ts";
import { Members } from "./cluster/members.ts";
import { Wake } from "./cluster/wake.ts";
import type { Admitted } from "./gateway/admit.ts";
import { AgentSession, type SessionDeps, type SessionEvents } from "./gateway/agent-session.ts";
import { LogBudget } from "./gateway/log-budget.ts";
import { SessionRegistry } from "./gateway/session-registry.ts";
import type { ClusterStore, CourierStore } from "./store/store.ts";
import { Dispatcher } from "./tasks/dispatcher.ts";

export interface CouriersDeps {
  readonly store: CourierStore;
  readonly cluster: ClusterStore;
  readonly clock: Clock;
  /** Calls once the current turn of the event loop is over. */
  readonly defer: (act: () => void) => void;
  readonly background: Background;
  readonly logger: Logger;
  readonly renew: SessionDeps["renew"];
  readonly isDraining: () => boolean;
  /** Something of this attempt was stored through this node. */
  readonly changed: (attempt: AttemptId) => void;
  /** Tasks that a sweep of this node ended. */
  readonly ended: (tasks: readonly TaskId[]) => void;
}

export interface CouriersOptions {
  readonly node: { readonly id: NodeId; readonly name: string };
  readonly bootId: BootId;
}

export interface Couriers {
  readonly sessions: SessionRegistry;
  readonly dispatcher: Dispatcher;
  readonly members: Members;
  readonly wake: Wake;
  readonly budget: LogBudget;
  /** A session for a socket whose agent was admitted; the caller feeds it and starts it. */
  open(socket: FrameSocket, admitted: Omit<Admitted, "notAfterMs">): AgentSession;
  hint(kind: HintKind, agents: readonly AgentId[]): void;
  /** Takes nothing new and asks agents to use other nodes. */
  drain(): void;
}

/** Between two tries to read what a session's agent is asked about after a failover. Milliseconds. */
const askAgainMs = 1_000;

export function createCouriers(deps: CouriersDeps, options: CouriersOptions): Couriers {
  const { store, cluster, clock, defer, background, logger, renew } = deps;
  const { node, bootId } = options;
  const budget = new LogBudget();
  const sessions = new SessionRegistry();
  const dispatcher = new Dispatcher({ store, sessions, background, clock, logger }, { node: node.id });
  const members = new Members({
    store: cluster,
    clock,
    background,
    logger,
    load: () => ({
      active: [...sessions.all()].reduce((sum, session) => sum + session.load, 0),
      sessions: sessions.size,
      draining: deps.isDraining(),
    }),
    onList: (list) => pushList(sessions, list),
    onReplaced: () =>
      logger.error(
        { node: node.id },
        "another process runs with this node id, or the node was removed; this one serves on until it is stopped",
      ),
    onFailover: () =>
      background.run("ask after a failover", async () => {
        // One after another: the new primary has enough to do.
        for (const session of sessions.all()) await askAgain(session);
      }),
  });
  /**
   * A failover may have taken back how rows ended, of which their agents were told that it is stored. They say it again
   * when they are asked; a greeting asks, but a session may last for weeks.
   */
  const askAgain = async (session: AgentSession): Promise<void> => {
    while (sessions.get(session.agent) === session) {
      try {
        session.apply({ kind: "reread", rows: await store.readOpen(session.agent, []) });
        return;
      } catch (cause) {
        if (!AppError.from(cause).retryable) throw cause;
        await clock.sleep(askAgainMs);
      }
    }
  };
  const wake = new Wake(
    { store: cluster, clock, background, logger, sessions },
    {
      work: (agents, unanswered) => dispatcher.mayHaveWork(agents, unanswered),
      cancels: (cancels) => {
        for (const { agent, attempt, graceMs } of cancels)
          sessions.get(agent)?.apply({ kind: "cancel", items: [{ attempt, graceMs }] });
      },
      distrusted: (agents) => {
        for (const { agent, status, reason, bootId } of agents) {
          const session = sessions.get(agent);
          // A newer session may have taken its place while the database was asked.
          if (status === "other-boot" && session?.identity?.bootId !== bootId) continue;
          session?.close(distrustCode[status], `${status}: ${reason}`);
        }
      },
      settlePresence: () => cluster.settlePresence({ node: node.id, nodeBootId: bootId, agents: sessions.agents() }),
      ended: deps.ended,
    },
  );
  const record = (session: AgentSession, change: "connected" | "disconnected"): void => {
    const row = { agent: session.agent, node: node.id, nodeBootId: bootId, change };
    background.run("presence", () => store.presence(row));
  };
  const events: SessionEvents = {
    opened(session) {
      sessions.add(session);
      record(session, "connected");
      dispatcher.mayHaveWork([session.agent], [session.agent]);
    },
    closed(session) {
      if (!sessions.remove(session)) return;
      dispatcher.forget(session.agent);
      record(session, "disconnected");
    },
    claimable: (session) => dispatcher.hasCredit(session.agent),
    changed: deps.changed,
  };
  return {
    sessions,
    dispatcher,
    members,
    wake,
    budget,
    open: (socket, { agent, name, thumbprint }) =>
      new AgentSession(
        { socket, store, clock, defer, background, logger, budget, nodes: members, events, renew },
        { agent, agentName: name, thumbprint, node },
      ),
    hint(kind, agents) {
      if (kind === "work") wake.feed();
      else if (kind === "cancel") wake.cancels();
      else if (kind === "trust") wake.trust();
      else members.look();
      if (agents.length > 0 && kind === "work") dispatcher.mayHaveWork(agents);
    },
    drain() {
      dispatcher.drain();
      for (const session of sessions.all()) session.apply({ kind: "go-away", afterMs: 0, reason: "the node drains" });
    },
  };
}

/** Another boot is for the next greeting to judge: the agent dials again at once. */
const distrustCode = {
  quarantined: closeCode.quarantined,
  revoked: closeCode.refused,
  removed: closeCode.refused,
  "other-boot": closeCode.goingAway,
} as const;

function pushList(sessions: SessionRegistry, list: NodeList): void {
  for (const session of sessions.all()) session.apply({ kind: "nodes", list });
}
