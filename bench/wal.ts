// What PostgreSQL wrote to its log between two moments, by what it was for: table or index, and kind of record. Read with
// pg_walinspect, which the embedded binaries have; a superuser's work. Full page images are told apart, for how many there
// are depends on when the last checkpoint was.
import { Client } from "pg";
import { z } from "zod";

/** Of one table or index. Bytes are those of records, without full page images. */
export interface Written {
  readonly relation: string;
  readonly record: string;
  readonly records: number;
  readonly bytes: number;
}

export interface Wal {
  /** All of it, without full page images; what no relation has (commits, alignment) as well. */
  readonly bytes: number;
  readonly fullPageBytes: number;
  /** Pages of any relation that were changed: what would be written in full at most, after a checkpoint. */
  readonly pages: number;
  readonly written: readonly Written[];
}

const markRow = z.tuple([z.object({ lsn: z.string() })]);
const sumRow = z.tuple([z.object({ bytes: z.number(), full: z.number(), pages: z.number() })]);
const writtenRows = z.array(
  z.object({ filenode: z.string(), record: z.string(), records: z.number(), bytes: z.number() }),
);
const nameRows = z.array(z.object({ filenode: z.string(), name: z.string() }));

// A record that changes several pages has a row for each.
const blocks = `b as materialized (
  select start_lsn, relfilenode, relblocknumber, resource_manager || ' ' || record_type as record, record_length, block_fpi_length as full_length
  from pg_get_wal_block_info($1::pg_lsn, $2::pg_lsn, false))`;
const sums = `with ${blocks}
  select ($2::pg_lsn - $1::pg_lsn - coalesce(sum(full_length), 0))::float8 as bytes, coalesce(sum(full_length), 0)::float8 as full,
    count(distinct (relfilenode, relblocknumber))::float8 as pages from b`;
const byRelation = `with ${blocks},
  r as (
    select start_lsn, relfilenode, record, max(record_length) - sum(full_length) as bytes from b group by 1, 2, 3)
  select relfilenode::text as filenode, record, count(*)::float8 as records, sum(bytes)::float8 as bytes from r group by 1, 2`;
const names = `select c.relname as name, pg_relation_filenode(c.oid)::text as filenode from pg_class c
  where c.relkind in ('r', 'i', 'S', 't') and pg_relation_filenode(c.oid) is not null`;

export class WalReader {
  readonly #admin: Client;
  /** Of the database that is written to: names are its own. */
  readonly #sql: Client;

  private constructor(admin: Client, sql: Client) {
    this.#admin = admin;
    this.#sql = sql;
  }

  static async open(adminUrl: string, sql: Client): Promise<WalReader> {
    const admin = new Client({ connectionString: adminUrl });
    await admin.connect();
    await admin.query("create extension if not exists pg_walinspect");
    return new WalReader(admin, sql);
  }

  async end(): Promise<void> {
    await this.#admin.end();
  }

  async checkpoint(): Promise<void> {
    await this.#admin.query("checkpoint");
  }

  /** Where the log stands, with everything before it on the disk. */
  async mark(): Promise<string> {
    const { rows } = await this.#admin.query("select pg_logical_emit_message(false, 'bench', '', true)::text as lsn");
    return markRow.parse(rows)[0].lsn;
  }

  async between(from: string, to: string): Promise<Wal> {
    const [sum] = sumRow.parse((await this.#admin.query(sums, [from, to])).rows);
    const found = writtenRows.parse((await this.#admin.query(byRelation, [from, to])).rows);
    const known = nameRows.parse((await this.#sql.query(names)).rows);
    const nameOf = new Map(known.map(({ filenode, name }) => [filenode, name]));
    const written = found.map(({ filenode, ...rest }) => ({ relation: nameOf.get(filenode) ?? "other", ...rest }));
    return { bytes: sum.bytes, fullPageBytes: sum.full, pages: sum.pages, written };
  }
}
