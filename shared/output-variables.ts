// Output variables: small named values that a script hands back with its result. Bounds by SECURITY section 5.
// A list, not a map: a script may name one `constructor`, which the wire takes for no key.
import { z } from "zod";
import { environmentNameSchema } from "./task.ts";

/** `bytes` is of all names and values of one attempt together. */
export const outputLimits = { count: 64, bytes: 64 * 1024, nameChars: 64 } as const;

const outputNameSchema = environmentNameSchema.refine((name) => name !== "__proto__", "is no name for a value");

export function isOutputName(text: string): boolean {
  return text.length <= outputLimits.nameChars && outputNameSchema.safeParse(text).success;
}

const encoder = new TextEncoder();

export const outputVariablesSchema = z
  .array(z.object({ name: outputNameSchema, value: z.string() }))
  .max(outputLimits.count)
  .refine((variables) => bytesOfOutputs(variables) <= outputLimits.bytes, `at most ${outputLimits.bytes} bytes`);
export type OutputVariables = z.infer<typeof outputVariablesSchema>;

export function bytesOfOutputs(variables: readonly { readonly name: string; readonly value: string }[]): number {
  return variables.reduce(
    (sum, { name, value }) => sum + encoder.encode(name).length + encoder.encode(value).length,
    0,
  );
}
