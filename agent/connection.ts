// One node, or one seed address: dials, greets, keeps the session alive and dials again. Leaves the meaning of
// messages to engine.ts and which nodes to dial to connections.ts.
// Invariant: one socket at a time; `onOpened` and `onEnded` come in pairs.
import { createBackoff } from "../shared/backoff.ts";
import type { Backoff } from "../shared/backoff.ts";
import type { Clock, Timer } from "../shared/clock.ts";
import { AppError } from "../shared/errors.ts";
import { Heartbeat } from "../shared/heartbeat.ts";
import { Link, readFrame } from "../shared/link.ts";
import type { FrameSocket } from "../shared/link.ts";
import type { Logger } from "../shared/logger.ts";
import type { Random } from "../shared/random.ts";
import { closeCode } from "../shared/wire/close-code.ts";
import type { FromAgent } from "../shared/wire/from-agent.ts";
import type { FromNode } from "../shared/wire/from-node.ts";
import { fromNodeSchema } from "../shared/wire/from-node.ts";
import type { Hello } from "../shared/wire/hello.ts";
import type { Welcome } from "../shared/wire/welcome.ts";
import type { Dial, DialEnd, DialTarget } from "./dial.ts";
import type { SessionNo } from "./roster-event.ts";

export interface Session {
  readonly no: SessionNo;
  readonly link: Link<FromAgent>;
  readonly welcome: Welcome;
}

export interface ConnectionDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly dial: Dial;
  readonly nextSessionNo: () => SessionNo;
  readonly hello: () => Hello;
  readonly onOpened: (session: Session) => void;
  readonly onMessage: (session: SessionNo, message: FromNode) => void;
  readonly onRoundTrip: (session: SessionNo, roundTripMs: number) => void;
  readonly onEnded: (session: SessionNo) => void;
  /** The cluster will never take this identity as it is: the agent must stop. */
  readonly onRefused: (why: AppError) => void;
}

export interface ConnectionOptions {
  /** In the log: the node's name, or `seed`. */
  readonly label: string;
  /** Addresses of the node, tried in turn; asked for again at every dial, so that a renewed certificate is used. */
  readonly targets: () => readonly DialTarget[];
  /** From the socket's open to `welcome`. Default 10 s. */
  readonly greetingMs?: number;
}

type State =
  | { readonly kind: "idle" }
  | { readonly kind: "dialing"; readonly socket: FrameSocket }
  | {
      readonly kind: "greeting";
      readonly socket: FrameSocket;
      readonly link: Link<FromAgent>;
      readonly timer: Timer;
      readonly sinceMs: number;
    }
  | { readonly kind: "open"; readonly socket: FrameSocket; readonly session: Session; readonly heartbeat: Heartbeat }
  | { readonly kind: "waiting"; readonly timer: Timer }
  | { readonly kind: "stopped" };

const knownTypes: ReadonlySet<string> = new Set(fromNodeSchema.options.map((option) => option.shape.type.value));
/** A node that closes before it greets may be refusing us: asking it more often than this helps nobody. */
const refusalBaseMs = 5_000;

export class Connection {
  readonly #deps: ConnectionDeps;
  readonly #options: ConnectionOptions;
  readonly #backoff: Backoff;
  readonly #refusals: Backoff;
  #state: State = { kind: "idle" };
  #dials = 0;
  #dialled: string | undefined;
  #pingedAtMs = 0;
  #lastEnd: DialEnd | undefined;

  constructor(deps: ConnectionDeps, options: ConnectionOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#backoff = createBackoff({ random: deps.random }, { baseMs: 500, capMs: 30_000 });
    this.#refusals = createBackoff({ random: deps.random }, { baseMs: refusalBaseMs, capMs: 60_000 });
  }

  get kind(): State["kind"] {
    return this.#state.kind;
  }

  get session(): Session | undefined {
    return this.#state.kind === "open" ? this.#state.session : undefined;
  }

  /** Why it is not open, for status displays. */
  get lastEnd(): string | undefined {
    return this.#lastEnd === undefined ? undefined : describeEnd(this.#lastEnd);
  }

  /** Of the current or last dial. */
  get dialled(): string | undefined {
    return this.#dialled;
  }

