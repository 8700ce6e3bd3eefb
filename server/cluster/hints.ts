// Hints between nodes by NOTIFY: from a connection of their own, each in a transaction of its own, coalesced to at most
// 20 a second. They only make things faster; whoever receives none polls, and says so once (a pooler in transaction mode
// takes LISTEN and delivers nothing). A lost connection is replaced in the background; one that was cut without a word is
// found by asking on it, for a node that only listens would else be deaf until TCP gives it up.
import { z } from "zod";
import type { Background } from "../../shared/background.ts";
import type { Clock, Timer } from "../../shared/clock.ts";
import { errnoOf } from "../../shared/errors.ts";
import { agentIdSchema, type AgentId, type BootId } from "../../shared/ids.ts";
import type { Logger } from "../../shared/logger.ts";
import type { Service } from "../../shared/service.ts";
import type { Database } from "../store/connection.ts";

const channel = "holdfast";
const pauseMs = 50;
const agentsPerHint = 4;
/** How long a node's own word may take to come back to it before it says that hints do not arrive. */
const echoMs = 5_000;

/** How often the connection that listens is asked whether the database is still there, and how long it may take to answer. */
const checkMs = 10_000;
const checkLimitMs = 5_000;

const hintSchema = z.object({
  from: z.string(),
  kind: z.enum(["work", "cancel", "trust", "nodes", "agents"]),
  agents: z.array(agentIdSchema).optional(),
});
/** A node's word to itself; to others, of whatever version, it is no hint. */
const echoSchema = z.object({ from: z.string(), kind: z.literal("echo") });
export type HintKind = z.infer<typeof hintSchema>["kind"];

/** What is needed of the connection that listens. */
export interface HintConnection {
  on(event: "notification", told: (notification: { readonly payload?: string | undefined }) => void): unknown;
  on(event: "error" | "end", told: () => void): unknown;
  query(text: string, values?: unknown[]): Promise<unknown>;
  end(): Promise<void>;
}

export interface HintsDeps {
  readonly database: Pick<Database, "durable"> & { dedicated(): Promise<HintConnection> };
  readonly clock: Clock;
  readonly background: Background;
  readonly logger: Logger;
}

export interface HintsOptions {
  readonly bootId: BootId;
  /** `agents` is empty when the hint is about any agent. */
  readonly onHint: (kind: HintKind, agents: readonly AgentId[]) => void;
}

type State =
  | { readonly kind: "stopped" }
  | { readonly kind: "connecting" }
  | { readonly kind: "listening"; readonly client: HintConnection };

export class Hints implements Service {
  readonly #deps: HintsDeps;
  readonly #options: HintsOptions;
  readonly #ending = new AbortController();
  readonly #waiting = new Map<HintKind, Set<AgentId>>();
  #timer: Timer | undefined;
  #echo: Timer | undefined;
  /** The next check, or the limit of the one under way. */
  #check: Timer | undefined;
  #isToldDeaf = false;
  #state: State = { kind: "stopped" };

