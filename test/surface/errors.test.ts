// docs/errors.md and shared/errors.ts say the same, and every row is usable.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { renderErrors } from "../../scripts/render-docs.ts";
import { errorRows, type ErrorRow } from "../../shared/errors.ts";

const rows: [string, ErrorRow][] = Object.entries(errorRows);

test("docs/errors.md is what shared/errors.ts says (else run: node scripts/render-docs.ts)", async () => {
  expect(readFileSync(new URL("../../docs/errors.md", import.meta.url), "utf8")).toBe(await renderErrors());
});

test("codes stand in order and have the form part.reason", () => {
  const codes = rows.map(([code]) => code);
  expect(codes).toEqual(codes.toSorted());
  for (const code of codes) expect(code).toMatch(/^[a-z]+(?:-[a-z]+)*(?:\.[a-z]+(?:-[a-z]+)*)?$/);
});

test.each(rows)("%s has a status, an exit code of CONVENTIONS and a mend", (_code, row) => {
  expect(row.status).toBeGreaterThanOrEqual(400);
  expect([1, 2, 69, 75, 77, 78, 124, 130]).toContain(row.exitCode);
  expect(row.mend).toMatch(/\.$/);
});

test("what may be tried again exits with a code that says so, and no other does", () => {
  const wrong = rows.filter(([, row]) => [69, 75, 124, 130].includes(row.exitCode) !== row.retryable);
  expect(wrong.map(([code]) => code)).toEqual([]);
});
