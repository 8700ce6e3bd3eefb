// `holdfast tasks`: look at what was submitted, read its log, cancel it, give it up.
import type { Command } from "commander";
import type { TaskFilter } from "../../sdk/holdfast.ts";
import type { RunHandle } from "../../sdk/run-handle.ts";
import type { TaskView } from "../../shared/api/tasks.ts";
import { progressText } from "../../shared/progress-line.ts";
import { isFinal, streams, taskStates, type Stream } from "../../shared/task.ts";
import { openClient, type ClientOptions } from "../client.ts";
import { command, group, type CommandContext } from "../command.ts";
import { exitCodes } from "../exit-code.ts";
import { createLogPrinter, jsonLinePrinter, type LogPrinter } from "../log-printer.ts";
import { jsonOption, option, pageOptions, urlOptions } from "../option.ts";
import { printFields, printJson, printTable } from "../output.ts";
import { printMore } from "../page.ts";
import type { Shell } from "../shell.ts";
import { safeLine } from "../terminal-safe.ts";
import { watchRun } from "../watch-run.ts";

interface JsonFlag extends ClientOptions {
  readonly json?: boolean;
}

interface LogFlags extends JsonFlag {
  readonly follow?: boolean;
  readonly timestamps?: boolean;
  readonly stream: Stream | "both";
}

export function tasksCommand(context: CommandContext): Command {
  return group("tasks", {
    summary: "list, show, read, cancel and abandon tasks",
    commands: [
      listCommand(context),
      showCommand(context),
      logsCommand(context),
      cancelCommand(context),
      abandonCommand(context),
      retryCommand(context),
      topCommand(context),
    ],
    examples: [
      ["holdfast tasks list --state running", "what runs now"],
      ["holdfast tasks logs ID --follow", "a log, live"],
    ],
  });
}

function listCommand({ shell, finish }: CommandContext): Command {
  return command("list", {
    summary: "list tasks, newest first",
    options: [
      option({ flags: "--state <state>", description: "only tasks in this state", kind: "act", choices: taskStates }),
      option({ flags: "--agent <agent>", description: "only tasks of this agent (name or id)", kind: "act" }),
      ...pageOptions(),
      jsonOption(),
      ...urlOptions(),
    ],
    examples: [
      ["holdfast tasks list --agent web-01 --limit 5", "the last five of an agent"],
      ["holdfast tasks list --state failed --json", "for programs: {items, next}"],
    ],
  }).action(async ({ state, agent, limit, cursor, ...flags }: JsonFlag & TaskFilter) => {
    const page = await (await openClient(shell, flags)).tasks.list({ state, agent, limit, cursor });
    if (flags.json === true) {
      await printJson(shell.out, page);
    } else {
      await printTable(shell.out, page.items, [
        { title: "ID", cell: (task) => task.id },
        { title: "AGENT", cell: (task) => task.agent },
        { title: "STATE", cell: (task) => task.state },
        { title: "EXIT", cell: (task) => task.exitCode ?? task.signal },
        { title: "CREATED", cell: (task) => task.createdAt },
        { title: "WHAT", cell: (task) => task.spec.title },
      ]);
      await printMore(shell, page);
    }
    finish(exitCodes.done);
  });
}

function showCommand({ shell, finish }: CommandContext): Command {
  return command("show <id>", {
    summary: "show a task and its attempts",
    options: [jsonOption(), ...urlOptions()],
    examples: [["holdfast tasks show 0190b7e5-…", "state, exit code, where it runs, why it waits"]],
  }).action(async (id: string, flags: JsonFlag) => {
    const task = await (await openClient(shell, flags)).tasks.show(id);
    if (flags.json === true) await printJson(shell.out, task);
    else await printTask(shell, task);
    finish(exitCodes.done);
  });
}

