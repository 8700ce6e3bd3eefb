// `holdfast run`: the everyday act. Submits, shows the log live, and exits with the script's own code.
import type { Command } from "commander";
import { outputsOf, type RunHandle } from "../../sdk/run-handle.ts";
import { queueTimeoutBounds } from "../../shared/api/submissions.ts";
import type { TaskView } from "../../shared/api/tasks.ts";
import { AppError } from "../../shared/errors.ts";
import { isolationModes, isolationSchema, type Isolation } from "../../shared/task.ts";
import { isTraceParent, traceParentSchema, traceParentVariable } from "../../shared/trace-parent.ts";
import { readAttachments } from "../attachments.ts";
import { openClient, type ClientOptions } from "../client.ts";
import { command, type CommandContext } from "../command.ts";
import { exitCodeOfInterrupt, exitCodeOfRun, exitCodes } from "../exit-code.ts";
import { createLogPrinter } from "../log-printer.ts";
import { durationOption, jsonOption, option, parseCount, urlOptions } from "../option.ts";
import { note, printError, printJson, printTable } from "../output.ts";
import { parseEnvironment } from "../pairs.ts";
import type { Interrupt, Shell } from "../shell.ts";
import { scriptOf, scriptOptions, type ScriptFlags } from "../script-options.ts";
import { parseSize } from "../size.ts";
import { readTaskSecrets } from "../task-secrets.ts";
import { watchRun } from "../watch-run.ts";

interface RunFlags extends ClientOptions, ScriptFlags {
  readonly on?: readonly string[];
  readonly timeout?: number;
  readonly grace?: number;
  readonly memory?: number;
  readonly pids?: number;
  readonly isolation?: Isolation["mode"];
  readonly lock?: string;
  readonly lockWait?: number;
  readonly queueTimeout?: number;
  readonly wait?: number | false;
  readonly highPriority?: boolean;
  readonly idempotencyKey?: string;
  readonly traceparent?: string;
  readonly detach?: boolean;
  readonly timestamps?: boolean;
  readonly logRate?: number;
  readonly json?: boolean;
}

export function runCommand({ shell, finish }: CommandContext): Command {
  const made = command("run [words...]", {
    summary: "run a script on agents, with its log live; the script's exit code becomes the command's",
    options: [
      option({
        flags: "--on <selector>",
        description: "agents: names (web-01,web-02), labels (role=web,!canary) or '*'",
        kind: "act",
        repeatable: "repeatable",
      }),
      ...scriptOptions(),
      durationOption({
        flags: "--timeout <duration>",
        description: "run time limit (server's default: 1h)",
        kind: "setting",
      }),
      durationOption({
        flags: "--grace <duration>",
        description: "between TERM and KILL on time-out and cancel (server's default: 10s)",
        kind: "setting",
      }),
      option({
        flags: "--memory <size>",
        description: "what the script and all it starts may take, such as 512M; beyond, the kernel kills it",
        kind: "act",
        parse: parseSize,
      }),
      option({
        flags: "--pids <count>",
        description: "processes and threads that the script and all it starts may be at once",
        kind: "act",
        parse: parseCount,
      }),
      option({
        flags: "--log-rate <size>",
        description: "what each stream may send in a second, such as 64K; the agent keeps head and tail of the rest",
        kind: "act",
        parse: parseSize,
      }),
      option({
        flags: "--timestamps",
        description: "show each line behind the time its agent saw it",
        kind: "setting",
      }),
      option({
        flags: "--isolation <mode>",
        description: "full: alone under its lock on each agent; none: beside others of mode none (default)",
        kind: "act",
        choices: isolationModes,
      }),
      option({ flags: "--lock <name>", description: "name of the isolation lock (default: default)", kind: "act" }),
      durationOption({
        flags: "--lock-wait <duration>",
        description: "end as timed out when an agent that took it has not had the lock for it after this long",
        kind: "act",
      }),
      durationOption({
        flags: "--queue-timeout <duration>",
        description: "expire when still queued after this long (server's default: 24h)",
        kind: "setting",
      }),
      durationOption({
        flags: "--wait <duration>",
        description: "expire when no agent has taken it after this long: --queue-timeout for this once",
        kind: "act",
      }),
      option({
        flags: "--no-wait",
        description: "fail at once, and store nothing, when an agent is offline",
        kind: "act",
      }),
      option({ flags: "--high-priority", description: "before the agents' other queued tasks", kind: "act" }),
      option({
        flags: "--idempotency-key <key>",
        description: "submitting again under the same key gives the same tasks",
        kind: "act",
      }),
      option({
        flags: "--traceparent <value>",
        description: "W3C trace the script belongs to, its TRACEPARENT (else that of the command's own environment)",
        kind: "act",
      }),
      option({ flags: "--detach", description: "print the task ids and do not wait", kind: "act" }),
      jsonOption(),
      ...urlOptions(),
    ],
    examples: [
      ["holdfast run --on web-01 -- 'uname -a; exit 3'", "one agent; exits 3"],
      ["holdfast run --on role=web --script ./deploy.sh --env K=V --timeout 10m", "every agent with the label"],
      ["holdfast run --on '*' --script - < check.sh", "script from standard input"],
      [
        "holdfast run --on db-7 --script ./dump.sh --secret PGPASSWORD=file://./pw",
        "masked in the log, never stored in plain",
      ],
    ],
  });
  // They share a name, so of both only the last is left in the flags, and the script would wait or not by their order.
  const waits = new Set<string>();
  for (const name of ["wait", "no-wait"]) made.on(`option:${name}`, () => void waits.add(name));
  return made.action(async (words: string[], flags: RunFlags) => {
    if (waits.size > 1) {
      throw new AppError("config.invalid", "--wait and --no-wait contradict each other", {
        mend: "Give --wait with a duration, or --no-wait to fail at once when an agent is offline.",
      });
    }
    finish(await run(shell, { words, flags }));
  });
}