  constructor(deps: HintsDeps, options: HintsOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  start(): Promise<void> {
    this.#state = { kind: "connecting" };
    this.#deps.background.run("hints", () => this.#connect());
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#ending.abort();
    this.#timer?.cancel();
    this.#echo?.cancel();
    this.#check?.cancel();
    const state = this.#state;
    this.#state = { kind: "stopped" };
    if (state.kind === "listening") await state.client.end().catch(() => undefined);
  }

  /** Tells the other nodes; the first hint leaves at once, later ones are gathered. */
  publish(kind: HintKind, agents: Iterable<AgentId> = []): void {
    const gathered = this.#waiting.get(kind) ?? new Set();
    for (const agent of agents) gathered.add(agent);
    this.#waiting.set(kind, gathered);
    if (this.#timer === undefined) this.#flush();
  }

  #flush(): void {
    this.#timer = undefined;
    if (this.#waiting.size === 0 || this.#state.kind !== "listening") return;
    const { client } = this.#state;
    for (const [kind, agents] of this.#waiting) {
      const hint = {
        from: this.#options.bootId,
        kind,
        ...(agents.size > 0 && agents.size <= agentsPerHint ? { agents: [...agents] } : {}),
      };
      client.query("select pg_notify($1, $2)", [channel, JSON.stringify(hint)]).catch((cause: unknown) => {
        this.#deps.logger.debug({ err: cause }, "hint not sent");
        if (errnoOf(cause) === undefined) this.#giveUp(client);
      });
    }
    this.#waiting.clear();
    this.#timer = this.#deps.clock.after(pauseMs, () => this.#flush());
  }

  async #connect(): Promise<void> {
    while (!this.#ending.signal.aborted) {
      try {
        await this.#listen();
        return;
      } catch (cause) {
        this.#deps.logger.warn({ err: cause }, "no connection for hints; polling goes on");
        await this.#deps.clock.sleep(2_000, this.#ending.signal).catch(() => undefined);
      }
    }
  }

  async #listen(): Promise<void> {
    const client = await this.#deps.database.dedicated();
    client.on("notification", (notification) => this.#received(notification.payload ?? ""));
    client.on("error", () => undefined);
    client.on("end", () => this.#lost(client));
    try {
      await client.query(`listen ${channel}`);
    } catch (cause) {
      // Left open, one would be added every 2 s until the database takes no more connections.
      await client.end().catch(() => undefined);
      throw cause;
    }
    if (this.#state.kind === "stopped") {
      await client.end();
      return;
    }
    this.#state = { kind: "listening", client };
    this.#awaitCheck(client);
    // Hints sent while nobody listened are gone: look once at everything.
    for (const kind of hintSchema.shape.kind.options) this.#options.onHint(kind, []);
    // What was said meanwhile.
    if (this.#timer === undefined) this.#flush();
    await this.#callEcho();
  }

  /** From another connection: in the one that listens even a pooler delivers a session's word to itself. */
  async #callEcho(): Promise<void> {
    this.#echo?.cancel();
    this.#echo = this.#deps.clock.after(echoMs, () => {
      if (this.#isToldDeaf) return;
      this.#isToldDeaf = true;
      this.#deps.logger.warn(
        {},
        "hints between nodes do not arrive here, as behind a connection pooler in transaction mode; polling goes on",
      );
    });
    const payload = JSON.stringify({ from: this.#options.bootId, kind: "echo" });
    await this.#deps.database.durable
      .query({ name: "hint-echo", text: "select pg_notify($1, $2)" }, [channel, payload])
      .catch((cause: unknown) => this.#deps.logger.debug({ err: cause }, "echo not sent"));
  }

  #isListening(client: HintConnection): boolean {
    return this.#state.kind === "listening" && this.#state.client === client;
  }

  #awaitCheck(client: HintConnection): void {
    const { clock, background } = this.#deps;
    this.#check = clock.after(checkMs, () => background.run("hint check", () => this.#ask(client)));
  }

  async #ask(client: HintConnection): Promise<void> {
    this.#check = this.#deps.clock.after(checkLimitMs, () => {
      this.#deps.logger.warn({}, "the connection for hints says nothing any more and is replaced; polling goes on");
      this.#giveUp(client);
    });
    const limit = this.#check;
    try {
      await client.query("select");
    } catch (cause) {
      this.#deps.logger.debug({ err: cause }, "hint check failed");
      if (errnoOf(cause) === undefined && this.#isListening(client)) this.#giveUp(client);
    }
    limit.cancel();
    if (this.#isListening(client)) this.#awaitCheck(client);
  }

  /** The database said nothing at all: what is sent on this connection would only queue up behind, and nothing comes. */
  #giveUp(client: HintConnection): void {
    this.#lost(client);
    this.#deps.background.run("hints", () => client.end().catch(() => undefined));
  }

  #lost(client: HintConnection): void {
    if (!this.#isListening(client)) return;
    this.#echo?.cancel();
    this.#check?.cancel();
    this.#state = { kind: "connecting" };
    this.#deps.background.run("hints", () => this.#connect());
  }

  #received(payload: string): void {
    let value: unknown;
    try {
      value = JSON.parse(payload);
    } catch {
      return;
    }
    if (echoSchema.safeParse(value).data?.from === this.#options.bootId) this.#echo?.cancel();
    const hint = hintSchema.safeParse(value);
    if (hint.success && hint.data.from !== this.#options.bootId)
      this.#options.onHint(hint.data.kind, hint.data.agents ?? []);
  }
}
