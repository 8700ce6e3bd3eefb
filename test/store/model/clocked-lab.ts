// A real PostgreSQL database whose clock a test sets, so that SQL and its model live at the same millisecond: a function of
// the name `clock_timestamp` stands before the built-in one on the search path, and column defaults read it too. The
// statements stay those that are shipped. Invariant: nothing in the database reads another clock.
import { inject } from "vitest";
import { Database } from "../../../server/store/connection.ts";
import { silentLogger } from "../../../shared/logger.ts";
import { createDatabase, type TestDatabase } from "../../harness/postgres.ts";
import { emptied } from "./tables.ts";

const startMs = 1_795_000_000_000;

const setUp = `
create schema lab;
create table lab.present (now_ms bigint not null);
insert into lab.present values (${startMs});
create function lab.clock_timestamp() returns timestamptz language plpgsql volatile as
  $$ begin return (select timestamptz 'epoch' + now_ms * interval '1 millisecond' from lab.present); end $$;
insert into cluster (id, name, key_check) values (gen_random_uuid(), 'test', 'check');
do $$
declare it record;
begin
  for it in select table_name, column_name from information_schema.columns
      where table_schema = 'public' and column_default = 'clock_timestamp()' loop
    execute format('alter table %I alter column %I set default lab.clock_timestamp()', it.table_name, it.column_name);
  end loop;
  execute format('alter database %I set search_path = lab, public, pg_catalog', current_database());
end $$`;

export class ClockedLab {
  readonly #others: number;
  #test: TestDatabase | undefined;
  #databases: Database[] = [];
  #nowMs = startMs;

  /** `others`: Database objects besides the first, as other nodes would hold them. */
  constructor(others = 0) {
    this.#others = others;
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  get database(): Database {
    const [first] = this.#databases;
    if (first === undefined) throw new Error("the lab is not started");
    return first;
  }

  get databases(): readonly Database[] {
    return this.#databases;
  }

  async start(): Promise<void> {
    this.#test = await createDatabase(inject("databaseUrl"));
    const before = await this.#connect();
    await before.durable.query({ name: "", text: setUp }, []);
    await before.stop();
    // The search path holds for connections made from now on.
    this.#databases = await Promise.all(Array.from({ length: 1 + this.#others }, () => this.#connect()));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#databases.map((database) => database.stop()));
    await this.#test?.drop();
  }

  async #connect(): Promise<Database> {
    const url = this.#test?.url ?? "";
    const database = new Database({ logger: silentLogger }, { url, poolSize: 2 });
    await database.start();
    return database;
  }

  async sql(text: string, values: readonly unknown[] = []): Promise<Readonly<Record<string, unknown>>[]> {
    return (await this.database.durable.query({ name: "", text }, values)) as Readonly<Record<string, unknown>>[];
  }

  /** As after the migrations: no row but the cluster's, queue numbers from 1, the clock at its start. */
  async reset(): Promise<void> {
    this.#nowMs = startMs;
    await this.database.durable.query(emptied(startMs), []);
  }

  /** Passes time, or turns the clock back. */
  async pass(ms: number): Promise<void> {
    this.#nowMs += ms;
    await this.database.durable.query({ name: "lab-pass", text: "update lab.present set now_ms = $1" }, [this.#nowMs]);
  }
}