interface Run {
  readonly words: readonly string[];
  readonly flags: RunFlags;
}

async function run(shell: Shell, { words, flags }: Run): Promise<number> {
  const targets = flags.on ?? [];
  if (targets.length === 0) {
    throw new AppError("config.invalid", "it is not said on which agents to run", {
      mend: "Give --on with names (web-01), labels (role=web) or '*'.",
    });
  }
  const queueTimeoutMs = queueTimeoutOf(flags);
  const traceParent = traceParentOf(shell, flags);
  const { script, args } = await scriptOf(shell, { words, flags });
  const files = await readAttachments(shell, flags.attach);
  const { secrets, exposed } = await readTaskSecrets(shell, flags);
  if (exposed.length > 0)
    await note(
      shell,
      `${exposed.join(", ")}: a secret on the command line can be read by others here; use file://, env:// or -`,
    );
  const client = await openClient(shell, flags);
  const submitting = interruptible(shell);
  let handle: RunHandle;
  try {
    handle = await client.run({
      on: targets.join(","),
      script,
      args,
      interpreter: flags.interpreter,
      interpreterArgs: flags.interpreterArg,
      env: parseEnvironment(flags.env ?? []),
      ...(secrets.length === 0 ? {} : { secrets }),
      cwd: flags.cwd,
      user: flags.user,
      ...(files.length === 0 ? {} : { files }),
      timeoutMs: flags.timeout,
      graceMs: flags.grace,
      memoryBytes: flags.memory,
      pids: flags.pids,
      logBytesPerSecond: flags.logRate,
      isolation: isolationOf(flags),
      queueTimeoutMs,
      ...(flags.wait === false ? { ifOffline: "refuse" as const } : {}),
      ...(flags.highPriority === true ? { priority: "high" as const } : {}),
      idempotencyKey: flags.idempotencyKey,
      traceParent,
      signal: submitting.signal,
    });
  } catch (cause) {
    if (submitting.pressed !== undefined) return exitCodeOfInterrupt(submitting.pressed);
    throw cause;
  } finally {
    submitting.release();
  }
  return flags.detach === true ? detach(shell, { handle, flags }) : follow(shell, { handle, flags });
}

async function detach(shell: Shell, { handle, flags }: { handle: RunHandle; flags: RunFlags }): Promise<number> {
  if (flags.json === true)
    await printJson(shell.out, { submission: handle.id, repeated: handle.repeated, tasks: handle.tasks });
  else await shell.out.write(handle.tasks.map((task) => `${task.id}  ${task.agent}\n`).join(""));
  return exitCodes.done;
}

async function follow(shell: Shell, { handle, flags }: { handle: RunHandle; flags: RunFlags }): Promise<number> {
  // With --json, standard output holds one JSON value and nothing else: the live log moves to standard error.
  const sinks = flags.json === true ? { out: shell.err, err: shell.err } : { out: shell.out, err: shell.err };
  const printer = createLogPrinter({ shell, sinks }, handle.tasks, flags);
  let tasks: readonly TaskView[];
  try {
    const watched = await watchRun(shell, { handle, printer, onFirstInterrupt: "cancel" });
    if (watched.kind === "left") {
      await note(shell, `left; look again with \`holdfast tasks show ${handle.tasks[0]?.id ?? handle.id}\``);
      return watched.exitCode;
    }
    tasks = await handle.results();
  } catch (cause) {
    // The script was handed over, so no code that says "nothing was started" may come out.
    await printError(shell, AppError.from(cause), flags.json === true ? "json" : "text");
    await note(shell, `the outcome is not known here: ${handle.tasks.map((task) => task.id).join(" ")}`);
    return exitCodes.lost;
  }
  await report(shell, { handle, flags, tasks });
  return exitCodeOfRun(tasks);
}

