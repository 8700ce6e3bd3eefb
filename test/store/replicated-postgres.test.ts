// The failover that the nemesis relies on: what a primary has acknowledged is on the standby that takes its place, and a new
// standby can follow that one and take its place in turn. Without it a lost task could be the harness' doing.
import { afterAll, beforeAll, expect, it } from "vitest";
import { queryRows } from "../harness/query.ts";
import { ReplicatedPostgres } from "../harness/replicated-postgres.ts";

let postgres: ReplicatedPostgres;
beforeAll(async () => {
  postgres = await ReplicatedPostgres.start();
});
afterAll(async () => {
  await postgres?.[Symbol.asyncDispose]();
});

it("loses no acknowledged row in two failovers and a crash between them", async () => {
  await queryRows(postgres.url, "create table kept (no integer)");
  const before = postgres.port;
  await queryRows(postgres.url, "insert into kept values (1)");
  await postgres.promote();
  expect(postgres.port).not.toBe(before);
  expect(postgres.hasStandby).toBe(false);
  await queryRows(postgres.url, "insert into kept values (2)");
  await postgres.addStandby();
  await queryRows(postgres.url, "insert into kept values (3)");
  await postgres.kill();
  await expect(queryRows(postgres.url, "select 1")).rejects.toThrow("ECONNREFUSED");
  await postgres.comeBack();
  await queryRows(postgres.url, "insert into kept values (4)");
  await postgres.promote();
  const rows = await queryRows(postgres.url, "select no from kept order by no");
  expect(rows.map((row) => row["no"])).toEqual([1, 2, 3, 4]);
  const [timeline] = await queryRows(postgres.url, "select timeline_id as no from pg_control_checkpoint()");
  expect(Number(timeline?.["no"])).toBeGreaterThan(1);
});

it("has a commit wait for the standby", async () => {
  await postgres.addStandby();
  const [row] = await queryRows(postgres.url, "show synchronous_standby_names");
  expect(row).toEqual({ synchronous_standby_names: "standby" });
});