  /** Whether the last dial met somebody who could not prove to be this node. */
  get metStranger(): boolean {
    return this.#lastEnd?.kind === "failed" && this.#lastEnd.error.code === "tls.refused";
  }

  /** Dials now; does nothing when it is dialling or open. */
  start(): void {
    if (this.#state.kind === "idle" || this.#state.kind === "waiting") this.#dial();
  }

  /** Ends the session, if any, and dials no more until {@link start}. */
  rest(code: number, reason: string): void {
    if (this.#state.kind === "stopped") return;
    this.#close(code, reason);
    this.#enter({ kind: "idle" });
  }

  stop(): void {
    this.#close(closeCode.goingAway, "the agent stops");
    this.#enter({ kind: "stopped" });
  }

  /** Closes the session in an orderly way and dials again at once: the next one uses the new certificate. */
  redial(reason: string): void {
    this.rest(closeCode.goingAway, reason);
    this.start();
  }

  /** Closes the session and dials again after a while: the node asked us to use others. */
  pause(reason: string, delayMs: number): void {
    this.rest(closeCode.goingAway, reason);
    this.#enter({ kind: "waiting", timer: this.#deps.clock.after(delayMs, () => this.#dial()) });
  }

  #close(code: number, reason: string): void {
    switch (this.#state.kind) {
      case "dialing":
        this.#state.socket.terminate();
        return;
      case "greeting":
        this.#state.link.close(code, reason);
        return;
      case "open":
        this.#state.session.link.close(code, reason);
        return;
      default:
        return;
    }
  }

  /** The only place where the state changes: undoes what the old one started. */
  #enter(next: State): void {
    const old = this.#state;
    this.#state = next;
    if (old.kind === "waiting" || old.kind === "greeting") old.timer.cancel();
    if (old.kind === "greeting" && next.kind !== "open") old.link.ended();
    if (old.kind !== "open") return;
    old.heartbeat.stop();
    old.session.link.ended();
    this.#deps.onEnded(old.session.no);
  }

