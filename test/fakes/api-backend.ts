// The rest of the node as the HTTP edge sees it, in memory: one task whose log grows as a test says. Nothing is stored.
import type {
  ApiKeyRow,
  Backend,
  EnrolmentBackend,
  LogPiece,
  LogQuery,
  LogRead,
  NodeChange,
  Principal,
  Submit,
} from "../../server/api/backend.ts";
import type { Downloads } from "../../server/api/download-routes.ts";
import { ApiServer, type ApiServerOptions } from "../../server/api/http-server.ts";
import { formatApiKey } from "../../shared/api/api-key.ts";
import type { AgentUpdateRequest } from "../../shared/api/agent-updates.ts";
import type { AgentChangeRequest, AgentView } from "../../shared/api/agents.ts";
import type { AgentLocks, LockView } from "../../shared/api/locks.ts";
import type { ClusterView, NodeRemains, NodeView } from "../../shared/api/nodes.ts";
import type { Grant } from "../../shared/api/scope.ts";
import type { SubmitAnswer } from "../../shared/api/submissions.ts";
import { summarise, type AttemptView, type TaskView } from "../../shared/api/tasks.ts";
import { systemClock } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import { apiKeyIdSchema, createIdSource, newId, type ApiKeyId } from "../../shared/ids.ts";
import { silentLogger } from "../../shared/logger.ts";
import { SystemRandom } from "../../shared/random.ts";
import { isFinal, type FinalState, type TaskState } from "../../shared/task.ts";
import { sha256 } from "../../shared/thumbprint.ts";
import { Registry } from "prom-client";

export const ids = createIdSource({ clock: systemClock, random: new SystemRandom() });

export function taskView(change: Partial<TaskView> = {}): TaskView {
  return {
    id: ids.next(),
    submission: ids.next(),
    agent: "web-01",
    state: "running",
    reason: null,
    home: "node-a",
    exitCode: null,
    signal: null,
    waiting: null,
    cancelRequested: false,
    lane: "work",
    spec: summarise({ kind: "no-op" }),
    createdAt: "2026-11-23T16:00:00.000Z",
    finishedAt: null,
    attempts: [],
    ...change,
  };
}

export function attemptView(change: Partial<AttemptView> = {}): AttemptView {
  return {
    id: ids.next(),
    number: 1,
    state: "running",
    reason: null,
    exitCode: null,
    signal: null,
    home: null,
    offers: 1,
    createdAt: "2026-11-23T16:00:00.000Z",
    acceptedAt: null,
    startedAt: null,
    finishedAt: null,
    outBytes: 0,
    errBytes: 0,
    progress: null,
    lateResults: [],
    ...change,
  };
}

export function nodeView(change: Partial<NodeView> = {}): NodeView {
  return {
    id: ids.next(),
    name: "node-a",
    state: "live",
    addresses: ["node-a:10943"],
    version: "0.1.0",
    draining: false,
    drain: "none",
    taskCap: 1_000,
    active: 0,
    heartbeatAt: "2026-11-23T16:00:00.000Z",
    sessions: 0,
    ...change,
  };
}

export function agentView(change: Partial<AgentView> = {}): AgentView {
  return {
    id: ids.next(),
    name: "web-01",
    labels: {},
    status: "active",
    paused: false,
    slots: null,
    connection: "fully",
    nodes: [],
    version: null,
    host: null,
    createdAt: "2026-11-23T16:00:00.000Z",
    lastSeenAt: null,
    ...change,
  };
}

/** One task with a log that a test appends to. Pieces are handed out as they were appended, even when a reader has part of one: the edge has to cut. */
export class FakeTask {
  view: TaskView;
  readonly #pieces: LogPiece[] = [];
  readonly #lengths = { out: 0, err: 0 };
  readonly #waiters = new Set<() => void>();

  constructor(view: TaskView = taskView()) {
    this.view = view;
  }

