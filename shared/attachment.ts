// Small files that travel with a script and lie in its work folder when it starts. Part of the spec, so in base64: stored
// as JSON and shown to nobody, but no place for secrets. Invariant: a name is one part of a path, never a way out.
import { z } from "zod";

/** `bytes` is of the contents of one task together, before base64. */
export const attachmentLimits = { count: 16, bytes: 256 * 1024, nameChars: 128 } as const;

export const attachmentNameSchema = z
  .string()
  .max(attachmentLimits.nameChars)
  .regex(
    /^(?!\.{1,2}$)[A-Za-z0-9._][A-Za-z0-9._-]*$/,
    "expected a file's name: letters, digits, dot, underscore, dash",
  );

export const attachmentSchema = z.object({
  name: attachmentNameSchema,
  base64: z.base64(),
  /** Mode 0700 instead of 0600. */
  executable: z.boolean().optional(),
});
export type Attachment = z.infer<typeof attachmentSchema>;

export function attachmentsOf(attachment: typeof attachmentSchema) {
  return z
    .array(attachment)
    .min(1)
    .max(attachmentLimits.count)
    .refine((files) => new Set(files.map(({ name }) => name)).size === files.length, "two attached files share a name")
    .refine(
      (files) => attachedBytes(files) <= attachmentLimits.bytes,
      `at most ${attachmentLimits.bytes} bytes together`,
    );
}

export function attachedBytes(files: readonly Attachment[]): number {
  return files.reduce((sum, { base64 }) => sum + Math.floor((base64.replace(/=+$/, "").length * 3) / 4), 0);
}
