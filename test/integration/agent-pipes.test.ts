// Pipes made ahead: each is given once, replaces nothing, and none is needed.
import { lstatSync, readdirSync } from "node:fs";
import { link, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { PipePool } from "../../agent/pipe-pool.ts";
import { Background } from "../../shared/background.ts";
import { silentLogger } from "../../shared/logger.ts";

let folder: string;
let store: string;
let background: Background;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-pipes-"));
  store = join(folder, "pipes");
  background = new Background({ logger: silentLogger });
});

afterEach(async () => {
  await background.settle();
  await rm(folder, { recursive: true, force: true });
});

async function open(size: number): Promise<PipePool> {
  const pool = new PipePool({ background, logger: silentLogger }, { path: store, size });
  await pool.start();
  await background.settle();
  return pool;
}

const place = (name: string): string => join(folder, name);

test("a pipe is moved, not copied, and the store is filled again", async () => {
  const pool = await open(4);
  expect(readdirSync(store)).toHaveLength(4);
  pool.take([place("a"), place("b")]);
  await background.settle();
  expect([lstatSync(place("a")).isFIFO(), lstatSync(place("b")).isFIFO()]).toEqual([true, true]);
  expect(lstatSync(place("a")).ino).not.toBe(lstatSync(place("b")).ino);
  expect(readdirSync(store)).toHaveLength(4);
});

test("what is at a place already stays there", async () => {
  const pool = await open(4);
  pool.take([place("a")]);
  const { ino } = lstatSync(place("a"));
  pool.take([place("a")]);
  expect(lstatSync(place("a")).ino).toBe(ino);
});

test("a pipe that a process gave away and died is not given again by the next", async () => {
  await open(1);
  const [name = ""] = readdirSync(store);
  await link(join(store, name), place("given"));
  const pool = await open(1);
  pool.take([place("other")]);
  expect(readdirSync(folder).toSorted()).toEqual(["given", "pipes"]);
});

test("what lies in the store and is no pipe is given to nobody", async () => {
  await mkdir(store);
  await writeFile(join(store, "7"), "");
  const pool = await open(1);
  pool.take([place("a")]);
  expect(readdirSync(folder)).toEqual(["pipes"]);
});

test("without room or without the program there are simply none", async () => {
  await mkdir(store);
  const pool = await open(2);
  await rm(store, { recursive: true });
  await writeFile(store, "");
  pool.take([place("a")]);
  pool.take([place("b"), place("c")]);
  expect(readdirSync(folder)).toEqual(["pipes"]);
});
