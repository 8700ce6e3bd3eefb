// Carries out one courier: frames in, effects out to socket and store. Decides nothing itself. One write per attempt is
// under way at a time, so an attempt's log, result and home change reach the database in the order they arrived.
// A write that fails because the database is away is tried again while the session lives; then the agent repeats it.
import type { Timer } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import { Heartbeat } from "../../shared/heartbeat.ts";
import type { AgentId, BootId } from "../../shared/ids.ts";
import { Link, readFrame } from "../../shared/link.ts";
import type { Lane } from "../../shared/task.ts";
import { closeCode } from "../../shared/wire/close-code.ts";
import { fromAgentSchema } from "../../shared/wire/from-agent.ts";
import type { FromNode } from "../../shared/wire/from-node.ts";
import type { ProgressItem } from "../../shared/wire/progress.ts";
import { defaultTimings } from "../../shared/wire/welcome.ts";
import type { ClaimedAttempt } from "../store/claim-attempts.ts";
import { claimable, initialCourier, loadOf, stepCourier } from "../tasks/courier.ts";
import type { CourierEffect, CourierEvent, CourierState } from "../tasks/courier-state.ts";
import { CourierWrites } from "./courier-writes.ts";
import { greetingOf } from "./greeting.ts";
import { withOpenSecrets } from "./open-secrets.ts";
import { ProgressNotes } from "./progress-notes.ts";
import { ReaderWatch } from "./reader-watch.ts";
import { Renewals } from "./renewals.ts";
import type { SessionDeps, SessionOptions } from "./session-deps.ts";

const agentTypes: ReadonlySet<string> = new Set(fromAgentSchema.options.map((option) => option.shape.type.value));

const refusals: ReadonlySet<number> = new Set([
  closeCode.superseded,
  closeCode.quarantined,
  closeCode.refused,
  closeCode.unsupported,
]);

export class AgentSession {
  readonly agent: AgentId;
  readonly agentName: string;
  readonly thumbprint: string;
  readonly #deps: SessionDeps<AgentSession>;
  readonly #options: SessionOptions;
  readonly #link: Link<FromNode>;
  readonly #heartbeat: Heartbeat;
  /** Made for the first: of 10,000 agents nearly all are idle. */
  #writes: CourierWrites | undefined;
  /** Made for the first that comes: few scripts tell how far they are. */
  #progressNotes: ProgressNotes | undefined;
  readonly #ending = new AbortController();
  #state: CourierState = initialCourier;
  readonly #reader: ReaderWatch;
  /** Made for the first: an agent renews once in weeks. */
  #renewals: Renewals | undefined;
  #tick: Timer | undefined;
  #greetingLimit: Timer | undefined;
  #killing: Timer | undefined;
  /** When the ping that measures the round trip was sent, until its pong. */
  #pingedMs: number | undefined;