  append(stream: "out" | "err", content: string | Uint8Array | { omitted: number }): void {
    const made =
      typeof content === "string"
        ? { bytes: Buffer.from(content) }
        : content instanceof Uint8Array
          ? { bytes: content }
          : content;
    this.#pieces.push({ stream, offset: this.#lengths[stream], content: made, atMs: null });
    this.#lengths[stream] += "bytes" in made ? made.bytes.length : made.omitted;
    this.#changed();
  }

  enter(state: TaskState, change: Partial<TaskView> = {}): void {
    this.view = { ...this.view, state, ...change };
    this.#changed();
  }

  finish(state: FinalState, change: Partial<TaskView> = {}): void {
    this.enter(state, { home: null, finishedAt: "2026-11-23T16:00:01.000Z", ...change });
  }

  read(query: LogQuery): LogRead {
    const pieces: LogPiece[] = [];
    let size = 0;
    for (const piece of this.#pieces) {
      const length = "bytes" in piece.content ? piece.content.bytes.length : piece.content.omitted;
      if (!query.streams.includes(piece.stream) || piece.offset + length <= query.from[piece.stream]) continue;
      if (size >= query.limitBytes) break;
      pieces.push(piece);
      size += "bytes" in piece.content ? length : 0;
    }
    const { state, reason, home, waiting, cancelRequested, attempts } = this.view;
    const final = this.view.finishedAt !== null;
    return {
      pieces,
      final,
      outLength: this.#lengths.out,
      errLength: this.#lengths.err,
      state: { state, reason, home, waiting, cancelRequested, progress: attempts.at(-1)?.progress ?? null },
    };
  }

  wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      this.#waiters.add(resolve);
      signal.addEventListener("abort", () => {
        this.#waiters.delete(resolve);
        reject(signal.reason);
      });
    });
  }

  #changed(): void {
    for (const wake of this.#waiters) wake();
    this.#waiters.clear();
  }
}

export class FakeBackend implements Backend, EnrolmentBackend {
  readonly tasks = new Map<string, FakeTask>();
  locks: LockView[] = [];
  readonly submits: { readonly submit: Submit; readonly principal: Principal }[] = [];
  readonly keys = new Map<ApiKeyId, ApiKeyRow>();
  readonly cancelled: string[] = [];
  readonly moved: string[] = [];
  readonly nodes = new Map<string, NodeView>();
  cluster: ClusterView = { id: ids.next(), name: "test", paused: false, behind: [] };
  /** What each asked node still holds; the last answer stays. */
  remains: NodeRemains[] = [{ empty: true, sessions: 0, active: 0, agents: [], tasks: [] }];
  readonly agents = new Map<string, AgentView>();
  readonly updates: AgentUpdateRequest[] = [];
  /** Replaces the answer to the next submits. */
  onSubmit: (submit: Submit) => Promise<SubmitAnswer>;
  ready = true;

  constructor() {
    this.onSubmit = async () => ({
      id: ids.next(),
      tasks: [...this.tasks.values()].map(({ view }) => ({ id: view.id, agent: view.agent })),
      repeated: false,
    });
  }

  add(task: FakeTask = new FakeTask()): FakeTask {
    this.tasks.set(task.view.id, task);
    return task;
  }

  /** The text of a new key with these scopes. */
  createKey(scopes: readonly Grant[] = ["*"]): string {
    const id = newId(ids, apiKeyIdSchema);
    const secret = Buffer.from(new SystemRandom().bytes(32)).toString("base64url");
    this.keys.set(id, { id, name: "test", scopes, secretDigest: sha256(secret), valid: true });
    return formatApiKey({ id, secret });
  }

  async findApiKey(id: ApiKeyId): Promise<ApiKeyRow | null> {
    return this.keys.get(id) ?? null;
  }

  async submit(submit: Submit, principal: Principal): Promise<SubmitAnswer> {
    this.submits.push({ submit, principal });
    return this.onSubmit(submit);
  }

