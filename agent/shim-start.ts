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
import type { RunAs } from "./script-users.ts";
import type { SpoolBounds } from "./segments.ts";
import { userEntry, userEnvironment } from "./user-environment.ts";

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

const markNames = [
  "HOLDFAST_TASK_ID",
  attemptIdVariable,
  "HOLDFAST_ATTEMPT",
  "HOLDFAST_AGENT",
  "HOLDFAST_WORK",
  "HOLDFAST_OUTPUTS",
  "HOLDFAST_PROGRESS",
] as const;
type MarkName = (typeof markNames)[number];

/** Throws when the interpreter has gone; what the system refuses may also come as the child's `error` event. */
export function startShim(
  script: {
    readonly facts: AttemptFacts & { readonly spec: ScriptSpec };
    readonly path: string;
    readonly secrets?: number | undefined;
    /** With it `secrets` holds the spec's environment as well. */
    readonly runAs?: RunAs | undefined;
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
  const cwd = spec.cwd ?? folder.work;
  const { runAs } = script;
  // A named user's own shell undoes it, for nothing of the script's is to start before the user has changed.
  const reset = resetSignals.split(" ").filter((word) => word !== "");
  const words =
    runAs === undefined ? program : [...runAs.words, "/bin/sh", "-c", userEntry, "sh", cwd, ...reset, ...program];
  const shimReset = runAs === undefined ? resetSignals : "";
  const marks: Readonly<Record<MarkName, string>> = {
    HOLDFAST_TASK_ID: task,
    [attemptIdVariable]: attempt,
    HOLDFAST_ATTEMPT: String(attemptNumber),
    HOLDFAST_AGENT: agentName,
    HOLDFAST_WORK: folder.work,
    HOLDFAST_OUTPUTS: folder.outputs,
    HOLDFAST_PROGRESS: folder.progress,
  };
  const inherited = runAs === undefined ? environment : userEnvironment(environment, runAs.account);
  // A named user goes there by its own right: root may have none, on a network's file system say.
  const shimCwd = runAs === undefined ? cwd : folder.path;
  return spawn("/bin/sh", [shimPath, folder.path, shimCwd, shimReset, ...sizes, ...words], {
    detached: true,
    stdio: script.secrets === undefined ? "ignore" : stdioWith(script.secrets),
    cwd: "/",
    env: {
      ...inherited,
      PATH: `${environment["PATH"] ?? defaultSearchPath}:${commandsPath}`,
      ...(runAs === undefined ? spec.env : {}),
      ...marks,
    },
  });
}

/** What a script that runs as a user of its own is given once it is that user; the attempt's marks are no part of it. */
export function taskVariables(spec: ScriptSpec): [string, string][] {
  return Object.entries(spec.env).filter(([name]) => !markNames.some((mark) => mark === name));
}

/** Everything ignored, and the secrets where the shim looks for them. */
function stdioWith(secrets: number): ("ignore" | number)[] {
  const nothing = Array.from({ length: secretsDescriptor }, () => "ignore" as const);
  return [...nothing, secrets];
}
