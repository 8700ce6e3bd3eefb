// The public surface of the package "holdfast", every name listed by hand; what is not here may change at any time.
export { AppError, type ErrorCode } from "../shared/errors.ts";
export type { AgentChangeRequest, AgentView } from "../shared/api/agents.ts";
export type { AgentUpdateRequest, Sums } from "../shared/api/agent-updates.ts";
export type { AgentLocks, LockView } from "../shared/api/locks.ts";
export type { ClusterView, DrainRequest, NodeChangeRequest, NodeRemains, NodeView } from "../shared/api/nodes.ts";
export type { Page } from "../shared/api/page.ts";
export type { Target } from "../shared/api/selector.ts";
export type { SubmissionView, SubmitInput } from "../shared/api/submissions.ts";
export type { AttemptView, ProgressView, TaskView } from "../shared/api/tasks.ts";
export type { CreatedToken, CreateTokenInput, TokenView } from "../shared/api/tokens.ts";
export type { TaskState } from "../shared/task.ts";
export { Holdfast, type AgentFilter, type HoldfastOptions, type TaskFilter } from "./holdfast.ts";
export type { RunOptions, SubmitOptions } from "./run-options.ts";
export type { FileInput, SecretInput } from "./run-input.ts";
export {
  RunHandle,
  type LogBytes,
  type LogLine,
  type RunEvent,
  type RunProgress,
  type RunResult,
  type TaskReference,
  type WatchOptions,
} from "./run-handle.ts";
