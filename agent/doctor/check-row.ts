// The form of one check of doctor: what was looked at, how it stands, what was seen and what mends it.
// Invariant: what warns or fails has a mend; names and statuses never change their meaning, for programs read them.

/** In the order of the report. */
export const checkNames = [
  "environment",
  "configuration",
  "data-directory",
  "rights",
  "agent",
  "identity",
  "certificate",
  "journal",
  "disk",
  "inodes",
  "reserve",
  "control-groups",
  "interpreters",
  "proxy",
  "node",
  "clock",
] as const;
export type CheckName = (typeof checkNames)[number];

/** `info`: worth knowing, neither good nor bad. `warn`: work goes on, but not for ever or not with all nodes. */
export type CheckStatus = "pass" | "info" | "warn" | "fail";

export interface CheckRow {
  readonly check: CheckName;
  /** Which one where a check has several rows: a file, a node and its address. */
  readonly subject: string | null;
  readonly status: CheckStatus;
  readonly seen: string;
  /** Empty for `pass` and `info`. */
  readonly mend: string;
  /** The same in fields; which ones, docs/operations.md says per check. */
  readonly detail: Readonly<Record<string, unknown>>;
}

interface Seen {
  readonly subject?: string;
  readonly seen: string;
  readonly detail?: CheckRow["detail"];
}

const row = (check: CheckName, status: CheckStatus, given: Seen & { readonly mend?: string }): CheckRow => ({
  check,
  subject: given.subject ?? null,
  status,
  seen: given.seen,
  mend: given.mend ?? "",
  detail: given.detail ?? {},
});

export const passed = (check: CheckName, given: Seen): CheckRow => row(check, "pass", given);
export const noted = (check: CheckName, given: Seen): CheckRow => row(check, "info", given);
export const warned = (check: CheckName, given: Seen & { readonly mend: string }): CheckRow =>
  row(check, "warn", given);
export const failed = (check: CheckName, given: Seen & { readonly mend: string }): CheckRow =>
  row(check, "fail", given);