function logsCommand({ shell, finish }: CommandContext): Command {
  return command("logs <id>", {
    summary: "print a task's log: standard output to standard output, standard error to standard error",
    options: [
      option({ flags: "--follow", description: "go on until the task has ended", kind: "act" }),
      option({
        flags: "--stream <stream>",
        description: "which of the two",
        kind: "act",
        choices: ["out", "err", "both"],
        fallback: { value: "both", shown: "both" },
      }),
      option({ flags: "--json", description: "print one JSON object per line of log", kind: "setting" }),
      option({
        flags: "--timestamps",
        description: "show each line behind the time its agent saw it, both streams in that order",
        kind: "setting",
      }),
      ...urlOptions(),
    ],
    examples: [
      ["holdfast tasks logs ID > log.txt", "standard output, byte for byte"],
      ["holdfast tasks logs ID --follow", "live; Ctrl-C leaves, the task goes on"],
    ],
  }).action(async (id: string, flags: LogFlags) => finish(await printLog(shell, { id, flags })));
}

async function printLog(shell: Shell, { id, flags }: { id: string; flags: LogFlags }): Promise<number> {
  const client = await openClient(shell, flags);
  const handle = await client.tasks.follow(id);
  const printer =
    flags.json === true ? jsonLinePrinter(shell.out) : createLogPrinter({ shell, sinks: shell }, handle.tasks, flags);
  if (flags.follow === true) {
    const watched = await watchRun(shell, { handle, printer: only(flags.stream, printer), onFirstInterrupt: "leave" });
    return watched.kind === "left" ? watched.exitCode : exitCodes.done;
  }
  const [task] = handle.tasks;
  if (task === undefined) return exitCodes.done;
  if (flags.timestamps === true || flags.json === true) {
    await printStored(handle, { task: await client.tasks.show(id), printer: only(flags.stream, printer) });
    await printer.end(task);
    return exitCodes.done;
  }
  for (const stream of streams.filter((one) => flags.stream === "both" || flags.stream === one)) {
    for await (const bytes of client.tasks.log(id, { stream })) {
      await printer.log({ taskId: task.id, agent: task.agent, stream, at: null, content: { bytes } });
    }
  }
  await printer.end(task);
  return exitCodes.done;
}

/** What is stored at this moment, with its times: a download would be bytes alone. */
async function printStored(
  handle: RunHandle,
  { task, printer }: { readonly task: TaskView; readonly printer: LogPrinter },
): Promise<void> {
  const { outBytes = 0, errBytes = 0 } = task.attempts.at(-1) ?? {};
  const left = isFinal(task.state) ? { out: Infinity, err: Infinity } : { out: outBytes, err: errBytes };
  if (left.out + left.err === 0) return;
  for await (const event of handle.events()) {
    if (event.kind === "end") return;
    if (event.kind !== "log") continue;
    await printer.log(event);
    left[event.stream] -= "bytes" in event.content ? event.content.bytes.length : event.content.omitted;
    if (left.out <= 0 && left.err <= 0) return;
  }
}

function only(stream: Stream | "both", printer: LogPrinter): LogPrinter {
  return {
    ...printer,
    log: async (piece) => {
      if (stream === "both" || piece.stream === stream) await printer.log(piece);
    },
  };
}

function cancelCommand({ shell, finish }: CommandContext): Command {
  return command("cancel <id>", {
    summary: "cancel a task; it is final once its agent has confirmed",
    options: [jsonOption(), ...urlOptions()],
    examples: [["holdfast tasks cancel 0190b7e5-…", "ends the whole process tree"]],
  }).action(async (id: string, flags: JsonFlag) => {
    const task = await (await openClient(shell, flags)).tasks.cancel(id);
    if (flags.json === true) await printJson(shell.out, task);
    else
      await shell.out.write(
        task.state === "cancelled" ? "cancelled\n" : "cancel recorded; the agent has to confirm it\n",
      );
    finish(exitCodes.done);
  });
}

function retryCommand({ shell, finish }: CommandContext): Command {
  return command("retry <id>", {
    summary: "try a task once more, when its latest attempt has ended",
    options: [jsonOption(), ...urlOptions()],
    examples: [["holdfast tasks retry 0190b7e5-…", "a new attempt at the same task"]],
  }).action(async (id: string, flags: JsonFlag) => {
    const task = await (await openClient(shell, flags)).tasks.retry(id);
    if (flags.json === true) await printJson(shell.out, task);
    else await shell.out.write(`attempt ${task.attempts.length} on ${safeLine(task.agent)} is ${task.state}\n`);
    finish(exitCodes.done);
  });
}

