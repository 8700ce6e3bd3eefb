// Exit codes (CONVENTIONS): the script's own where it has one, codes of 200 and up where it has none.
import { constants } from "node:os";
import type { TaskView } from "../shared/api/tasks.ts";
import { errorRows, type AppError } from "../shared/errors.ts";
import type { Interrupt } from "./shell.ts";

export const exitCodes = {
  done: 0,
  failed: 1,
  usage: 2,
  unreachable: 69,
  denied: 77,
  needsPerson: 78,
  timedOut: 124,
  lost: 200,
  expired: 201,
  cancelled: 202,
  interrupted: 203,
  refused: 204,
} as const;

type Ended = Pick<TaskView, "state" | "exitCode" | "signal">;

export function exitCodeOfTask(task: Ended): number {
  switch (task.state) {
    case "succeeded":
      return exitCodes.done;
    case "failed":
      if (task.exitCode !== null && task.exitCode !== 0) return task.exitCode;
      return task.signal === null ? exitCodes.failed : 128 + signalNumber(task.signal);
    case "timed-out":
      return exitCodes.timedOut;
    case "cancelled":
      return exitCodes.cancelled;
    case "interrupted":
      return exitCodes.interrupted;
    case "refused":
      return exitCodes.refused;
    case "expired":
      return exitCodes.expired;
    case "lost":
    case "abandoned":
    case "queued":
    case "offered":
    case "accepted":
    case "running":
      return exitCodes.lost;
  }
}

/** One agent: its script's code. Several: 0 when all succeeded, else 1. */
export function exitCodeOfRun(tasks: readonly Ended[]): number {
  const [first] = tasks;
  if (first !== undefined && tasks.length === 1) return exitCodeOfTask(first);
  return tasks.every((task) => task.state === "succeeded") ? exitCodes.done : exitCodes.failed;
}

export function exitCodeOfError(error: AppError): number {
  return errorRows[error.code].exitCode;
}

export function exitCodeOfInterrupt(signal: Interrupt): number {
  return 128 + signalNumber(signal);
}

function signalNumber(name: string): number {
  const numbers: Readonly<Record<string, number>> = constants.signals;
  return numbers[name] ?? 0;
}
