// Clients behind a load balancer: they submit at a rate, repeat under the same key at another node until they are answered,
// submit some keys from two sides at once, cancel some tasks, and look at the newest tasks all the time. Everything they did
// and were told is in the record. Invariant: open calls and tasks have bounds, at which new ones wait and are counted.
import { join } from "node:path";
import { AppError } from "../../shared/errors.ts";
import { seeded } from "../harness/seeded.ts";
import type { Answered, Look, Submitted } from "./history.ts";
import type { Site, SiteNode } from "./site.ts";
import { drawWork, specOf } from "./work.ts";

export interface LoadOptions {
  readonly seed: number;
  readonly perSecond: number;
  /** At most so many of one agent whose end was not seen; beyond, those due are counted as held back. */
  readonly openTasksPerAgent: number;
  /** Submissions in all; then no more. */
  readonly tasksAtMost: number;
}

/** What waits for a database that is away comes all at once when it is back. */
const openCallsAtMost = 100;
const lookMs = 1_000;
const lookedAt = 50;
/** Between looks at how many are due: a busy machine wakes this program late, and then several are. */
const tickMs = 50;
const dueAtOnce = 20;
/** Doubling: while the database is away, all that wait would else cost more than the work itself. */
const againAfterMs = { first: 500, most: 8_000 };

export class Load {
  readonly submitted: Submitted[] = [];
  readonly looks: Look[] = [];
  /** Those that a bound did not let through. */
  heldBack = 0;
  readonly #site: Site;
  readonly #options: LoadOptions;
  readonly #unit: () => number;
  readonly #calls = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  /** By task its agent. */
  readonly #openTasks = new Map<string, string>();
  readonly #openOf = new Map<string, number>();
  readonly #lastSeen = new Map<string, Look>();
  #timers: readonly NodeJS.Timeout[] = [];
  #startedMs = 0;
  #drawn = 0;
  #looking = false;

  constructor(site: Site, options: LoadOptions) {
    this.#site = site;
    this.#options = options;
    this.#unit = seeded(options.seed);
  }

  start(): void {
    this.#startedMs = performance.now();
    this.#timers = [setInterval(() => this.#tick(), tickMs), setInterval(() => this.#look(), lookMs)];
  }

