// A client with a plan of submissions: sends each with its key to some node, repeats with the same key until it is answered,
// cancels and abandons some of what it sent, and looks at how its tasks stand.
import { createHash } from "node:crypto";
import { AppError } from "../../shared/errors.ts";
import { taskIdSchema, type TaskId } from "../../shared/ids.ts";
import type { Isolation, TaskSpec } from "../../shared/task.ts";
import type { Submitted, SubmitRequest } from "../../server/tasks/submit.ts";
import type { SeededRandom } from "./kernel/random.ts";
import type { World } from "./kernel/world.ts";
import { short } from "./short.ts";
import type { Network, Place } from "./network.ts";
import type { SimNode } from "./node.ts";
import type { SimOptions } from "./options.ts";
import { planScript, specOf } from "./script.ts";
import type { Truth } from "./truth.ts";

const patienceMs = 5_000;
const clientPlace: Place = "client";
export const principal = "client";

export interface ClientDeps {
  readonly world: World;
  readonly network: Network;
  readonly nodes: readonly SimNode[];
  readonly agentNames: readonly string[];
  readonly truth: Truth;
  /** Whether a submission with this key is stored. */
  readonly isStored: (key: string) => boolean;
  readonly onRead: (task: TaskId, seen: { readonly rank: number; readonly state: string }) => void;
}

export class Client {
  readonly #deps: ClientDeps;
  readonly #options: SimOptions;
  readonly #random: SeededRandom;
  /** For what it does more than it once did, so that the rest of a seed stays as it was. */
  readonly #second: SeededRandom;
  readonly #third: SeededRandom;
  readonly #fourth: SeededRandom;
  readonly #closed = new Set<string>();
  /** Submissions that are neither answered nor refused for good, and retries that are not done. */
  open = 0;

  constructor(deps: ClientDeps, options: SimOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#random = deps.world.random("client");
    this.#second = deps.world.random("client, second");
    this.#third = deps.world.random("client, third");
    this.#fourth = deps.world.random("client, fourth");
  }

