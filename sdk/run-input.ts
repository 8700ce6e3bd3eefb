// What a run takes besides plain fields of the spec, in the forms people write: secrets, files, the trace it belongs to.
import type { z } from "zod";
import type { Attachment } from "../shared/attachment.ts";
import { AppError } from "../shared/errors.ts";
import type { secretSchema } from "../shared/secret.ts";
import { traceParentSchema } from "../shared/trace-parent.ts";

export type SecretInput = z.input<typeof secretSchema>;

export type SecretsInput = Readonly<Record<string, string>> | readonly SecretInput[];

export interface FileInput {
  /** Without folders. */
  readonly name: string;
  readonly content: string | Uint8Array;
  readonly executable?: boolean;
}

export function secretList(secrets: SecretsInput): SecretInput[] {
  return isList(secrets) ? [...secrets] : Object.entries(secrets).map(([name, value]) => ({ name, value }));
}

function isList(secrets: SecretsInput): secrets is readonly SecretInput[] {
  return Array.isArray(secrets);
}

export function traceHeader(traceParent: string | undefined): { readonly traceparent?: string } {
  if (traceParent === undefined) return {};
  const parsed = traceParentSchema.safeParse(traceParent);
  if (parsed.success) return { traceparent: parsed.data };
  throw new AppError("request.invalid", `traceParent: ${parsed.error.issues[0]?.message ?? "not allowed"}`);
}

export function attachmentOf({ name, content, executable }: FileInput): Attachment {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  // In pieces: a call takes no quarter of a million arguments.
  let binary = "";
  for (let at = 0; at < bytes.length; at += 8_192) binary += String.fromCharCode(...bytes.subarray(at, at + 8_192));
  return { name, base64: btoa(binary), ...(executable === undefined ? {} : { executable }) };
}
