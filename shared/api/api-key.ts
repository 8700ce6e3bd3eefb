// The text form of an API key: `hfk_<id>_<secret>`. The fixed prefix lets secret scanners find a leaked one; the id
// finds the row, and only a digest of the secret is ever stored.
import { apiKeyIdSchema, type ApiKeyId } from "../ids.ts";

export interface ApiKeyParts {
  readonly id: ApiKeyId;
  /** 256 random bits as base64url without padding (43 characters). */
  readonly secret: string;
}

const form = /^hfk_([0-9a-f-]{36})_([A-Za-z0-9_-]{43})$/;

export function formatApiKey(parts: ApiKeyParts): string {
  return `hfk_${parts.id}_${parts.secret}`;
}

/** Undefined when the text has not the form of a key; says nothing about whether such a key exists. */
export function parseApiKey(text: string): ApiKeyParts | undefined {
  const match = form.exec(text);
  const id = apiKeyIdSchema.safeParse(match?.[1]);
  const secret = match?.[2];
  return id.success && secret !== undefined ? { id: id.data, secret } : undefined;
}