  start(): void {
    const { world } = this.#deps;
    const { submissions, bursts, faultMs } = this.#options;
    const anyTime = (): number => this.#random.between(300, faultMs);
    const moments = Array.from({ length: bursts }, anyTime);
    for (let number = 0; number < submissions; number += 1) {
      this.open += 1;
      const request = this.#request(number);
      const atMs = bursts > 0 ? this.#random.pick(moments) + this.#random.between(0, 400) : anyTime();
      world.schedule(atMs, () => this.#send(request, 0));
    }
  }

  #request(number: number): SubmitRequest {
    const random = this.#random;
    const { agentNames } = this.#deps;
    const isBurst = this.#options.bursts > 0;
    const count = random.chance(isBurst ? 0.7 : 0.3) ? 1 + random.below(4) : 1;
    // More for one agent than it has slots: what is offered through several nodes at once has to wait there.
    const favourite = random.pick(agentNames);
    const items = Array.from({ length: count }, (_, index) => ({
      on: isBurst ? favourite : random.pick(agentNames),
      spec: this.#spec(number * 10 + index),
    }));
    const isShort = random.chance(this.#options.shortLimits);
    const body = JSON.stringify(items);
    return {
      key: `key-${number}`,
      digest: createHash("sha256").update(body).digest("hex"),
      work: { items },
      queueTimeoutMs: isShort ? Math.trunc(random.between(1_000, 20_000)) : undefined,
      unreachableLimitMs: isShort ? Math.trunc(random.between(3_000, 60_000)) : undefined,
      lane: random.chance(0.15) ? "system" : "work",
    };
  }

  #spec(tag: number): TaskSpec {
    const random = this.#random;
    if (random.chance(this.#options.noOps)) return { kind: "no-op" };
    const plan = planScript(random, tag, this.#options.longestScriptMs);
    const timeoutMs = random.chance(0.12) ? Math.trunc(random.between(100, 3_000)) : 60_000;
    const spec = specOf(plan, { timeoutMs, graceMs: Math.trunc(random.skewed(0, 4_000)) });
    if (spec.kind !== "script") return spec;
    const isolation = this.#isolation();
    const isolated = isolation === undefined ? spec : { ...spec, isolation };
    return random.chance(0.08) ? { ...isolated, interpreter: "missing" } : isolated;
  }

  #isolation(): Isolation | undefined {
    const random = this.#fourth;
    if (!random.chance(this.#options.isolated)) return undefined;
    const name = random.chance(0.7) ? "default" : "other";
    const mode = random.chance(0.6) ? "full" : "none";
    return { name, mode, ...(random.chance(0.15) ? { waitMs: Math.trunc(random.between(100, 6_000)) } : {}) };
  }

  #send(request: SubmitRequest, tries: number): void {
    const { world, nodes, truth } = this.#deps;
    truth.invoked.add(request.key);
    const node = this.#random.pick(nodes);
    const isImpatient = this.#random.chance(this.#options.impatience);
    let isOver = false;
    const again = (why: string): void => {
      if (isOver || this.#closed.has(request.key)) return;
      isOver = true;
      world.note(`client ${request.key} again: ${why}`);
      world.schedule(this.#random.between(50, 1_500), () => this.#send(request, tries + 1));
    };
    world.schedule(isImpatient ? 300 : patienceMs, () => again("no answer"));
    this.#call(
      node,
      () => this.#submit(node, request),
      (submitted) => this.#answered(request, submitted),
      (cause) => {
        if (cause instanceof AppError && !cause.retryable) this.#close(request.key);
        again(cause instanceof AppError ? cause.code : String(cause));
      },
    );
  }

  /** I19: what is stored under a key is what its sender hears of, whatever became of the agents it names. */
  async #submit(node: SimNode, request: SubmitRequest): Promise<Submitted> {
    const { world, isStored } = this.#deps;
    const wasStored = isStored(request.key);
    try {
      return await node.submit(request, principal);
    } catch (cause) {
      if (cause instanceof AppError && !cause.retryable && wasStored && isStored(request.key))
        world.fail(new Error(`I19: ${request.key} is stored and was answered with ${cause.code}`));
      throw cause;
    }
  }

  #close(key: string): void {
    if (this.#closed.has(key)) return;
    this.#closed.add(key);
    this.open -= 1;
  }

  /** One HTTP request: lost with the node, delayed by the network. */
  #call<Answer>(
    node: SimNode,
    act: () => Promise<Answer>,
    onAnswer: (answer: Answer) => void,
    onFailure: (cause: unknown) => void,
  ): void {
    const { world, network } = this.#deps;
    world.schedule(network.delayMs(clientPlace, node.place) / 2, () => {
      const { process } = node;
      if (process === undefined) {
        onFailure(new AppError("cluster.unreachable", `${node.name} is down`));
        return;
      }
      process.schedule(0, () => {
        const back = (tell: () => void): void => {
          if (process.isUp) world.schedule(network.delayMs(node.place, clientPlace) / 2, tell);
        };
        const begun = (async () => act())();
        begun.then(
          (answer) => back(() => onAnswer(answer)),
          (cause: unknown) => back(() => onFailure(cause)),
        );
      });
    });
  }

  #answered(request: SubmitRequest, submitted: Submitted): void {
    const { world, truth } = this.#deps;
    const tasks = submitted.tasks.map(({ id }) => taskIdSchema.parse(id)).toSorted();
    const before = truth.acked.get(request.key);
    if (before !== undefined) {
      // An impatient client is answered twice; both answers must name the same tasks.
      if (before.submission !== submitted.id || before.tasks.join() !== tasks.join())
        if (!truth.excusedKeys.has(request.key))
          world.fail(new Error(`I19: ${request.key} was answered with ${before.submission} and ${submitted.id}`));
      return;
    }
    world.note(`client ${request.key} has ${tasks.map(short).join(" ")}`);
    truth.acked.set(request.key, { key: request.key, submission: submitted.id, tasks });
    this.#close(request.key);
    for (const task of tasks) {
      if (this.#second.chance(this.#options.abandons))
        world.schedule(this.#second.skewed(0, 12_000), () => this.#abandon(task));
      if (this.#random.chance(this.#options.cancels)) {
        const afterMs = this.#random.chance(0.5)
          ? this.#random.skewed(0, 8_000)
          : this.#random.between(0, this.#options.longestScriptMs);
        world.schedule(afterMs, () => this.#cancel(task));
      }
      if (this.#third.chance(this.#options.retries)) {
        this.open += 1;
        world.schedule(this.#third.between(500, 10_000), () => this.#retry(task, 4));
      }
      this.#look(task, 4);
    }
  }

  /** As a person who sees that it failed; a task that has not ended is asked about again. */
  #retry(task: TaskId, left: number): void {
    const { world, nodes } = this.#deps;
    if (left === 0) {
      this.open -= 1;
      return;
    }
    const node = this.#third.pick(nodes);
    const again = (): void => void world.schedule(this.#third.between(500, 5_000), () => this.#retry(task, left - 1));
    this.#call(
      node,
      () => node.retry(task),
      (retried) => {
        if (!retried) {
          again();
          return;
        }
        this.open -= 1;
        world.note(`client has ${short(task)} tried again`);
      },
      again,
    );
  }

  #cancel(task: TaskId): void {
    const { world, nodes } = this.#deps;
    world.note(`client cancels ${short(task)}`);
    const node = this.#random.pick(nodes);
    this.#call(
      node,
      () => node.cancel(task),
      () => undefined,
      () => world.schedule(this.#random.between(100, 1_000), () => this.#cancel(task)),
    );
  }

  #abandon(task: TaskId): void {
    const { world, nodes } = this.#deps;
    world.note(`client abandons ${short(task)}`);
    const node = this.#second.pick(nodes);
    this.#call(
      node,
      () => node.abandon(task),
      () => undefined,
      () => world.schedule(this.#second.between(100, 1_000), () => this.#abandon(task)),
    );
  }

  #look(task: TaskId, left: number): void {
    const { world, nodes, onRead } = this.#deps;
    if (left === 0) return;
    world.schedule(this.#random.between(200, 4_000), () => {
      const node = this.#random.pick(nodes);
      this.#call(
        node,
        () => node.read(task),
        (seen) => {
          if (seen !== undefined) onRead(task, seen);
          this.#look(task, left - 1);
        },
        () => this.#look(task, left - 1),
      );
    });
  }
}