  constructor(deps: SessionDeps<AgentSession>, options: SessionOptions) {
    this.#deps = deps;
    this.#options = options;
    this.agent = options.agent;
    this.agentName = options.agentName;
    this.thumbprint = options.thumbprint;
    this.#link = new Link({ socket: deps.socket, defer: deps.defer });
    this.#reader = new ReaderWatch({ link: this.#link, clock: deps.clock });
    const { silenceMs } = options.timings ?? defaultTimings;
    this.#heartbeat = new Heartbeat(
      {
        clock: deps.clock,
        ping: () => deps.socket.ping(),
        onSilent: () => this.#silent(),
      },
      { pingMs: 0, silenceMs },
    );
  }

  start(): void {
    this.#heartbeat.start();
    // Slow-loris: a greeting has 10 s (SECURITY fault 100).
    this.#greetingLimit = this.#deps.clock.after(10_000, () => {
      if (this.#state.kind === "awaiting-hello") this.close(closeCode.silent, "no hello within 10 s");
    });
  }

  /** Boot and journal of an open session. */
  get identity():
    | { readonly bootId: BootId; readonly journalId: Extract<CourierState, { kind: "open" }>["session"]["journalId"] }
    | undefined {
    return this.#state.kind === "open" ? this.#state.session : undefined;
  }

  /** What the agent was told last of its slots. */
  get slots(): number | null {
    return this.#state.kind === "open" ? this.#state.session.slots : null;
  }

  /** Offers that may still be sent on a lane. */
  claimable(lane: Lane, bytesAside: number): number {
    return this.#reader.isFull() ? 0 : claimable(this.#state, lane, bytesAside);
  }

  /** Attempts whose log and result flow through here, and offers not answered yet. */
  get load(): number {
    return loadOf(this.#state);
  }

  /** Asks the agent about every row of it that is not final: a database that failed over may have lost what ended one. */
  async lookAgain(): Promise<void> {
    const rows = await this.#deps.store.readOpen(this.agent, []);
    this.apply({ kind: "reread", rows });
  }

  offer(attempts: readonly ClaimedAttempt[]): void {
    this.apply({ kind: "claimed", attempts: attempts.map((attempt) => withOpenSecrets(attempt, this.#deps)) });
  }

  /** One binary frame from the socket. */
  received(frame: Uint8Array): void {
    this.#spoke();
    const incoming = readFrame(frame, fromAgentSchema, agentTypes);
    if (incoming.kind === "message") this.apply({ kind: "frame", message: incoming.message });
    else {
      if (this.#deps.seldom.isDue(`${this.agent} frame`))
        this.#deps.logger.warn({ agent: this.agentName, reason: incoming.reason }, "frame refused");
      this.close(incoming.code, incoming.reason);
    }
    this.#writes?.reading.hold();
  }

  /** Whoever speaks and does not read keeps what it was offered from others for ever, and its node's memory. */
  #spoke(): void {
    this.#heartbeat.heard();
    const found = this.#reader.look();
    if (found === "stalled") this.close(closeCode.tooLarge, "nothing that was sent is read");
    else if (found === "freed") this.#deps.events.claimable(this);
  }

  #silent(): void {
    // Not reading is our doing: silence says nothing about the agent then.
    if (this.#writes?.reading.isHeld === true) this.#heartbeat.start();
    else this.close(closeCode.silent, "no frame in time");
  }

  ponged(): void {
    const askedMs = this.#pingedMs;
    this.#pingedMs = undefined;
    if (askedMs !== undefined) this.#deps.events.measured(this, this.#deps.clock.monotonicMs() - askedMs);
    this.heard();
  }

  /** A ping, pong or anything else that shows life. */
  heard(): void {
    this.#spoke();
    this.apply({ kind: "alive" });
  }

  close(code: number, reason: string): void {
    this.#link.close(code, reason);
    // An answer to the close frame may never come; the socket is not waited for.
    this.#killing ??= this.#deps.clock.after(2_000, () => this.#deps.socket.terminate());
    this.#end();
  }

  /** The socket has closed. */
  ended(): void {
    this.#killing?.cancel();
    this.#end();
  }

  #end(): void {
    if (this.#ending.signal.aborted) return;
    this.#greetingLimit?.cancel();
    this.#ending.abort(new AppError("connection.closed", "the agent's session has ended"));
    this.#heartbeat.stop();
    this.#link.ended();
    const wasOpen = this.#state.kind === "open";
    this.apply({ kind: "closed" });
    if (wasOpen) this.#deps.events.closed(this);
  }

  apply(event: CourierEvent): void {
    const { state, effects } = stepCourier(this.#state, event, this.#deps.clock.monotonicMs());
    this.#state = state;
    for (const effect of effects) this.#carryOut(effect);
    this.#watchOffers();
  }

  /** Looks once a second while an offer is unanswered. Of 10,000 agents nearly all are idle: those cost no timer. */
  #watchOffers(): void {
    const isDue = this.#state.kind === "open" && this.#state.session.offers.size > 0;
    if (isDue) this.#tick ??= this.#deps.clock.every(1_000, () => this.apply({ kind: "tick" }));
    else {
      this.#tick?.cancel();
      this.#tick = undefined;
    }
  }

  #carryOut(effect: CourierEffect): void {
    const { store, events, background, socket } = this.#deps;
    const { agent } = this;
    switch (effect.kind) {
      case "send":
        this.#link.send(effect.message, effect.bytes);
        return;
      case "close":
        if (refusals.has(effect.code)) events.refused(this, effect.reason);
        this.close(effect.code, effect.reason);
        return;
      case "ping":
        socket.ping();
        return;
      case "opened":
        this.#greetingLimit?.cancel();
        this.#greetingLimit = undefined;
        events.opened(this);
        this.#pingedMs = this.#deps.clock.monotonicMs();
        socket.ping();
        return;
      case "claimable":
        events.claimable(this);
        return;
      case "greet": {
        const greeting = greetingOf(agent, effect.hello);
        this.#greeting("greet", async () => this.apply({ kind: "greeted", outcome: await store.greet(greeting) }));
        return;
      }
      case "reconcile":
        this.#greeting("reconcile", async () => {
          const rows = await store.readOpen(
            agent,
            effect.listed.map((report) => report.attempt),
          );
          const { node, timings = defaultTimings } = this.#options;
          // A person who looks for what is wrong wants to compare clocks; sessions rest on none.
          const isProbe = this.#state.kind === "reconciling" && this.#state.hello.probe === true;
          const time = isProbe ? { wallMs: Math.round(this.#deps.clock.wallMs()) } : {};
          const welcome = { node, timings, nodes: this.#deps.nodes.current(), ...time };
          this.apply({ kind: "reconciled", rows, welcome });
        });
        return;
      case "note-progress":
        this.#noteProgress(effect.items);
        return;
      case "progress":
      case "append":
      case "finish":
      case "resume":
      case "refuse":
      case "lose":
        this.#writes ??= this.#makeWrites();
        this.#writes.carryOut(effect);
        return;
      case "release":
        background.run("release offers", () => store.release(this.#options.node.id, effect.offers));
        return;
      case "renew":
        this.#renewals ??= new Renewals({
          ...this.#deps,
          signal: this.#ending.signal,
          send: (answer) => this.#link.send(answer),
        });
        this.#renewals.ask(effect, { id: agent, name: this.agentName });
        return;
    }
  }

  #makeWrites(): CourierWrites {
    const { logger, events } = this.#deps;
    return new CourierWrites({
      ...this.#deps,
      signal: this.#ending.signal,
      agent: this.agent,
      node: this.#options.node.id,
      journal: () => this.identity?.journalId,
      apply: (event) => this.apply(event),
      onChanged: (attempt) => events.changed(attempt),
      onFailed: (error) => {
        logger.error({ err: error, agent: this.agentName }, "a write of this agent failed; its session ends");
        this.close(closeCode.unavailable, "a write failed");
      },
      onResumed: () => this.#heartbeat.heard(),
    });
  }

  #noteProgress(items: readonly ProgressItem[]): void {
    const { agent, identity } = this;
    if (identity === undefined) return;
    this.#progressNotes ??= new ProgressNotes({
      ...this.#deps,
      signal: this.#ending.signal,
      onStored: (attempt) => this.#deps.events.changed(attempt),
    });
    this.#progressNotes.note(items, { agent, journalId: identity.journalId });
  }

  /** Before the greeting is complete there is nothing to keep: a node that cannot judge says so and closes. */
  #greeting(name: string, act: () => Promise<void>): void {
    this.#deps.background.run(name, async () => {
      try {
        await act();
      } catch (cause) {
        this.#deps.logger.warn({ err: cause, agent: this.agentName }, `${name} failed`);
        this.close(closeCode.unavailable, AppError.from(cause).message);
      }
    });
  }
}
