// Audit rows: actions of principals and trust events, never an attempt's transitions.
import type { Sql } from "./connection.ts";

export interface AuditEntry {
  readonly actor: string;
  readonly address: string;
  readonly action: string;
  readonly target: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

const insert = {
  name: "record-audit",
  text: "insert into audit (actor, address, action, target, detail) values ($1, $2, $3, $4, $5)",
};

export async function recordAudit(sql: Sql, entry: AuditEntry): Promise<void> {
  await sql.query(insert, [entry.actor, entry.address, entry.action, entry.target, JSON.stringify(entry.detail)]);
}
