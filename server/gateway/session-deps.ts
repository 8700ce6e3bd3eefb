// What an agent's session is given and whom it tells: narrow interfaces, so that node and simulator can both stand behind them.
import type { Background } from "../../shared/background.ts";
import type { Clock } from "../../shared/clock.ts";
import type { AgentId, AttemptId, NodeId } from "../../shared/ids.ts";
import type { FrameSocket } from "../../shared/link.ts";
import type { Logger } from "../../shared/logger.ts";
import type { Seldom } from "../../shared/seldom.ts";
import type { NodeList } from "../../shared/wire/nodes.ts";
import type { Renewed } from "../../shared/wire/renew.ts";
import type { Timings } from "../../shared/wire/welcome.ts";
import type { CourierStore } from "../store/store.ts";
import type { SecretVault } from "../tasks/secret-vault.ts";
import type { LogBudget } from "./log-budget.ts";

export interface SessionDeps<Session> {
  readonly socket: FrameSocket;
  readonly store: CourierStore;
  readonly vault: Pick<SecretVault, "open">;
  readonly clock: Clock;
  /** Calls once the current turn of the event loop is over. */
  readonly defer: (act: () => void) => void;
  readonly background: Background;
  readonly logger: Logger;
  /** An agent may connect as often as it likes. */
  readonly seldom: Seldom;
  readonly budget: LogBudget;
  readonly nodes: { current(): NodeList };
  readonly events: SessionEvents<Session>;
  readonly renew: (input: {
    readonly agent: AgentId;
    readonly spki: Uint8Array;
    readonly proof: Uint8Array;
  }) => Promise<Renewed>;
}

export interface SessionEvents<Session> {
  opened(session: Session): void;
  closed(session: Session): void;
  claimable(session: Session): void;
  /** Its greeting was judged, and it may not have a session. */
  refused(session: Session, reason: string): void;
  /** How long the first ping and its pong took, milliseconds. */
  measured(session: Session, roundTripMs: number): void;
  /** Something of this attempt was stored: followers may look. */
  changed(attempt: AttemptId): void;
}

export interface SessionOptions {
  readonly agent: AgentId;
  readonly agentName: string;
  /** SHA-256 of the certificate the session was opened with, lower-case hex. */
  readonly thumbprint: string;
  readonly node: { readonly id: NodeId; readonly name: string };
  readonly timings?: Timings;
}
