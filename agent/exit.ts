// How a script ended by itself or by a signal: exactly one of the two is there.

export interface Exit {
  readonly exitCode: number | null;
  /** Such as `SIGKILL`. */
  readonly signal: string | null;
}

/** Why an agent ends a script. */
export type EndCause = "cancelled" | "timed-out";

/** An exit as it is found on disk. */
export interface SeenExit extends Exit {
  /** The agent, this process or an earlier one, had begun to end the script for this when it was still running. */
  readonly endedFor?: EndCause | undefined;
}
