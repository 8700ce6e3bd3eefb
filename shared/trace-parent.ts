// The `traceparent` of W3C Trace Context: which trace a task belongs to. Passed on as it came, never made here.
import { z } from "zod";

/** Longer ones of later versions are not passed on; version 0 has 55 characters. */
const charsAtMost = 256;

/** Version 0 exactly; of later versions the same beginning, as the recommendation has it read. */
const form =
  /^(?:00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}|(?!00|ff)[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-[\x21-\x7e]*)?)$/;

export const traceParentSchema = z
  .string()
  .max(charsAtMost)
  .regex(form, "expected a traceparent of W3C Trace Context, such as 00-<32 hex>-<16 hex>-01")
  .refine(
    (text) => !/^..-0{32}-/.test(text) && !/^..-.{32}-0{16}-/.test(text),
    "trace and parent must not be all zeros",
  );

export const traceParentVariable = "TRACEPARENT";

export function isTraceParent(text: string | undefined): text is string {
  return traceParentSchema.safeParse(text).success;
}