  /** Nothing new from now on; those under way go on until they are answered. */
  submitNoMore(): void {
    clearInterval(this.#timers[0]);
  }

  /** Resolves when all are answered, at the latest after this time: what is open then stays unanswered. */
  async settle(limitMs: number): Promise<void> {
    const limit = setTimeout(() => this.#stop.abort(), limitMs);
    while (this.#calls.size > 0) await Promise.all(this.#calls);
    clearTimeout(limit);
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#stop.abort();
    while (this.#calls.size > 0) await Promise.all(this.#calls);
  }

  #tick(): void {
    const due = Math.floor(((performance.now() - this.#startedMs) / 1_000) * this.#options.perSecond) - this.#drawn;
    this.#drawn += due;
    for (let no = 0; no < due && this.submitted.length < this.#options.tasksAtMost; no += 1)
      if (no < dueAtOnce) this.#next();
      else this.heldBack += 1;
  }

  #next(): void {
    const one = this.#draw();
    const open = this.#openOf.get(one.agent) ?? 0;
    if (this.#calls.size >= openCallsAtMost || open >= this.#options.openTasksPerAgent) {
      this.heldBack += 1;
      return;
    }
    this.submitted.push(one);
    const ways = one.work.repeat === "twice" ? 2 : 1;
    for (let way = 0; way < ways; way += 1) this.#track(this.#submit(one, way));
  }

  #track(call: Promise<void>): void {
    const tracked = call.finally(() => void this.#calls.delete(tracked));
    this.#calls.add(tracked);
  }

  #draw(): Submitted {
    const { agents, folder } = this.#site;
    const key = `nemesis-${this.submitted.length + 1}`;
    const agent = agents[Math.floor(this.#unit() * agents.length)]?.name ?? "";
    return {
      key,
      agent,
      work: drawWork(this.#unit),
      truth: join(folder, key),
      invokedAtMs: Date.now(),
      answers: [],
      tries: 0,
      troubles: [],
      cancel: undefined,
    };
  }

  async #submit(one: Submitted, way: number): Promise<void> {
    const { work, agent, key, truth } = one;
    const spec = specOf(work, truth);
    const answer = await this.#answered(one, async ({ client, name }): Promise<Answered> => {
      const handle = await client.submit({ on: agent, spec }, { idempotencyKey: key, signal: this.#stop.signal });
      return { submission: handle.id, tasks: handle.tasks.map(({ id }) => id), node: name, atMs: Date.now() };
    });
    if (answer === undefined) return;
    one.answers.push(answer);
    const [task] = answer.tasks;
    if (task === undefined || way > 0) return;
    this.#openTasks.set(task, agent);
    this.#openOf.set(agent, (this.#openOf.get(agent) ?? 0) + 1);
    if (work.kind !== "cancelled") return;
    await this.#pause(work.afterMs);
    const askedAtMs = Date.now();
    one.cancel = { askedAtMs, answeredAtMs: undefined };
    const isTold = await this.#answered(one, async ({ client }) => {
      try {
        await client.tasks.cancel(task);
      } catch (cause) {
        // It came to its end meanwhile, which is an answer.
        if (AppError.from(cause).code !== "task.finished") throw cause;
      }
      return true;
    });
    if (isTold !== undefined) one.cancel = { askedAtMs, answeredAtMs: Date.now() };
  }

  /** Undefined when it was given up, or refused for good: then the record says so. */
  async #answered<Value>(one: Submitted, call: (node: SiteNode) => Promise<Value>): Promise<Value | undefined> {
    const { nodes } = this.#site;
    let againMs = againAfterMs.first;
    for (let at = Math.floor(this.#unit() * nodes.length); !this.#stop.signal.aborted; at += 1) {
      const node = nodes[at % nodes.length];
      if (node === undefined) return undefined;
      one.tries += 1;
      try {
        return await call(node);
      } catch (cause) {
        const { code, message, retryable } = AppError.from(cause);
        if (this.#stop.signal.aborted) return undefined;
        one.troubles.push(code);
        if (!retryable) {
          one.refused = `${code}: ${message}`;
          return undefined;
        }
        await this.#pause(againMs * (0.5 + this.#unit()));
        againMs = Math.min(againAfterMs.most, againMs * 2);
      }
    }
    return undefined;
  }

  #look(): void {
    // One at a time: an answer that was overtaken says nothing about order.
    if (this.#looking) return;
    this.#looking = true;
    const node = this.#site.nodes[Math.floor(this.#unit() * this.#site.nodes.length)];
    const look = async (): Promise<void> => {
      const askedAtMs = Date.now();
      try {
        const { items } = (await node?.client.tasks.list({ limit: lookedAt })) ?? { items: [] };
        for (const { id, state } of items) this.#see({ task: id, state, askedAtMs });
      } catch {
        // No answer is no observation.
      } finally {
        this.#looking = false;
      }
    };
    this.#track(look());
  }

  #see({ task, state, askedAtMs }: Pick<Look, "task" | "state"> & { readonly askedAtMs: number }): void {
    const last = this.#lastSeen.get(task);
    if (last?.state === state) {
      last.lastAskedAtMs = askedAtMs;
      return;
    }
    const look = { task, state, firstAnsweredAtMs: Date.now(), lastAskedAtMs: askedAtMs };
    this.#lastSeen.set(task, look);
    this.looks.push(look);
  }

  /** What the database says of the tasks that are open: the clients' own looks reach back a page only. */
  closed(tasks: Iterable<string>): void {
    for (const task of tasks) {
      const agent = this.#openTasks.get(task);
      if (agent === undefined) continue;
      this.#openTasks.delete(task);
      this.#openOf.set(agent, (this.#openOf.get(agent) ?? 1) - 1);
    }
  }

  get open(): readonly string[] {
    return [...this.#openTasks.keys()];
  }

  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, ms);
      const { signal } = this.#stop;
      function done(): void {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      }
      signal.addEventListener("abort", done, { once: true });
      if (signal.aborted) done();
    });
  }
}
