// Brings the schema to this version: numbered SQL files, each once, under one transaction-scoped advisory lock.
// A schema newer than this server knows is refused: a node never writes rows it does not understand.
import { readdir, readFile } from "node:fs/promises";
import { z } from "zod";
import { AppError } from "../../shared/errors.ts";
import type { Database, Sql } from "./connection.ts";

const folder = new URL("./migrations/", import.meta.url);
const lockKey = 7_305_511_902_004;

interface Migration {
  readonly version: number;
  readonly file: string;
}

/** Applies what is missing; answers the schema's version. Throws `database.schema` when the schema is newer. */
export async function migrate(database: Database): Promise<number> {
  const known = await migrations();
  const newest = known.at(-1)?.version ?? 0;
  return database.transaction(async (sql) => {
    // Another node may be at it: wait for it as long as one statement may take, not for the 2 s of a row lock.
    await sql.query({ name: "", text: "set local lock_timeout = 0" }, []);
    await sql.query({ name: "", text: "select pg_advisory_xact_lock($1)" }, [lockKey]);
    await sql.query({ name: "", text: "set local lock_timeout = '2s'" }, []);
    await sql.query(
      {
        name: "",
        text: "create table if not exists schema_version (version int primary key, file text not null, at timestamptz not null default now())",
      },
      [],
    );
    const applied = await appliedVersions(sql);
    const highest = Math.max(0, ...applied);
    if (highest > newest) {
      throw new AppError(
        "database.schema",
        `the database has schema version ${highest}; this server knows versions up to ${newest}`,
      );
    }
    for (const { version, file } of known.filter((migration) => !applied.includes(migration.version))) {
      await sql.query({ name: "", text: await readFile(new URL(file, folder), "utf8") }, []);
      await sql.query({ name: "", text: "insert into schema_version (version, file) values ($1, $2)" }, [
        version,
        file,
      ]);
    }
    return newest;
  });
}

async function migrations(): Promise<Migration[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith(".sql")).sort();
  return files.map((file) => ({ version: Number.parseInt(file, 10), file }));
}

async function appliedVersions(sql: Sql): Promise<number[]> {
  const rows = await sql.query({ name: "", text: "select version from schema_version" }, []);
  return z
    .array(z.object({ version: z.int() }))
    .parse(rows)
    .map((row) => row.version);
}