  readSubmission = async () => null;
  readTask = async (id: string) => this.tasks.get(id)?.view ?? null;
  listTasks: Backend["listTasks"] = async (query) =>
    [...this.tasks.values()]
      .map((task) => task.view)
      .toSorted((one, other) => (one.id < other.id ? 1 : -1))
      .filter((view) => query.before === null || view.id < query.before)
      .slice(0, query.limit);

  async cancelTask(id: string): Promise<TaskView | null> {
    const task = this.tasks.get(id);
    if (task === undefined) return null;
    if (task.view.finishedAt !== null) throw new AppError("task.finished", `the task is ${task.view.state}`);
    this.cancelled.push(id);
    task.enter(task.view.state, { cancelRequested: true });
    return task.view;
  }

  async abandonTask(id: string): Promise<TaskView | null> {
    const task = this.tasks.get(id);
    if (task === undefined) return null;
    if (task.view.finishedAt === null) {
      if (task.view.state === "queued") task.finish("cancelled", { reason: "before-offer" });
      else task.finish("abandoned", { reason: "may-still-run", cancelRequested: true });
    } else if (task.view.state !== "abandoned" && task.view.state !== "cancelled")
      throw new AppError("task.finished", `the task is ${task.view.state}`);
    return task.view;
  }

  async retryTask(id: string): Promise<TaskView | null> {
    const task = this.tasks.get(id);
    if (task === undefined) return null;
    if (task.view.finishedAt === null) throw new AppError("task.open", `the task is ${task.view.state}`);
    task.enter("queued", { finishedAt: null, exitCode: null, reason: null });
    return task.view;
  }

  async moveTaskToTop(id: string): Promise<TaskView | null> {
    const task = this.tasks.get(id);
    if (task === undefined) return null;
    if (task.view.state !== "queued") throw new AppError("task.finished", `the task is ${task.view.state}, not queued`);
    this.moved.push(id);
    return task.view;
  }

  readLog = async (query: LogQuery) => this.tasks.get(query.task)?.read(query) ?? null;
  waitForChange = async (id: string, signal: AbortSignal) => this.tasks.get(id)?.wait(signal);
  listAgents = async () => [...this.agents.values()];
  findAgent = async (nameOrId: string) => this.#agent(nameOrId) ?? null;
  revokeAgent = async () => null;

  /** Replaces the answer to the next updates; without, a task for each agent that has succeeded already. */
  onUpdate = (agent: string): Partial<TaskView> & { readonly log?: string } => ({ agent, state: "succeeded" });

  async updateAgents({ request }: Parameters<Backend["updateAgents"]>[0]): Promise<SubmitAnswer> {
    this.updates.push(request);
    const tasks = request.agents.map((nameOrId) => {
      const agent = this.#agent(nameOrId)?.name ?? nameOrId;
      const { log, ...change } = this.onUpdate(agent);
      const task = this.add(new FakeTask(taskView({ agent, lane: "system", ...change })));
      if (log !== undefined) task.append("err", log);
      if (change.state !== undefined && isFinal(change.state)) task.finish(change.state, change);
      return { id: task.view.id, agent };
    });
    return { id: ids.next(), tasks, repeated: false };
  }

  async removeAgent(nameOrId: string): Promise<AgentView | null> {
    const agent = this.#agent(nameOrId);
    if (agent === undefined) return null;
    if (agent.status === "removed") throw new AppError("agent.unknown", `agent ${agent.name} was removed already`);
    const removed: AgentView = { ...agent, status: "removed", connection: "offline" };
    this.agents.set(agent.id, removed);
    return removed;
  }

  async setAgentPaused(nameOrId: string, paused: boolean): Promise<AgentView | null> {
    const agent = this.#agent(nameOrId);
    if (agent === undefined) return null;
    const changed = { ...agent, paused };
    this.agents.set(agent.id, changed);
    return changed;
  }

