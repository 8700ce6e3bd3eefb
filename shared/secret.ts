// Secrets of a task: values that reach its script and nothing else. Their form and bounds, shared by API, store, wire and
// agent. Invariant: no message of a schema here repeats a value.
import { z } from "zod";
import { environmentNameSchema, shellsOwnName } from "./task.ts";

/** Together they are bounded as well: an offer is one frame of 1 MiB, and the spec may take 768 KiB of it. */
export const secretLimits = {
  count: 64,
  bytes: 32 * 1024,
  totalBytes: 128 * 1024,
  submissionBytes: 16 * 1024 * 1024,
} as const;

export const secretNameSchema = environmentNameSchema.refine(
  (name) => !name.startsWith("HOLDFAST_") && !shellsOwnName.test(name),
  "is a name that Holdfast or the shell keeps for itself",
);

const encoder = new TextEncoder();
const bytesOf = (text: string): number => encoder.encode(text).length;

/** How it reaches the script: as the variable's value, or as a file whose path is the variable's value. */
export const secretUses = ["variable", "file"] as const;

export const secretSchema = z.strictObject({
  name: secretNameSchema.describe("Of the environment variable"),
  value: z
    .string()
    .refine((text) => !text.includes("\0"), "must not contain NUL")
    .refine((text) => text.isWellFormed(), "must be well-formed Unicode")
    .refine((text) => bytesOf(text) <= secretLimits.bytes, `at most ${secretLimits.bytes} bytes`)
    .describe("Never shown again; masked in the output when it has 6 characters or more"),
  as: z
    .enum(secretUses)
    .default("variable")
    .describe("variable: the variable holds the value; file: it holds the path of a file with the value"),
});
export type Secret = z.output<typeof secretSchema>;

export const secretsSchema = z
  .array(secretSchema)
  .max(secretLimits.count)
  .superRefine((secrets, context) => {
    const names = new Set<string>();
    for (const [index, { name }] of secrets.entries()) {
      if (names.has(name)) context.addIssue({ code: "custom", path: [index, "name"], message: "is given twice" });
      names.add(name);
    }
    const total = secretBytes(secrets);
    if (total > secretLimits.totalBytes)
      context.addIssue({ code: "custom", message: `take ${total} bytes; at most ${secretLimits.totalBytes}` });
  });

export function secretBytes(secrets: readonly Secret[]): number {
  return secrets.reduce((sum, { name, value }) => sum + bytesOf(name) + bytesOf(value), 0);
}
