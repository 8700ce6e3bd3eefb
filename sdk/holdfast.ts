// The client: one method per act of the HTTP API, errors as AppError by code. Works in Node and in a browser.
import type { z } from "zod";
import { agentViewSchema, type AgentChangeRequest, type AgentView } from "../shared/api/agents.ts";
import type { Sums } from "../shared/api/agent-updates.ts";
import { agentLocksSchema, type AgentLocks } from "../shared/api/locks.ts";
import {
  clusterViewSchema,
  nodeRemainsSchema,
  nodeViewSchema,
  type ClusterView,
  type DrainRequest,
  type NodeChangeRequest,
  type NodeRemains,
  type NodeView,
} from "../shared/api/nodes.ts";
import { pageOf, type Page, type PageRequest } from "../shared/api/page.ts";
import {
  submissionViewSchema,
  submitAnswerSchema,
  type SubmissionView,
  type SubmitInput,
} from "../shared/api/submissions.ts";
import { taskViewSchema, type TaskView } from "../shared/api/tasks.ts";
import {
  createdTokenSchema,
  tokenViewSchema,
  type CreatedToken,
  type CreateTokenInput,
  type TokenView,
} from "../shared/api/tokens.ts";
import { systemClock, type Clock } from "../shared/clock.ts";
import type { AppError } from "../shared/errors.ts";
import type { Random } from "../shared/random.ts";
import type { Stream, TaskState } from "../shared/task.ts";
import { readServedSums, requestUpdates, type UpdateRequest } from "./agent-updates.ts";
import { downloadLog } from "./log-download.ts";
import { agentPath, nodePath, taskPath } from "./paths.ts";
import { webFetch, webRandom, type Fetch } from "./platform.ts";
import { traceHeader } from "./run-input.ts";
import { RunHandle } from "./run-handle.ts";
import { runRequest, type RunOptions, type SubmitOptions } from "./run-options.ts";
import { Transport } from "./transport.ts";

export interface HoldfastOptions {
  /** Such as https://holdfast.example.com */
  readonly url: string;
  /** hfk_<id>_<secret> */
  readonly apiKey: string;
  /** Replaces the platform's, for proxies or tests. */
  readonly fetch?: Fetch;
  /** How long a request that is safe to repeat is tried again (connection failures, 503, 429); default 30,000. */
  readonly retryForMs?: number;
  /** How long one try waits for its answer to begin; default 30,000. */
  readonly answerMs?: number;
  readonly onRetry?: (error: AppError) => void;
  readonly clock?: Clock;
  readonly random?: Random;
}

export interface TaskFilter extends PageRequest {
  readonly state?: TaskState;
  /** Name or id. */
  readonly agent?: string;
}

export interface AgentFilter extends PageRequest {
  /** Selector text. */
  readonly on?: string;
}

export class Holdfast {
  readonly #transport: Transport;

