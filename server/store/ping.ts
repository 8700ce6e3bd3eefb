// Whether the database answers now.
import type { Sql } from "./connection.ts";

const statement = { name: "ping", text: "select 1" };

export async function pingDatabase(sql: Sql): Promise<"reachable" | "unreachable"> {
  try {
    await sql.query(statement, []);
    return "reachable";
  } catch {
    return "unreachable";
  }
}
