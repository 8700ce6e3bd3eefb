// The courier side of one node without sockets, SQL or HTTP: sessions, claim loop, looks at the database and membership,
// and what each has to tell the others. node.ts gives it PostgreSQL and a TLS listener, the simulator gives it models.
import type { Background } from "../shared/background.ts";
import type { Clock } from "../shared/clock.ts";
import type { AgentId, AttemptId, BootId, NodeId, TaskId } from "../shared/ids.ts";
import type { FrameSocket } from "../shared/link.ts";
import type { Logger } from "../shared/logger.ts";
import type { Random } from "../shared/random.ts";
import { Seldom } from "../shared/seldom.ts";
import { closeCode } from "../shared/wire/close-code.ts";
import type { NodeList } from "../shared/wire/nodes.ts";
import type { HintKind } from "./cluster/hints.ts";
import { Members } from "./cluster/members.ts";
import { PresenceNotes } from "./cluster/presence-notes.ts";
import { Wake } from "./cluster/wake.ts";
import type { Admitted } from "./gateway/admit.ts";
import { AgentSession } from "./gateway/agent-session.ts";
import type { SessionDeps, SessionEvents } from "./gateway/session-deps.ts";
import { LogBudget } from "./gateway/log-budget.ts";
import { SessionRegistry } from "./gateway/session-registry.ts";
import type { NodeSettings } from "./store/membership.ts";
import type { ClusterStore, CourierStore } from "./store/store.ts";
import { ClaimRoom } from "./tasks/claim-room.ts";
import { Dispatcher } from "./tasks/dispatcher.ts";
import { Leaving } from "./leaving.ts";

export interface CouriersDeps {
  readonly store: CourierStore;
  readonly cluster: ClusterStore;
  readonly vault: SessionDeps<AgentSession>["vault"];
  readonly clock: Clock;
  /** Calls once the current turn of the event loop is over. */
  readonly defer: (act: () => void) => void;
  readonly background: Background;
  readonly logger: Logger;
  readonly renew: SessionDeps<AgentSession>["renew"];
  readonly random: Random;
  /** Another boot of this node took over, or the node was removed: it has to end. */
  readonly onEnded: (why: "replaced" | "removed") => void;
  /** Something of this attempt was stored through this node. */
  readonly changed: (attempt: AttemptId) => void;
  /** This node has joined: others are to be told, for its agents come when they have its address. */
  readonly joined: () => void;
  /** This agent's greeting was refused here. */
  readonly refused: (agent: AgentId, reason: string) => void;
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
  open(socket: FrameSocket, admitted: Omit<Admitted, "notAfterMs" | "certificate">): AgentSession;
  hint(kind: HintKind, agents: readonly AgentId[]): void;
  readonly isDraining: boolean;
  /** Takes nothing new and asks agents to use other nodes; not lifted by what people set. */
  drain(): void;
  /** Drains, and resolves when no session is left, when nobody could take them, or after `mostMs`. */
  handOver(mostMs: number): Promise<void>;
  stop(): void;
}

