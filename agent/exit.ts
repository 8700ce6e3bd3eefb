// How a script ended by itself or by a signal: exactly one of the two is there.

export interface Exit {
  readonly exitCode: number | null;
  /** Such as `SIGKILL`. */
  readonly signal: string | null;
}
