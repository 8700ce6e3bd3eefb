// What the HTTP edge needs from the rest of the node, as narrow interfaces; `node.ts` joins it to the verbs in server/tasks,
// server/enrolment and server/cluster. Ids arrive parsed, text from clients does not reach past here unchecked.
// Every method throws AppError with the code docs/errors.md gives for the case; "not there" is answered with null.
import type { AgentId, ApiKeyId, NodeId, SubmissionId, TaskId, TokenId } from "../../shared/ids.ts";
import type { AgentUpdateRequest } from "../../shared/api/agent-updates.ts";
import type { AgentChangeRequest, AgentView } from "../../shared/api/agents.ts";
import type { AgentLocks } from "../../shared/api/locks.ts";
import type { Readiness } from "../../shared/api/health.ts";
import type { ClusterView, NodeRemains, NodeView } from "../../shared/api/nodes.ts";
import type { Grant } from "../../shared/api/scope.ts";
import type { Selector } from "../../shared/api/selector.ts";
import type { SubmissionView, SubmitAnswer } from "../../shared/api/submissions.ts";
import type { LogPosition, StateEvent } from "../../shared/api/task-events.ts";
import type { TaskView } from "../../shared/api/tasks.ts";
import type { CreatedToken, CreateToken, TokenView } from "../../shared/api/tokens.ts";
import type { Secret } from "../../shared/secret.ts";
import type { Lane, Stream, TaskSpec, TaskState } from "../../shared/task.ts";

/** Who asks. Stored with every submission, token and cancel. */
export interface Principal {
  readonly id: ApiKeyId;
  readonly name: string;
  readonly scopes: readonly Grant[];
  /** Client address behind the trusted proxies. */
  readonly address: string;
}

export interface ApiKeyRow {
  readonly id: ApiKeyId;
  readonly name: string;
  readonly scopes: readonly Grant[];
  /** SHA-256 of the secret part of the key's text, 32 bytes. */
  readonly secretDigest: Uint8Array;
  /** False when revoked or expired by the database's clock. */
  readonly valid: boolean;
}

export interface Submit {
  /** Unique per principal; the server makes one up when the client sent none. */
  readonly key: string;
  /**
   * SHA-256 (lower-case hex) of the parsed request in canonical JSON, without the values of its secrets: same key with
   * another digest, or other secrets, is `idempotency.mismatch`.
   */
  readonly digest: string;
  readonly work:
    | { readonly selector: Selector; readonly spec: TaskSpec; readonly secrets?: readonly Secret[] | undefined }
    | {
        readonly items: readonly {
          readonly on: string;
          readonly spec: TaskSpec;
          readonly secrets?: readonly Secret[] | undefined;
        }[];
      };
  /** Absent means the server's default. */
  readonly queueTimeoutMs: number | undefined;
  /** 0 means never. */
  readonly unreachableLimitMs: number | undefined;
  readonly lane: Lane;
  readonly priority: "normal" | "high" | undefined;
  /** `refuse`: `agent.offline` when an agent has no live session. */
  readonly ifOffline: "queue" | "refuse" | undefined;
}

export interface PageOf<Id> {
  /** At most this many, newest first (ids sort by creation). */
  readonly limit: number;
  /** Only rows created before this one. */
  readonly before: Id | null;
}

export type TaskQuery = PageOf<TaskId> & {
  readonly state: TaskState | undefined;
  /** Name or id. */
  readonly agent: string | undefined;
};

export interface LogQuery {
  readonly task: TaskId;
  /** Positions in bytes produced; pieces that end at or before them are not wanted. They may lie beyond what is stored. */
  readonly from: LogPosition;
  readonly streams: readonly Stream[];
  /** Stop adding pieces once the answer holds about this much. */
  readonly limitBytes: number;
}

export interface LogPiece {
  readonly stream: Stream;
  /** Of the piece's first byte. Pieces of one stream come in order and without gaps; the first may begin before `from`. */
  readonly offset: number;
  readonly content: { readonly bytes: Uint8Array } | { readonly omitted: number };
  /** When the agent saw the first byte, by its calendar; null when that is not known. */
  readonly atMs: number | null;
}

/** Of the task's latest attempt. */
export interface LogRead {
  readonly pieces: readonly LogPiece[];
  /** True when the task is final: nothing will be added to either stream any more. */
  readonly final: boolean;
  /** Bytes produced and stored so far per stream, omissions counted; the complete lengths when final. */
  readonly outLength: number;
  readonly errLength: number;
  /** What a `state` event shows; a change of any of it is sent to followers. */
  readonly state: StateEvent;
}

