// Tells the homes of attempts how far their scripts say they are: looks at each about once a second and sends what has
// changed since this home was told last. Invariant: never a queue of its own and nothing behind a busy socket, so no log and
// no result waits for it; what is not told now is told when it is looked at next, the newest then.
import type { Clock } from "../shared/clock.ts";
import type { AttemptId } from "../shared/ids.ts";
import type { ProgressLine } from "../shared/progress-line.ts";
import type { FromAgent } from "../shared/wire/from-agent.ts";
import type { AttemptExecution } from "./site.ts";

/** Below a second, so that every second tick of half a second is one, whatever timers are late by. */
const pauseMs = 900;
/** As a log, it waits while so much waits behind the socket. */
const pauseAtQueued = 64;

export interface ProgressOutlet {
  send(message: FromAgent): void;
  readonly queued: number;
}

export interface ProgressHome {
  readonly outlet: ProgressOutlet;
  readonly homeNo: number;
  readonly script: Pick<AttemptExecution, "progress">;
}

interface Told extends ProgressHome {
  lookedAtMs: number;
  last: ProgressLine | undefined;
}

export class ProgressTeller {
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #homes = new Map<AttemptId, Told>();

  constructor(deps: { readonly clock: Pick<Clock, "monotonicMs"> }) {
    this.#clock = deps.clock;
  }

  /** A home that takes progress. It knows nothing yet: the newest is told to it even when another home had it. */
  attach(attempt: AttemptId, home: ProgressHome): void {
    // An earlier look counts: homes may change faster than a script may speak.
    const lookedAtMs = this.#homes.get(attempt)?.lookedAtMs ?? -Infinity;
    this.#homes.set(attempt, { ...home, lookedAtMs, last: undefined });
  }

  detach(attempt: AttemptId): void {
    this.#homes.delete(attempt);
  }

  /** Call it about twice a second. */
  look(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [attempt, home] of this.#homes) {
      if (nowMs - home.lookedAtMs < pauseMs || home.outlet.queued > pauseAtQueued) continue;
      home.lookedAtMs = nowMs;
      const progress = home.script.progress();
      if (progress === undefined || isSame(progress, home.last)) continue;
      home.last = progress;
      // One each: together in a frame, they would all wait for the log of one of them. The link joins those that need not.
      const { homeNo } = home;
      home.outlet.send({ type: "progress", items: [{ attempt, homeNo, ...progress }] });
    }
  }
}

function isSame(one: ProgressLine, other: ProgressLine | undefined): boolean {
  return other !== undefined && one.percent === other.percent && one.message === other.message;
}
