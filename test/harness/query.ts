// One statement on a connection of its own: what a test must see or move in the database itself.
import { Client, type QueryResultRow } from "pg";

export async function queryRows(
  url: string,
  text: string,
  values: readonly unknown[] = [],
): Promise<readonly QueryResultRow[]> {
  const client = new Client({ connectionString: url });
  // A server that dies under it: the query rejects by itself, and between two there is nothing to say.
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await client.query<QueryResultRow>(text, [...values])).rows;
  } finally {
    await client.end();
  }
}