  async setAgent(nameOrId: string, { slots }: AgentChangeRequest): Promise<AgentView | null> {
    const agent = this.#agent(nameOrId);
    if (agent === undefined) return null;
    const changed = { ...agent, slots };
    this.agents.set(agent.id, changed);
    return changed;
  }

  async readLocks(nameOrId: string): Promise<AgentLocks | null> {
    const agent = this.#agent(nameOrId);
    return agent === undefined ? null : { agent: agent.name, locks: this.locks };
  }

  #agent(nameOrId: string): AgentView | undefined {
    return [...this.agents.values()].find(({ id, name }) => id === nameOrId || name === nameOrId);
  }

  listNodes = async () => [...this.nodes.values()];
  findNode = async (nameOrId: string) =>
    [...this.nodes.values()].find(({ id, name }) => id === nameOrId || name === nameOrId) ?? null;

  async setNode(id: string, change: NodeChange): Promise<NodeView | null> {
    const node = this.nodes.get(id);
    if (node === undefined) return null;
    const drain = change.drain ?? node.drain;
    const changed = { ...node, drain, draining: drain !== "none", taskCap: change.taskCap ?? node.taskCap };
    this.nodes.set(id, changed);
    return changed;
  }

  async removeNode(id: string): Promise<NodeView | null> {
    const node = this.nodes.get(id);
    if (node === undefined) return null;
    if (node.state === "removed") throw new AppError("node.unknown", `node ${node.name} was removed already`);
    const removed: NodeView = { ...node, state: "removed" };
    this.nodes.set(id, removed);
    return removed;
  }

  async readRemains(): Promise<NodeRemains> {
    const [now, ...later] = this.remains;
    if (now === undefined) throw new Error("the fake has no remains");
    if (later.length > 0) this.remains = later;
    return now;
  }

  readCluster = async () => this.cluster;
  async setClusterPaused(paused: boolean): Promise<ClusterView> {
    this.cluster = { ...this.cluster, paused };
    return this.cluster;
  }
  installerSha256: string | null = null;
  listTokens = async () => [];
  revokeToken = async () => null;
  createToken: Backend["createToken"] = async (request, principal) => ({
    id: ids.next(),
    token: "hft_secret",
    installerSha256: this.installerSha256,
    state: "unused",
    labels: request.labels,
    replace: request.replace ?? null,
    createdBy: principal.name,
    createdAt: "2026-11-23T16:00:00.000Z",
    expiresAt: new Date(Date.UTC(2026, 10, 23, 16) + request.expiresMs).toISOString(),
    usedAt: null,
    agent: null,
  });
  readiness = async () => ({
    ready: this.ready,
    draining: !this.ready,
    database: "reachable" as const,
    node: "node-a",
    version: "0.0.0",
  });
  greeting = async () => ({ nonce: "n" });
  enrol = async (_body: unknown, address: string) => ({ address });
}

export interface RunningApi extends AsyncDisposable {
  readonly server: ApiServer;
  readonly backend: FakeBackend;
  readonly url: string;
  readonly apiKey: string;
}

/** Of a node that serves no executables. */
export const noDownloads: Downloads = {
  installer: async () => "",
  list: async () => undefined,
  open: async () => undefined,
};

/** The real HTTP edge on a real socket, in front of the fake backend. */
export async function startApi(
  options: Partial<ApiServerOptions> = {},
  downloads: Downloads = noDownloads,
): Promise<RunningApi> {
  const backend = new FakeBackend();
  const server = new ApiServer(
    { backend, enrolment: backend, downloads, clock: systemClock, ids, logger: silentLogger, registry: new Registry() },
    { host: "127.0.0.1", port: 0, trustedProxies: [], version: "0.0.0", stopMs: 200, ...options },
  );
  await server.start();
  return {
    server,
    backend,
    url: `http://127.0.0.1:${server.address.port}`,
    apiKey: backend.createKey(),
    [Symbol.asyncDispose]: () => server.stop(),
  };
}
