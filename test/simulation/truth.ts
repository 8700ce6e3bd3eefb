// Ground truth: what scripts and clients themselves know to have happened, whatever any node, agent or database says.
// Written by the machines' scripts and the clients, read by the invariants.
import type { AgentId, AttemptId, SubmissionId, TaskId } from "../../shared/ids.ts";
import type { EndCause, Exit } from "../../agent/exit.ts";
import type { Stream } from "../../shared/task.ts";

export interface ScriptTruth {
  readonly attempt: AttemptId;
  readonly machine: string;
  /** When each start happened. */
  readonly startsMs: number[];
  readonly produced: Record<Stream, number>;
  /** The exit that became visible in the folder. */
  exit: Exit | undefined;
  exitAtMs: number;
  /** The script or a child of it lives. */
  isAlive: boolean;
  /** Somebody signalled it before it ended by itself. */
  wasSignalled: boolean;
  /** For what an agent began to end it while it ran. */
  endedFor: EndCause | undefined;
  /** It ran when that was written. */
  wasRunningThen: boolean;
  /** Part of its output was punched out: what the digest covers depends on what had been sent by then. */
  isPunched: boolean;
  /** The machine lost its power or its disk after the start: what was not synced may be gone. */
  wasCutShort: boolean;
}

export interface Acked {
  readonly key: string;
  readonly submission: SubmissionId | string;
  readonly tasks: readonly TaskId[];
}

export class Truth {
  readonly scripts = new Map<AttemptId, ScriptTruth>();
  /** Keys clients ever sent. */
  readonly invoked = new Set<string>();
  readonly acked = new Map<string, Acked>();
  /** Attempts of which a failover or a lost disk may have taken what promises rest on, and why. */
  readonly excused = new Map<AttemptId, string>();
  /** Keys whose submission a failover took. */
  readonly excusedKeys = new Set<string>();
  /** Attempts whose shim something killed, or that lost their gate to an agent that died before it said so. */
  readonly hindered = new Set<AttemptId>();
  /** Agents that cannot come back by themselves, and why. */
  readonly stranded = new Map<AgentId, string>();

  script(attempt: AttemptId, machine: string): ScriptTruth {
    let found = this.scripts.get(attempt);
    if (found === undefined) {
      found = {
        attempt,
        machine,
        startsMs: [],
        produced: { out: 0, err: 0 },
        exit: undefined,
        exitAtMs: 0,
        isAlive: false,
        wasSignalled: false,
        endedFor: undefined,
        wasRunningThen: false,
        isPunched: false,
        wasCutShort: false,
      };
      this.scripts.set(attempt, found);
    }
    return found;
  }
}