function topCommand({ shell, finish }: CommandContext): Command {
  return command("top <id>", {
    summary: "move a queued task before its agent's others",
    options: [jsonOption(), ...urlOptions()],
    examples: [["holdfast tasks top 0190b7e5-…", "it is next on its agent"]],
  }).action(async (id: string, flags: JsonFlag) => {
    const task = await (await openClient(shell, flags)).tasks.moveToTop(id);
    if (flags.json === true) await printJson(shell.out, task);
    else await shell.out.write(`it is next on ${safeLine(task.agent)}\n`);
    finish(exitCodes.done);
  });
}

function abandonCommand({ shell, finish }: CommandContext): Command {
  return command("abandon <id>", {
    summary: "give a task up without waiting for its agent; it may still run",
    options: [jsonOption(), ...urlOptions()],
    examples: [["holdfast tasks abandon 0190b7e5-…", "when a cancel is not confirmed, as by an agent that is gone"]],
  }).action(async (id: string, flags: JsonFlag) => {
    const task = await (await openClient(shell, flags)).tasks.abandon(id);
    if (flags.json === true) await printJson(shell.out, task);
    else
      await shell.out.write(
        task.state === "abandoned"
          ? `abandoned; it may still run on ${safeLine(task.agent)}, which is asked to cancel it\n`
          : `${task.state}\n`,
      );
    finish(exitCodes.done);
  });
}

/** Of a task that has ended it says nothing any more. */
function progressField({ state, attempts }: TaskView): [string, string][] {
  const progress = attempts.at(-1)?.progress ?? null;
  return progress === null || isFinal(state) ? [] : [["progress", `${progressText(progress)} (${progress.at})`]];
}

async function printTask(shell: Shell, task: TaskView): Promise<void> {
  await printFields(shell.out, [
    ["id", task.id],
    ["submission", task.submission],
    ["agent", task.agent],
    ["what", task.spec.title],
    ["state", task.state],
    ...progressField(task),
    ["reason", task.reason],
    ["waiting", task.waiting],
    ["cancel requested", task.cancelRequested ? "yes" : "no"],
    ["home", task.home],
    ["exit code", task.exitCode],
    ["signal", task.signal],
    ["created", task.createdAt],
    ["finished", task.finishedAt],
  ]);
  await shell.out.write("\n");
  await printTable(shell.out, task.attempts, [
    { title: "ATTEMPT", cell: (attempt) => attempt.number },
    { title: "STATE", cell: (attempt) => attempt.state },
    { title: "EXIT", cell: (attempt) => attempt.exitCode ?? attempt.signal },
    { title: "HOME", cell: (attempt) => attempt.home },
    { title: "OFFERS", cell: (attempt) => attempt.offers },
    { title: "STARTED", cell: (attempt) => attempt.startedAt },
    { title: "FINISHED", cell: (attempt) => attempt.finishedAt },
    { title: "OUT", cell: (attempt) => attempt.outBytes },
    { title: "ERR", cell: (attempt) => attempt.errBytes },
    { title: "REASON", cell: (attempt) => attempt.reason },
  ]);
  const outputs = task.attempts.flatMap(({ number, outputs: set = {} }) =>
    Object.entries(set).map(([name, value]) => ({ number, name, value })),
  );
  if (outputs.length > 0) {
    await shell.out.write("\nOutput variables:\n");
    await printTable(shell.out, outputs, [
      { title: "ATTEMPT", cell: (output) => output.number },
      { title: "NAME", cell: (output) => output.name },
      { title: "VALUE", cell: (output) => output.value },
    ]);
  }
  const late = task.attempts.flatMap((attempt) =>
    attempt.lateResults.map((result) => ({ ...result, attempt: attempt.number })),
  );
  if (late.length === 0) return;
  await shell.out.write("\nResults that came too late to count:\n");
  await printTable(shell.out, late, [
    { title: "ATTEMPT", cell: (result) => result.attempt },
    { title: "OUTCOME", cell: (result) => result.outcome },
    { title: "EXIT", cell: (result) => result.exitCode ?? result.signal },
    { title: "RECEIVED", cell: (result) => result.receivedAt },
    { title: "REASON", cell: (result) => result.reason },
  ]);
}