  constructor(options: HoldfastOptions) {
    this.#transport = new Transport(
      { fetch: options.fetch ?? webFetch, clock: options.clock ?? systemClock, random: options.random ?? webRandom },
      {
        url: options.url,
        apiKey: options.apiKey,
        retryForMs: options.retryForMs ?? 30_000,
        answerMs: options.answerMs ?? 30_000,
        onRetry: options.onRetry,
      },
    );
  }

  /** Runs a script. Resolves once it is stored durably; the handle follows it. */
  async run(options: RunOptions): Promise<RunHandle> {
    const { request, submit } = runRequest(options);
    return this.submit(request, submit);
  }

  /** The general form: one spec for many agents, or up to 1,000 independent tasks. Retried under one idempotency key. */
  async submit(request: SubmitInput, options: SubmitOptions = {}): Promise<RunHandle> {
    const key = options.idempotencyKey ?? this.#newKey();
    const answer = await this.#transport.json(submitAnswerSchema, {
      method: "POST",
      path: "/api/v1/submissions",
      body: request,
      headers: { "idempotency-key": key, ...traceHeader(options.traceParent) },
      repeatable: "repeatable",
      signal: options.signal,
    });
    return new RunHandle(this.#transport, answer);
  }

  readonly submissions = {
    show: (id: string): Promise<SubmissionView> =>
      this.#read(submissionViewSchema, `/api/v1/submissions/${encodeURIComponent(id)}`),
  };

  readonly tasks = {
    list: (filter: TaskFilter = {}): Promise<Page<TaskView>> =>
      this.#read(pageOf(taskViewSchema), "/api/v1/tasks", { ...filter }),
    show: (id: string): Promise<TaskView> => this.#read(taskViewSchema, taskPath(id)),
    /** Recorded at once; final when the agent has confirmed it. */
    cancel: (id: string): Promise<TaskView> =>
      this.#transport.json(taskViewSchema, {
        method: "POST",
        path: `${taskPath(id)}/cancel`,
        repeatable: "repeatable",
      }),
    /** Final at once, though it may still run: for a task whose agent does not confirm a cancel. */
    abandon: (id: string): Promise<TaskView> =>
      this.#transport.json(taskViewSchema, {
        method: "POST",
        path: `${taskPath(id)}/abandon`,
        repeatable: "repeatable",
      }),
    /** A new attempt at a task whose latest one is final. Not tried again: a second try might make another one. */
    retry: (id: string): Promise<TaskView> =>
      this.#transport.json(taskViewSchema, { method: "POST", path: `${taskPath(id)}/retry`, repeatable: "once" }),
    /** Before its agent's other queued tasks. */
    moveToTop: (id: string): Promise<TaskView> =>
      this.#transport.json(taskViewSchema, {
        method: "POST",
        path: `${taskPath(id)}/move-to-top`,
        repeatable: "repeatable",
      }),
    /** What is stored now, as bytes. */
    log: (
      id: string,
      options: { readonly stream?: Stream | "both"; readonly signal?: AbortSignal } = {},
    ): AsyncGenerator<Uint8Array> => downloadLog(this.#transport, id, options),
    /** A handle on a task that was submitted earlier. */
    follow: async (id: string): Promise<RunHandle> => {
      const task = await this.tasks.show(id);
      return new RunHandle(this.#transport, {
        id: task.submission,
        tasks: [{ id: task.id, agent: task.agent }],
        repeated: true,
      });
    },
  };

  readonly agents = {
    list: (filter: AgentFilter = {}): Promise<Page<AgentView>> =>
      this.#read(pageOf(agentViewSchema), "/api/v1/agents", { ...filter }),
    show: (nameOrId: string): Promise<AgentView> => this.#read(agentViewSchema, agentPath(nameOrId)),
    revoke: (nameOrId: string): Promise<AgentView> =>
      this.#transport.json(agentViewSchema, {
        method: "POST",
        path: `${agentPath(nameOrId)}/revoke`,
        repeatable: "repeatable",
      }),
    /** Who holds its isolation locks and who waits for them, in order. */
    locks: (nameOrId: string): Promise<AgentLocks> => this.#read(agentLocksSchema, `${agentPath(nameOrId)}/locks`),
    /** Holds at once, and ends nothing that runs. */
    set: (nameOrId: string, change: AgentChangeRequest): Promise<AgentView> =>
      this.#transport.json(agentViewSchema, {
        method: "PATCH",
        path: agentPath(nameOrId),
        body: change,
        repeatable: "repeatable",
      }),
    /** SHA-256 of the agent's executables that the node serves, by name of file. */
    executables: (): Promise<Sums> => readServedSums(this.#transport),
    /** Has them replace their executables; the handle follows the tasks. Retried under one idempotency key. */
    update: async (request: UpdateRequest, options: Pick<SubmitOptions, "idempotencyKey" | "signal"> = {}) =>
      new RunHandle(
        this.#transport,
        await requestUpdates(this.#transport, request, { idempotencyKey: this.#newKey(), ...options }),
      ),
    /** It keeps what runs and is offered nothing more. */
    pause: (nameOrId: string): Promise<AgentView> => this.#setAgentPaused(nameOrId, "pause"),
    resume: (nameOrId: string): Promise<AgentView> => this.#setAgentPaused(nameOrId, "resume"),
    /**
     * For good: its tasks end, and its name may be enrolled again as a new agent. Not tried again: by then the name may be
     * that of the new one.
     */
    remove: (nameOrId: string): Promise<AgentView> =>
      this.#transport.json(agentViewSchema, { method: "DELETE", path: agentPath(nameOrId), repeatable: "once" }),
  };

  readonly nodes = {
    list: (filter: PageRequest = {}): Promise<Page<NodeView>> =>
      this.#read(pageOf(nodeViewSchema), "/api/v1/nodes", { ...filter }),
    show: (node: string): Promise<NodeView> => this.#read(nodeViewSchema, nodePath(node)),
    /** What it still holds; a drained node is empty. */
    remains: (node: string): Promise<NodeRemains> => this.#read(nodeRemainsSchema, `${nodePath(node)}/remains`),
    /** Takes nothing new and gives its agents away; kept over restarts until it is resumed. */
    drain: (node: string, request: DrainRequest = {}): Promise<NodeView> =>
      this.#transport.json(nodeViewSchema, {
        method: "POST",
        path: `${nodePath(node)}/drain`,
        body: request,
        repeatable: "repeatable",
      }),
    resume: (node: string): Promise<NodeView> =>
      this.#transport.json(nodeViewSchema, {
        method: "POST",
        path: `${nodePath(node)}/resume`,
        repeatable: "repeatable",
      }),
    /** Holds at once. */
    set: (node: string, change: NodeChangeRequest): Promise<NodeView> =>
      this.#transport.json(nodeViewSchema, {
        method: "PATCH",
        path: nodePath(node),
        body: change,
        repeatable: "repeatable",
      }),
    /** For good. Not tried again: it may be gone by then. */
    remove: (node: string): Promise<NodeView> =>
      this.#transport.json(nodeViewSchema, { method: "DELETE", path: nodePath(node), repeatable: "once" }),
  };

  readonly cluster = {
    show: (): Promise<ClusterView> => this.#read(clusterViewSchema, "/api/v1/cluster"),
    /** No node claims anything more. Answers when every live node acts by it, or after 20 s with those that do not. */
    pause: (): Promise<ClusterView> => this.#setClusterPaused("pause"),
    resume: (): Promise<ClusterView> => this.#setClusterPaused("resume"),
  };

  readonly tokens = {
    /** Not tried again: a second try would make a second token. */
    create: (request: CreateTokenInput = {}): Promise<CreatedToken> =>
      this.#transport.json(createdTokenSchema, {
        method: "POST",
        path: "/api/v1/tokens",
        body: request,
        repeatable: "once",
      }),
    list: (filter: PageRequest = {}): Promise<Page<TokenView>> =>
      this.#read(pageOf(tokenViewSchema), "/api/v1/tokens", { ...filter }),
    revoke: (id: string): Promise<TokenView> =>
      this.#transport.json(tokenViewSchema, {
        method: "POST",
        path: `/api/v1/tokens/${encodeURIComponent(id)}/revoke`,
        repeatable: "repeatable",
      }),
  };

  #setAgentPaused(nameOrId: string, verb: "pause" | "resume"): Promise<AgentView> {
    return this.#transport.json(agentViewSchema, {
      method: "POST",
      path: `${agentPath(nameOrId)}/${verb}`,
      repeatable: "repeatable",
    });
  }

  #setClusterPaused(verb: "pause" | "resume"): Promise<ClusterView> {
    return this.#transport.json(clusterViewSchema, {
      method: "POST",
      path: `/api/v1/cluster/${verb}`,
      repeatable: "repeatable",
    });
  }

  #read<Schema extends z.ZodType>(
    schema: Schema,
    path: string,
    query: Record<string, string | number | undefined> = {},
  ): Promise<z.output<Schema>> {
    return this.#transport.json(schema, { method: "GET", path, query, repeatable: "repeatable" });
  }

  #newKey(): string {
    return [...this.#transport.platform.random.bytes(16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}