  #dial(): void {
    const targets = this.#options.targets();
    const target = targets[this.#dials % Math.max(1, targets.length)];
    this.#dials += 1;
    if (target === undefined) {
      this.#enter({ kind: "idle" });
      return;
    }
    const { address } = target;
    this.#dialled = address;
    const isMine = (): boolean =>
      (this.#state.kind === "dialing" || this.#state.kind === "greeting" || this.#state.kind === "open") &&
      this.#state.socket === socket;
    const socket: FrameSocket = this.#deps.dial(target, {
      onOpen: () => isMine() && this.#greet(socket),
      onFrame: (frame) => isMine() && this.#frame(frame),
      onPong: () => isMine() && this.#pong(),
      onEnd: (end) => isMine() && this.#ended(end, address),
    });
    this.#enter({ kind: "dialing", socket });
  }

  #greet(socket: FrameSocket): void {
    const link = new Link<FromAgent>({ socket });
    const { clock } = this.#deps;
    const timer = clock.after(this.#options.greetingMs ?? 10_000, () => socket.terminate());
    this.#enter({ kind: "greeting", socket, link, timer, sinceMs: clock.monotonicMs() });
    link.send(this.#deps.hello());
  }

  #frame(frame: Uint8Array): void {
    const state = this.#state;
    if (state.kind !== "greeting" && state.kind !== "open") return;
    if (state.kind === "open") state.heartbeat.heard();
    const incoming = readFrame(frame, fromNodeSchema, knownTypes);
    const link = state.kind === "open" ? state.session.link : state.link;
    if (incoming.kind === "refused") {
      this.#deps.logger.warn({ node: this.#options.label, reason: incoming.reason }, "a frame of the node was refused");
      link.close(incoming.code, incoming.reason);
      return;
    }
    const { message } = incoming;
    if (state.kind === "open") this.#deps.onMessage(state.session.no, message);
    else if (message.type === "welcome") this.#welcomed(state, message);
    else link.close(closeCode.protocolError, `${message.type} before welcome`);
  }

  #welcomed(state: Extract<State, { kind: "greeting" }>, welcome: Welcome): void {
    const { clock, logger } = this.#deps;
    const session: Session = { no: this.#deps.nextSessionNo(), link: state.link, welcome };
    const heartbeat = new Heartbeat(
      {
        clock,
        ping: () => {
          this.#pingedAtMs = clock.monotonicMs();
          session.link.ping();
        },
        onSilent: () => {
          logger.warn(
            { node: welcome.node.name },
            `nothing came from the node for ${welcome.timings.silenceMs} ms: the session is given up`,
          );
          state.socket.terminate();
        },
      },
      welcome.timings,
    );
    this.#enter({ kind: "open", socket: state.socket, session, heartbeat });
    heartbeat.start();
    this.#backoff.reset();
    this.#refusals.reset();
    this.#lastEnd = undefined;
    logger.info({ node: welcome.node.name, protocol: welcome.protocol }, "session open");
    this.#deps.onOpened(session);
    this.#deps.onRoundTrip(session.no, clock.monotonicMs() - state.sinceMs);
  }

  #pong(): void {
    if (this.#state.kind !== "open") return;
    this.#state.heartbeat.heard();
    this.#deps.onRoundTrip(this.#state.session.no, this.#deps.clock.monotonicMs() - this.#pingedAtMs);
  }

  #ended(end: DialEnd, address: string): void {
    const from = this.#state.kind;
    const { logger } = this.#deps;
    const fields = { node: this.#options.label, address };
    this.#lastEnd = end;
    const refusal = refusalOf(end);
    if (refusal !== undefined) {
      this.#enter({ kind: "stopped" });
      this.#deps.onRefused(refusal);
      return;
    }
    if (end.kind === "closed" && end.code === closeCode.replaced && from === "open") {
      // Another of our own connections to this node is the newer one; connections.ts dials when that one ends. Before the
      // greeting there was no session to end, and the newer one may never have any: then this one dials on.
      this.#enter({ kind: "idle" });
      return;
    }
    const delayMs = this.#delayMs(end, from);
    if (from === "open") logger.info({ ...fields, end: describeEnd(end), delayMs }, "session ended");
    else if (isPossibleRefusal(end, from)) {
      logger.warn(
        { ...fields, end: describeEnd(end), delayMs },
        "closed before the greeting: the node may be refusing this agent. Check that it is enrolled in this cluster and not revoked, that its clock is right, and that no proxy intercepts TLS",
      );
    } else logger.info({ ...fields, end: describeEnd(end), delayMs }, "cannot connect");
    this.#enter({ kind: "waiting", timer: this.#deps.clock.after(delayMs, () => this.#dial()) });
  }

  #delayMs(end: DialEnd, from: State["kind"]): number {
    if (isPossibleRefusal(end, from)) return refusalBaseMs + this.#refusals.nextMs();
    return this.#backoff.nextMs(end.kind === "rejected" ? end.retryAfterMs : 0);
  }
}

/** Ends before the greeting that say nothing against this agent. */
const passing: ReadonlySet<number> = new Set([closeCode.unavailable, closeCode.goingAway, closeCode.replaced]);

function isPossibleRefusal(end: DialEnd, from: State["kind"]): boolean {
  switch (end.kind) {
    case "rejected":
      return end.status !== 503 && end.status !== 429 && end.status !== 502;
    case "closed":
      if (end.code === closeCode.unsupported) return true;
      return from !== "open" && !passing.has(end.code);
    case "failed":
      // A refused client certificate shows as a reset after a handshake that looked finished (SECURITY 1.5).
      return end.error.code === "tls.refused" || (from === "greeting" && end.error.message.includes("ECONNRESET"));
  }
}

function refusalOf(end: DialEnd): AppError | undefined {
  if (end.kind !== "closed") return undefined;
  switch (end.code) {
    case closeCode.superseded:
      return new AppError(
        "agent.superseded",
        `the cluster knows a newer boot of this agent or a newer journal: ${end.reason}`,
      );
    case closeCode.quarantined:
      return new AppError("agent.quarantined", `the cluster put this agent into quarantine: ${end.reason}`);
    case closeCode.refused:
      return new AppError("agent.revoked", `the cluster refuses this agent: ${end.reason}`);
    default:
      return undefined;
  }
}

function describeEnd(end: DialEnd): string {
  switch (end.kind) {
    case "rejected":
      return `HTTP ${end.status} ${end.detail}`;
    case "failed":
      return end.error.message;
    case "closed":
      return `closed ${end.code} ${end.reason}`;
  }
}
