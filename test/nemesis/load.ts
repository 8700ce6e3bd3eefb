// Clients behind a load balancer: they submit at a rate, repeat under the same key at another node until they are answered,
// submit some keys from two sides at once, cancel some tasks, and look at the newest tasks all the time. Everything they did
// and were told is in the record. Invariant: open calls and tasks have bounds, at which new ones wait and are counted.
import { join } from "node:path";
import { AppError } from "../../shared/errors.ts";
import { countingScript } from "../harness/script-truth.ts";
import { seeded } from "../harness/seeded.ts";
import type { Answered, Look, ScriptKind, Submitted } from "./history.ts";
import type { Site, SiteNode } from "./site.ts";

export interface LoadOptions {
  readonly seed: number;
  readonly perSecond: number;
  /** At most so many tasks whose end was not seen; beyond, the next ones wait. */
  readonly openTasksAtMost: number;
  /** Submissions in all; then no more. */
  readonly tasksAtMost: number;
}

const openCallsAtMost = 300;
const lookMs = 1_000;
const lookedAt = 50;
/** Between looks at how many are due: a busy machine wakes this program late, and then several are. */
const tickMs = 50;
const dueAtOnce = 20;
const againMs = 500;
const beatSeconds = 0.25;
/** Far beyond any time limit and any cancel of this load. */
const endlessBeats = 160;

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
  readonly #openTasks = new Set<string>();
  readonly #lastSeen = new Map<string, string>();
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
    if (this.#calls.size >= openCallsAtMost || this.#openTasks.size >= this.#options.openTasksAtMost) {
      this.heldBack += 1;
      return;
    }
    const one = this.#draw();
    this.submitted.push(one);
    const ways = one.script.repeat === "twice" ? 2 : 1;
    for (let way = 0; way < ways; way += 1) this.#track(this.#submit(one, way));
  }

  #track(call: Promise<void>): void {
    const tracked = call.finally(() => void this.#calls.delete(tracked));
    this.#calls.add(tracked);
  }

  #draw(): Submitted {
    const unit = this.#unit;
    const { agents, folder } = this.#site;
    const key = `nemesis-${this.submitted.length + 1}`;
    const agent = agents[Math.floor(unit() * agents.length)]?.name ?? "";
    const exitCode = unit() < 0.7 ? 0 : 1 + Math.floor(unit() * 40);
    const repeat = unit() < 0.15 ? "twice" : "once";
    const chance = unit();
    const counts = { count: 1 + Math.floor(unit() * 20), exitCode, repeat } as const;
    const endless = { ...counts, count: endlessBeats };
    const script: ScriptKind =
      chance < 0.1
        ? { kind: "cancelled", ...endless, afterMs: Math.floor(unit() * 2_500) }
        : chance < 0.18
          ? { kind: "timed-out", ...endless, timeoutMs: 1_000 + Math.floor(unit() * 1_500) }
          : { kind: "counted", ...counts };
    const truth = join(folder, key);
    return {
      key,
      agent,
      script,
      truth,
      invokedAtMs: Date.now(),
      answers: [],
      tries: 0,
      troubles: [],
      cancel: undefined,
    };
  }

  async #submit(one: Submitted, way: number): Promise<void> {
    const { script, agent, key, truth } = one;
    const body = countingScript(truth, {
      count: script.count,
      pauseSeconds: beatSeconds,
      exitCode: script.exitCode,
      beats: "written",
    });
    const spec = {
      kind: "script" as const,
      script: body,
      graceMs: 2_000,
      ...(script.kind === "timed-out" ? { timeoutMs: script.timeoutMs } : {}),
    };
    const answer = await this.#answered(one, async ({ client, name }): Promise<Answered> => {
      const handle = await client.submit({ on: agent, spec }, { idempotencyKey: key, signal: this.#stop.signal });
      return { submission: handle.id, tasks: handle.tasks.map(({ id }) => id), node: name, atMs: Date.now() };
    });
    if (answer === undefined) return;
    one.answers.push(answer);
    const [task] = answer.tasks;
    if (task === undefined || way > 0) return;
    this.#openTasks.add(task);
    if (script.kind !== "cancelled") return;
    await this.#pause(script.afterMs);
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
        await this.#pause(againMs);
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
      try {
        const { items } = (await node?.client.tasks.list({ limit: lookedAt })) ?? { items: [] };
        for (const { id, state } of items) this.#see(id, state);
      } catch {
        // No answer is no observation.
      } finally {
        this.#looking = false;
      }
    };
    this.#track(look());
  }

  #see(task: string, state: Look["state"]): void {
    if (this.#lastSeen.get(task) === state) return;
    this.#lastSeen.set(task, state);
    this.looks.push({ task, state });
  }

  /** What the database says of the tasks that are open: the clients' own looks reach back a page only. */
  closed(tasks: Iterable<string>): void {
    for (const task of tasks) this.#openTasks.delete(task);
  }

  get open(): readonly string[] {
    return [...this.#openTasks];
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
