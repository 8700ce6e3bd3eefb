// Numbers of offers and homes end up in four bytes of the database: whatever message carries one keeps it within them.
import { expect, test } from "vitest";
import { z } from "zod";
import { fromAgentSchema } from "../../../shared/wire/from-agent.ts";
import { fromNodeSchema } from "../../../shared/wire/from-node.ts";

const most = 2_147_483_647;

/** The schemas of all fields of these names, however deep. */
function fieldsCalled(names: readonly string[], schema: unknown): unknown[] {
  if (typeof schema !== "object" || schema === null) return [];
  return Object.entries(schema).flatMap(([name, inner]) => [
    ...(names.includes(name) && typeof inner === "object" ? [inner] : []),
    ...fieldsCalled(names, inner),
  ]);
}

test.each([
  ["an agent", fromAgentSchema, 9],
  ["a node", fromNodeSchema, 2],
])("no message from %s carries a home or an offer beyond four bytes", (_from, union, least) => {
  const fields = fieldsCalled(["homeNo", "offerNo"], z.toJSONSchema(union, { unrepresentable: "any", io: "input" }));
  expect(fields.length).toBeGreaterThanOrEqual(least);
  expect(fields.filter((field) => (field as { maximum?: number }).maximum !== most)).toEqual([]);
});

test("the largest home that fits is taken, and the next one is not", () => {
  const progress = (homeNo: number): unknown => ({
    type: "progress",
    items: [{ attempt: "01985f2e-7c00-7000-8000-000000000001", homeNo, percent: 1, message: "" }],
  });
  expect(fromAgentSchema.safeParse(progress(most)).success).toBe(true);
  expect(fromAgentSchema.safeParse(progress(most + 1)).success).toBe(false);
});
