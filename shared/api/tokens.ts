// Enrolment tokens: single use, expiring, bound to labels. The token's text is in the answer to its creation and nowhere else.
import { z } from "zod";
import { labelsSchema, nameSchema } from "../task.ts";
import { momentSchema } from "./moment.ts";
import { pageQuery } from "./page.ts";

/** SECURITY 4.2 S1: an hour by default, a day at most. */
export const tokenLife = { defaultMs: 3_600_000, leastMs: 1_000, mostMs: 86_400_000 } as const;

export const createTokenSchema = z.strictObject({
  labels: labelsSchema.default({}).describe("Given to the agent that uses it"),
  expiresMs: z.int().min(tokenLife.leastMs).max(tokenLife.mostMs).default(tokenLife.defaultMs),
  replace: nameSchema.optional().describe("Name of an existing agent that the new one may replace"),
});
export type CreateToken = z.output<typeof createTokenSchema>;
export type CreateTokenInput = z.input<typeof createTokenSchema>;

export const tokenViewSchema = z.object({
  id: z.string(),
  state: z.enum(["unused", "used", "expired", "revoked"]),
  labels: labelsSchema,
  replace: z.string().nullable(),
  createdBy: z.string(),
  createdAt: momentSchema,
  expiresAt: momentSchema,
  usedAt: momentSchema.nullable(),
  agent: z.string().nullable().describe("Name of the agent that used it"),
});
export type TokenView = z.infer<typeof tokenViewSchema>;

export const createdTokenSchema = z.object({
  ...tokenViewSchema.shape,
  token: z.string().describe("The secret text; shown this once"),
  installerSha256: z
    .string()
    .nullable()
    .default(null)
    .describe("Of `/downloads/install.sh`; null when the node serves no executables of the agent"),
});
export type CreatedToken = z.infer<typeof createdTokenSchema>;

export const tokenListQuerySchema = z.object(pageQuery);
