// docs/performance.md says what the result files say, and they answer what the benches and the design ask: a table edited by
// hand, a bench that nobody runs or a target without a figure fails here.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { benches } from "../../bench/benches.ts";
import { performancePath, performanceText } from "../../bench/performance-doc.ts";
import { figureOf, readResults, type ResultFile } from "../../bench/result.ts";
import { absent, isMet, targetOf, targets } from "../../bench/targets.ts";

const folder = join(import.meta.dirname, "../../bench");
const results = readResults();
const rows = results.flatMap((result) => result.rows);

test("is what the result files make of it: `npm run bench -- --table` writes it", () => {
  expect(readFileSync(performancePath, "utf8")).toBe(performanceText(results));
});

test("knows every bench there is, and each has results of its own name", () => {
  const reporting = readdirSync(folder)
    .filter((name) => name.endsWith(".ts"))
    .filter((name) => /^ *report\(/m.test(readFileSync(join(folder, name), "utf8")))
    .map((name) => name.slice(0, -3));
  expect(Object.keys(benches).toSorted()).toEqual(reporting.toSorted());
  expect(results.map(({ bench }) => bench)).toEqual(Object.keys(benches).toSorted());
});

test("has a row for every target, with what the target judges, and no question twice", () => {
  const questions = rows.map(({ question }) => question);
  expect(questions.filter((question, index) => questions.indexOf(question) !== index)).toEqual([]);
  const unanswered = targets.filter((target) => {
    const row = rows.find(({ question }) => question === target.question);
    return row === undefined || isMet(target, row) === undefined || row.target !== target.text;
  });
  expect(unanswered).toEqual([]);
  // The eight lines of the design's section 11; two of them are for what is not built.
  expect(targets.filter(({ from }) => from === "design").length).toBeGreaterThanOrEqual(22);
  expect(absent.map(({ text }) => text.split(":")[0])).toEqual(["Service calls on one session", "File transfer"]);
});

test("takes no figure apart from its spread and its floor", () => {
  const odd = rows.filter(({ figure: { min, median, max }, floor, ratio, repeats }) => {
    const spreads = min <= median && median <= max && (repeats > 1 || min === max);
    const share = floor === undefined ? undefined : median / floor.median;
    return !spreads || (share === undefined) !== (ratio === undefined) || Math.abs((share ?? 0) - (ratio ?? 0)) > 0.001;
  });
  expect(odd).toEqual([]);
});

test("says met or missed by the target's own bound", () => {
  const [first] = results;
  const [row] = first?.rows ?? [];
  const target = targets.find(({ judged, bound }) => judged === "figure" && "most" in bound);
  if (first === undefined || row === undefined || target === undefined || !("most" in target.bound))
    throw new Error("there are results and targets");
  const textOf = (value: number): string => {
    const changed: ResultFile = {
      ...first,
      rows: [{ ...row, question: target.question, figure: figureOf([value], "ms"), repeats: 1 }],
    };
    return (
      performanceText([changed])
        .split("\n")
        .find((line) => line.startsWith(`| ${target.question}`)) ?? ""
    );
  };
  expect(targetOf(target.question)).toBe(target);
  expect(textOf(target.bound.most)).toMatch(/\| met +\|/);
  expect(textOf(target.bound.most + 1)).toMatch(/\| missed +\|/);
  expect(figureOf([4, 1, 2, 9], "ms")).toEqual({ median: 3, min: 1, max: 9, unit: "ms" });
});
