// Spawns the shim of one attempt with everything its script inherits. Leaves following it to execution.ts.
// Invariant: the spec's environment never overrides the attempt's marks, by which its processes are found.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { AppError } from "../shared/errors.ts";
import type { ScriptSpec } from "../shared/task.ts";
import type { AttemptFolder } from "./attempt-folder.ts";
import { defaultSearchPath, findInterpreter } from "./interpreters.ts";
import type { AttemptFacts } from "./journal-record.ts";
import { secretsDescriptor } from "./script-secrets.ts";
import { attemptIdVariable } from "./process-tree.ts";
import type { SpoolBounds } from "./segments.ts";

export interface ShimStartOptions {
  readonly shimPath: string;
  /** Folder of the commands that scripts may call. */
  readonly commandsPath: string;
  /** Words before the program that undo the shell's ignoring of INT and QUIT; empty where `env` cannot. */
  readonly resetSignals: string;
  /** What a stream may take of the disk. */
  readonly bounds: SpoolBounds;
  readonly agentName: string;
  /** The environment scripts inherit, already without the agent's own settings. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** Throws when the interpreter has gone; what the system refuses may also come as the child's `error` event. */
export function startShim(
  script: {
    readonly facts: AttemptFacts & { readonly spec: ScriptSpec };
    readonly path: string;
    readonly secrets?: number | undefined;
  },
  folder: AttemptFolder,
  options: ShimStartOptions,
): ChildProcess {
  const { spec, task, attempt, attemptNumber } = script.facts;
  const { shimPath, commandsPath, resetSignals, bounds, agentName, environment } = options;
  const interpreter = findInterpreter(spec.interpreter, environment["PATH"]);
  if (interpreter === undefined) throw new AppError("internal", `interpreter ${spec.interpreter} is no longer there`);
  const program = [
    interpreter.program,
    ...(spec.interpreterArgs ?? []),
    ...interpreter.args,
    script.path,
    ...spec.args,
  ];
  const sizes = [bounds.headBytes, bounds.tailBytes, bounds.segmentBytes].map(String);
  return spawn("/bin/sh", [shimPath, folder.path, spec.cwd ?? folder.work, resetSignals, ...sizes, ...program], {
    detached: true,
    stdio: script.secrets === undefined ? "ignore" : stdioWith(script.secrets),
    cwd: "/",
    env: {
      ...environment,
      PATH: `${environment["PATH"] ?? defaultSearchPath}:${commandsPath}`,
      ...spec.env,
      HOLDFAST_TASK_ID: task,
      [attemptIdVariable]: attempt,
      HOLDFAST_ATTEMPT: String(attemptNumber),
      HOLDFAST_AGENT: agentName,
      HOLDFAST_WORK: folder.work,
      HOLDFAST_OUTPUTS: folder.outputs,
      HOLDFAST_PROGRESS: folder.progress,
    },
  });
}

/** Everything ignored, and the secrets where the shim looks for them. */
function stdioWith(secrets: number): ("ignore" | number)[] {
  const nothing = Array.from({ length: secretsDescriptor }, () => "ignore" as const);
  return [...nothing, secrets];
}
