// docs/faults.md names files and tests: a test that was renamed or removed must not leave a row behind that says otherwise.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");
const text = readFileSync(join(root, "docs/faults.md"), "utf8");
/** A file with the words that follow it, up to the next file. */
const named = [...text.matchAll(/`(test\/[^`]+\.ts)`((?:,? "[^"]+")*)/g)].map(([, file = "", words = ""]) => ({
  file,
  words: [...words.matchAll(/"([^"]+)"/g)].map(([, one = ""]) => one),
}));

test("names only files that are there, and only tests that they hold", () => {
  const missing = named.flatMap(({ file, words }) => {
    if (!existsSync(join(root, file))) return [file];
    const source = readFileSync(join(root, file), "utf8");
    return words.filter((one) => !source.includes(one)).map((one) => `${file}: ${one}`);
  });
  expect(missing).toEqual([]);
  expect(named.filter(({ words }) => words.length > 0).length).toBeGreaterThan(60);
});

test("has a row for each fault", () => {
  const numbers = [...text.matchAll(/^\| (\d+) /gm)].map(([, number]) => Number(number));
  const from = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, index) => first + index);
  expect(numbers).toEqual([...from(1, 74), ...from(98, 102)]);
});