export interface TaskBackend {
  /** 201 only when stored durably; `queue.full` when too much waits. */
  submit(submit: Submit, principal: Principal): Promise<SubmitAnswer>;
  readSubmission(id: SubmissionId): Promise<SubmissionView | null>;
  readTask(id: TaskId): Promise<TaskView | null>;
  listTasks(query: TaskQuery): Promise<readonly TaskView[]>;
  /** Records the cancel (idempotent) and answers the task as it is then; null when there is no such task; `task.finished` when it ended otherwise. */
  cancelTask(id: TaskId, principal: Principal): Promise<TaskView | null>;
  /** Ends an open task without its agent (idempotent); null when there is no such task; `task.finished` when it ended otherwise. */
  abandonTask(id: TaskId, principal: Principal): Promise<TaskView | null>;
  /** A new attempt at a final task; null when there is no such task; `task.open` while the latest attempt is not final. */
  retryTask(id: TaskId, principal: Principal): Promise<TaskView | null>;
  /** Before its agent's other queued tasks; null when there is no such task; `task.finished` when it is not queued. */
  moveTaskToTop(id: TaskId, principal: Principal): Promise<TaskView | null>;
  /** Null when there is no such task. */
  readLog(query: LogQuery): Promise<LogRead | null>;
  /**
   * Resolves when the task's log or state may have changed since the call: on a hint, else within about 200 ms while it runs.
   * Rejects with the signal's reason when it aborts.
   */
  waitForChange(task: TaskId, signal: AbortSignal): Promise<void>;
}

export interface AgentBackend {
  listAgents(query: PageOf<AgentId> & { readonly selector: Selector | undefined }): Promise<readonly AgentView[]>;
  findAgent(nameOrId: string): Promise<AgentView | null>;
  revokeAgent(nameOrId: string, principal: Principal): Promise<AgentView | null>;
  /** Idempotent; null when there is none. */
  setAgentPaused(nameOrId: string, paused: boolean, principal: Principal): Promise<AgentView | null>;
  /** What people set of it, told to it at once; null when there is none. */
  setAgent(nameOrId: string, change: AgentChangeRequest, principal: Principal): Promise<AgentView | null>;
  /** One submission of updates; `download.unknown` when this node serves other executables than the caller saw. */
  updateAgents(
    asked: { readonly key: string; readonly digest: string; readonly request: AgentUpdateRequest },
    principal: Principal,
  ): Promise<SubmitAnswer>;
  /** Who holds and who waits; null when there is no such agent. */
  readLocks(nameOrId: string): Promise<AgentLocks | null>;
  /** The agent as it is then; null when there is none, `agent.unknown` when it was removed before. */
  removeAgent(nameOrId: string, principal: Principal): Promise<AgentView | null>;
}

export interface NodeBackend {
  listNodes(query: PageOf<NodeId>): Promise<readonly NodeView[]>;
  /** By id or name; null when there is none, `request.invalid` when several carry the name. */
  findNode(nameOrId: string): Promise<NodeView | null>;
  /** Kept over restarts; null when there is no such node or it was removed. */
  setNode(id: NodeId, change: NodeChange, principal: Principal): Promise<NodeView | null>;
  /** For good: it does not come back. `node.unknown` when it was removed before. */
  removeNode(id: NodeId, principal: Principal): Promise<NodeView | null>;
  readRemains(id: NodeId): Promise<NodeRemains>;
  readCluster(): Promise<ClusterView>;
  /** Resolves when every live node acts by it, or after about 20 s; then `behind` names those that do not. */
  setClusterPaused(paused: boolean, principal: Principal): Promise<ClusterView>;
}

export interface NodeChange {
  readonly drain?: NodeView["drain"] | undefined;
  readonly taskCap?: number | undefined;
}

export interface TokenBackend {
  createToken(request: CreateToken, principal: Principal): Promise<CreatedToken>;
  listTokens(query: PageOf<TokenId>): Promise<readonly TokenView[]>;
  revokeToken(id: TokenId, principal: Principal): Promise<TokenView | null>;
}

export interface KeyBackend {
  findApiKey(id: ApiKeyId): Promise<ApiKeyRow | null>;
}

export interface HealthBackend {
  /** Never throws: a database that does not answer is `unreachable`. */
  readiness(): Promise<Readiness>;
}

export type Backend = TaskBackend & AgentBackend & NodeBackend & TokenBackend & KeyBackend & HealthBackend;

/** Enrolment without a key (DESIGN section 7). The body is parsed by the implementation; what it answers is sent as JSON. */
export interface EnrolmentBackend {
  greeting(): Promise<object>;
  enrol(body: unknown, address: string): Promise<object>;
}