async function report(
  shell: Shell,
  run: { handle: RunHandle; flags: RunFlags; tasks: readonly TaskView[] },
): Promise<void> {
  const { handle, flags, tasks } = run;
  const [only] = tasks;
  if (flags.json === true) {
    const outcome =
      only !== undefined && tasks.length === 1
        ? only.state
        : tasks.every((task) => task.state === "succeeded")
          ? "succeeded"
          : "failed";
    const single = tasks.length === 1 ? only : undefined;
    const { exitCode = null, signal = null, reason = null } = single ?? {};
    const outputs = single === undefined ? {} : outputsOf(single);
    await printJson(shell.out, { submission: handle.id, outcome, exitCode, signal, reason, outputs, tasks });
    return;
  }
  if (only !== undefined && tasks.length === 1) {
    if (only.state !== "succeeded" && only.exitCode === null) await note(shell, `${describe(only)} (task ${only.id})`);
    else if (only.reason?.includes("outputs-dropped") === true) await note(shell, `${only.reason} (task ${only.id})`);
    return;
  }
  await printTable(shell.out, tasks, [
    { title: "AGENT", cell: (task) => task.agent },
    { title: "STATE", cell: (task) => task.state },
    { title: "EXIT", cell: (task) => task.exitCode ?? task.signal },
    { title: "REASON", cell: (task) => task.reason },
    { title: "TASK", cell: (task) => task.id },
  ]);
}

/** Absent when nothing is asked for, so that agents of before isolation run it as they always did. */
function isolationOf({ isolation: mode, lock: name, lockWait: waitMs }: RunFlags): Isolation | undefined {
  if (mode === undefined && name === undefined && waitMs === undefined) return undefined;
  const parsed = isolationSchema.safeParse({ name, mode, waitMs });
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const flag = { name: "--lock", mode: "--isolation", waitMs: "--lock-wait" }[String(issue?.path[0])] ?? "--lock";
  throw new AppError("config.invalid", `${flag}: ${issue?.message ?? "invalid"}`);
}

/** Judged here, where the option has its name; the server would speak of a field of its own. */
function queueTimeoutOf({ wait, queueTimeout }: RunFlags): number | undefined {
  const [name, ms] = typeof wait === "number" ? ["--wait", wait] : ["--queue-timeout", queueTimeout];
  if (ms === undefined || (ms >= queueTimeoutBounds.leastMs && ms <= queueTimeoutBounds.mostMs)) return ms;
  throw new AppError("config.invalid", `${name}: expected 1s to 30d`, {
    mend: "To fail at once when an agent is offline, give --no-wait.",
  });
}

/** What was asked for has to be right; what happens to be in the environment is taken when it is. */
function traceParentOf(shell: Shell, { traceparent }: RunFlags): string | undefined {
  const inherited = shell.environment[traceParentVariable];
  if (traceparent === undefined) return isTraceParent(inherited) ? inherited : undefined;
  const parsed = traceParentSchema.safeParse(traceparent);
  if (parsed.success) return parsed.data;
  throw new AppError("config.invalid", `--traceparent: ${parsed.error.issues[0]?.message ?? "not allowed"}`);
}

function describe(task: TaskView): string {
  const why = task.reason === null || task.reason === "" ? "" : `: ${task.reason}`;
  // The signal alone says it, unless something more is known: that memory ran out, that output was lost.
  const more = task.reason === "signal" ? "" : why;
  if (task.signal !== null && task.state === "failed")
    return `the script on ${task.agent} ended by ${task.signal}${more}`;
  if (task.state === "lost" || task.state === "abandoned")
    return `the task on ${task.agent} is ${task.state}${why}; its outcome is unknown and it may still run`;
  return `the task on ${task.agent} is ${task.state}${why}`;
}

/** Until the submission is answered, one Ctrl-C is enough. */
function interruptible(shell: Shell): {
  readonly signal: AbortSignal;
  readonly pressed: Interrupt | undefined;
  release(): void;
} {
  const stop = new AbortController();
  let pressed: Interrupt | undefined;
  const release = shell.onInterrupt((signal) => {
    pressed = signal;
    stop.abort();
  });
  return {
    signal: stop.signal,
    get pressed() {
      return pressed;
    },
    release,
  };
}
