// Puts the trace of a request into the environment of the scripts it submits. A `TRACEPARENT` of the task's own stays, and
// a task that the variable would take beyond a bound goes without: a trace is worth no refusal.
import { taskSpecSchema, type TaskSpec } from "../../shared/task.ts";
import { traceParentVariable } from "../../shared/trace-parent.ts";

export function withTrace(spec: TaskSpec, traceParent: string | undefined): TaskSpec {
  if (traceParent === undefined || spec.kind !== "script" || traceParentVariable in spec.env) return spec;
  const traced = { ...spec, env: { ...spec.env, [traceParentVariable]: traceParent } };
  return taskSpecSchema.safeParse(traced).success ? traced : spec;
}
