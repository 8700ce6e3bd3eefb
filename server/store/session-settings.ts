// What every statement needs of its session, and how it gets that: once at the start of a connection to PostgreSQL itself,
// or with each transaction behind a pooler (PgBouncer in transaction mode), where a session is another client's in between.
// Invariant: a durable statement never runs under `synchronous_commit = off` that somebody set in the session.
import { errnoOf } from "../../shared/errors.ts";

export type Durability = "durable" | "relaxed";

/** `own`: the session is this connection's alone, as started. `pooled`: it is not, or was not started as asked. */
export type SessionKind = "own" | "pooled";

/** PostgreSQL keeps any value of a name with a dot; a pooler that drops, filters or rewrites settings cannot know it. */
const marker = "holdfast.session";

/** Limits in ms. Without sequential scans: a plan made for an empty table must not read a full one. */
function settings(statementTimeoutMs: number): readonly (readonly [name: string, value: string])[] {
  return [
    ["statement_timeout", String(statementTimeoutMs)],
    ["lock_timeout", "2000"],
    ["idle_in_transaction_session_timeout", "10000"],
    ["enable_seqscan", "off"],
    // SECURITY S13: values of a statement that failed stay out of its log. The one for all statements is a superuser's.
    ["log_parameter_max_length_on_error", "0"],
  ];
}

/** For the startup packet. */
export function startupOptions(durability: Durability, statementTimeoutMs: number): string {
  const all = [...settings(statementTimeoutMs), [marker, "own"] as const];
  if (durability === "relaxed") all.push(["synchronous_commit", "off"]);
  return all.map(([name, value]) => `-c ${name}=${value}`).join(" ");
}

/**
 * What a transaction begins with; one round trip. Behind a pooler whatever another client may have left in the session is
 * set for this transaction only: `default` is what role, database and configuration say, for instance `remote_apply`.
 */
export function openingOf(session: SessionKind, durability: Durability, statementTimeoutMs: number): string {
  if (session === "own") return "begin";
  const all = [
    ...settings(statementTimeoutMs),
    ["synchronous_commit", durability === "relaxed" ? "off" : "default"],
    ["search_path", "default"],
  ];
  return [
    "begin isolation level read committed read write",
    ...all.map(([name, value]) => `set local ${name} = ${value}`),
  ].join("; ");
}

/** Asked once of each host: no row from a standby, else whether the session was started as asked. */
export const judgeSession = {
  text: `select current_setting('${marker}', true) is not distinct from 'own' as own where not pg_is_in_recovery()`,
  verdict(rows: readonly unknown[]): SessionKind | "standby" {
    const [row] = rows;
    if (typeof row !== "object" || row === null || !("own" in row)) return "standby";
    return row.own === true ? "own" : "pooled";
  },
};

/** PgBouncer refuses a startup packet with settings it does not know, with a protocol violation, unless told to ignore them. */
export function refusesOptions(cause: unknown): boolean {
  return errnoOf(cause) === "08P01";
}
