// What must be looked up outside the core before an offer is decided: age, free space, interpreter, working
// directory, limits, user.
import { statSync } from "node:fs";
import type { ScriptSpec } from "../shared/task.ts";
import type { OfferItem } from "../shared/wire/offer.ts";
import type { Controller } from "./cgroup-layout.ts";
import { attachedBytes } from "../shared/attachment.ts";
import { findInterpreter } from "./interpreters.ts";
import type { Admission } from "./roster-event.ts";
import type { UserRequest } from "./script-users.ts";

/** Free space below which offers are refused `disk-full`, when nothing else is set. */
export const defaultFreeBytesAtLeast = 32 * 1024 * 1024;

export interface AdmissionFacts {
  readonly freeBytes: number;
  readonly freeBytesAtLeast: number;
  /** How long the process may have stood still before it read the offer, in boot time (suspend counts). */
  readonly stoodMs: number;
  readonly searchPath: string | undefined;
  /** Why it does not, where it does not. */
  readonly updateLack: () => string;
  /** Whether the host lets the agent set such a limit. */
  readonly canLimit: (controller: Controller) => boolean;
  /** Whether the script can run as the user it names. */
  readonly judgeUser: (request: UserRequest) => Admission;
}

/** A gap that means the process or the whole machine stood still, not just a busy moment. */
const frozenMs = 2_000;

export function admitOffer(offer: OfferItem, facts: AdmissionFacts): Admission {
  // A frame that waited in the socket while the machine slept is as old as that sleep.
  if (facts.stoodMs > frozenMs && facts.stoodMs > offer.startWindowMs)
    return { kind: "later", reason: "window-passed" };
  const { spec } = offer;
  if (spec.kind === "no-op") return { kind: "ok" };
  // One that can be done here came as a script (update/task.ts).
  if (spec.kind === "update") {
    const detail = `this agent does not update itself: ${facts.updateLack()}`.slice(0, 1_024);
    return { kind: "never", refusal: { reason: "unsupported", detail } };
  }
  // The spec is written twice: into the journal and as the files of the script.
  const given = Buffer.byteLength(spec.script) + attachedBytes(spec.files ?? []);
  const needed = facts.freeBytesAtLeast + 2 * given;
  if (facts.freeBytes < needed) {
    return { kind: "later", reason: "disk-full", detail: `${facts.freeBytes} bytes are free, ${needed} are needed` };
  }
  const interpreter = findInterpreter(spec.interpreter, facts.searchPath);
  if (interpreter === undefined) {
    const detail = `${spec.interpreter} is neither a known interpreter on PATH nor an executable file`;
    return { kind: "never", refusal: { reason: "interpreter-missing", detail: detail.slice(0, 1_024) } };
  }
  if (spec.cwd !== undefined && !isDirectory(spec.cwd)) {
    const detail = "the working directory must be an absolute path to a folder that is there";
    return { kind: "never", refusal: { reason: "invalid", detail } };
  }
  const unkept = unkeepable(spec, facts);
  if (unkept.length > 0) {
    const detail = `this host lets the agent set no limit of ${unkept.join(" and ")}`;
    return { kind: "never", refusal: { reason: "unsupported", detail } };
  }
  if (spec.user === undefined) return { kind: "ok" };
  return facts.judgeUser({ user: spec.user, program: interpreter.program, cwd: spec.cwd });
}

function unkeepable(spec: ScriptSpec, { canLimit }: AdmissionFacts): Controller[] {
  const wanted = { memory: spec.memoryBytes, pids: spec.pids };
  return (["memory", "pids"] as const).filter((one) => wanted[one] !== undefined && !canLimit(one));
}

function isDirectory(path: string): boolean {
  try {
    return path.startsWith("/") && statSync(path).isDirectory();
  } catch {
    return false;
  }
}