export function createCouriers(deps: CouriersDeps, options: CouriersOptions): Couriers {
  const { store, cluster, vault, clock, defer, background, logger, renew } = deps;
  const { node, bootId } = options;
  const budget = new LogBudget();
  const seldom = new Seldom({ clock });
  const sessions = new SessionRegistry();
  const load = (): number => [...sessions.all()].reduce((sum, session) => sum + session.load, 0);
  const room = new ClaimRoom({ clock, load });
  const dispatcher = new Dispatcher(
    {
      store: {
        claim: (input) => store.claim(input),
        release: (from, offers) => store.release(from, offers),
        pending: (agents) => cluster.pending(agents),
      },
      room,
      sessions,
      background,
      clock,
      logger,
    },
    { node: node.id },
  );
  const leaving = new Leaving({ sessions, clock, random: deps.random });
  let ending: "no" | "stopping" | "removed" = "no";
  const apply = async ({ drain, paused }: Pick<NodeSettings, "drain" | "paused">): Promise<void> => {
    const wanted = ending !== "no" ? "hand-over" : drain;
    if (wanted === "none") leaving.stay();
    else leaving.leave(wanted);
    dispatcher.enter(wanted !== "none" ? "draining" : paused ? "paused" : "claiming");
    if (dispatcher.mode !== "claiming") await dispatcher.quiet();
  };
  const end = (why: "stopping" | "removed"): void => {
    ending = why;
    background.run("drain", () => apply({ drain: "hand-over", paused: false }));
  };
  const members = new Members({
    store: cluster,
    clock,
    background,
    logger,
    load: () => ({ active: load(), sessions: sessions.size, draining: leaving.mode !== "staying" }),
    onList: (list) => pushList(sessions, list),
    onSettings: apply,
    onOthers: (others, taskCap) => room.learn({ others, taskCap }),
    onJoined: deps.joined,
    onEnded(why) {
      const what =
        why === "removed"
          ? "this node was removed from the cluster; it hands over and ends"
          : "another process runs with this node id; this one serves on until it is stopped";
      logger.error({ node: node.id }, what);
      if (why === "removed") end("removed");
      deps.onEnded(why);
    },
    onFailover: () => wake.failedOver(),
  });
  const wake: Wake = new Wake(
    { store: cluster, clock, background, logger, sessions },
    {
      work: (agents, unanswered) => dispatcher.mayHaveWork(agents, unanswered),
      cancels: (cancels) => {
        for (const { agent, attempt, graceMs, abandoned } of cancels)
          sessions.get(agent)?.apply({
            kind: "cancel",
            items: [{ attempt, graceMs, ...(abandoned ? { abandoned } : {}) }],
          });
      },
      distrusted: (agents) => {
        for (const { agent, status, reason, bootId } of agents) {
          const session = sessions.get(agent);
          // A newer session may have taken its place while the database was asked.
          if (status === "other-boot" && session?.identity?.bootId !== bootId) continue;
          session?.close(distrustCode[status], `${status}: ${reason}`);
        }
      },
      settings: (changed) => {
        for (const { agent, slots } of changed) sessions.get(agent)?.apply({ kind: "settings", slots });
      },
      lookAgain: async (agent) => sessions.get(agent)?.lookAgain(),
      settlePresence: () => cluster.settlePresence({ node: node.id, nodeBootId: bootId, agents: sessions.agents() }),
      ended: deps.ended,
    },
  );
  const presence = new PresenceNotes({ clock, background, write: (change) => store.presence(change) });
  const record = (session: AgentSession, change: "connected" | "disconnected"): void =>
    presence.note({ agent: session.agent, node: node.id, nodeBootId: bootId, change });
  const events: SessionEvents<AgentSession> = {
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
    measured(session, roundTripMs) {
      if (sessions.get(session.agent) !== session) return;
      const roundTripUs = Math.round(roundTripMs * 1_000);
      presence.note({ agent: session.agent, node: node.id, nodeBootId: bootId, change: "measured", roundTripUs });
    },
    refused: (session, reason) => deps.refused(session.agent, reason),
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
        { socket, store, vault, clock, defer, background, logger, seldom, budget, nodes: members, events, renew },
        { agent, agentName: name, thumbprint, node },
      ),
    hint(kind, agents) {
      if (kind === "work") wake.feed();
      else if (kind === "cancel") wake.cancels();
      else if (kind === "trust") wake.trust();
      else if (kind === "agents") wake.settings(agents);
      else members.look();
      if (agents.length > 0 && kind === "work") dispatcher.mayHaveWork(agents);
    },
    get isDraining() {
      return leaving.mode !== "staying";
    },
    drain: () => end("stopping"),
    async handOver(mostMs) {
      end("stopping");
      const untilMs = clock.monotonicMs() + mostMs;
      while (sessions.size > 0 && members.hasSuccessor && clock.monotonicMs() < untilMs)
        await clock.sleep(handOverLookMs);
    },
    stop() {
      leaving.stop();
      presence.stop();
      dispatcher.enter("stopped");
    },
  };
}

const handOverLookMs = 20;

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
