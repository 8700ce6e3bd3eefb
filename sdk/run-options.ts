// What a run is told, and the request that says it.
import type { Target } from "../shared/api/selector.ts";
import type { SubmitInput } from "../shared/api/submissions.ts";
import type { Isolation, Lane } from "../shared/task.ts";
import { attachmentOf, secretList, type FileInput, type SecretsInput } from "./run-input.ts";

export interface SubmitOptions {
  /** Sending a request again under the same key gives the same tasks; made up when absent. */
  readonly idempotencyKey?: string;
  /** W3C Trace Context: the scripts find it as `TRACEPARENT`. Throws `request.invalid` when it has another form. */
  readonly traceParent?: string;
  readonly signal?: AbortSignal;
}

export interface RunOptions extends SubmitOptions {
  /** `web-01`, `role=web,env in (prod,stage)`, `*`, `{agents: […]}`, `{labels: {…}}` or `{all: true}`. */
  readonly on: Target;
  /** At most 512 KiB. */
  readonly script: string;
  /** Default bash. */
  readonly interpreter?: string;
  /** Of the interpreter, before the script: `["-u"]`. */
  readonly interpreterArgs?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /**
   * Reach the script and nothing else: kept encrypted, masked in its output from 6 characters on, never shown again.
   * By name of the variable, or as a list when one is to be a file (`as: "file"`): then the variable holds its path.
   */
  readonly secrets?: SecretsInput;
  readonly cwd?: string;
  /** Of the target, by name; only where the agent runs as root, or as that user. Default: the user the agent runs as. */
  readonly user?: string;
  /** Lie in the script's private work folder (`HOLDFAST_WORK`, without `cwd` the current one): 16, 256 KiB together. */
  readonly files?: readonly FileInput[];
  /** Run time limit; default 1 h. */
  readonly timeoutMs?: number;
  /** Between TERM and KILL; default 10 s. */
  readonly graceMs?: number;
  /** Bytes of memory the script and all it starts may take; beyond, the kernel kills (`oom-killed`). */
  readonly memoryBytes?: number;
  /** Processes and threads the script and all it starts may be at once. */
  readonly pids?: number;
  /** Bytes of each stream that the agent sends in a second, at most; of what waits it keeps head and tail. At least 1,024. */
  readonly logBytesPerSecond?: number;
  /** Beside which other scripts it may run on its agent; default beside all that do not ask to run alone. */
  readonly isolation?: Partial<Isolation>;
  /** Expires while still queued after this long; default 24 h. */
  readonly queueTimeoutMs?: number;
  /** Lost when its agent was not seen for this long; 0 = never; default 24 h. */
  readonly unreachableLimitMs?: number;
  readonly lane?: Lane;
  /** high: before the agent's other queued tasks; default normal. */
  readonly priority?: "normal" | "high";
  /** refuse: throws `agent.offline`, and nothing is stored, when an agent has no live session; default queue. */
  readonly ifOffline?: "queue" | "refuse";
}

export function runRequest(options: RunOptions): { readonly request: SubmitInput; readonly submit: SubmitOptions } {
  const {
    on,
    secrets,
    queueTimeoutMs,
    unreachableLimitMs,
    lane,
    priority,
    ifOffline,
    idempotencyKey,
    traceParent,
    signal,
    interpreterArgs,
    args,
    env,
    files,
    ...plain
  } = options;
  const spec = {
    kind: "script" as const,
    ...plain,
    interpreterArgs: interpreterArgs && [...interpreterArgs],
    args: args && [...args],
    env: env && { ...env },
    files: files?.map(attachmentOf),
  };
  const listed = secrets === undefined ? {} : { secrets: secretList(secrets) };
  return {
    request: { on, spec, ...listed, queueTimeoutMs, unreachableLimitMs, lane, priority, ifOffline },
    submit: { idempotencyKey, traceParent, signal },
  };
}
