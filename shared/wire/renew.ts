// Certificate renewal over the session with a new key. The old certificate stays valid until the new one was used.
import { z } from "zod";
import { bytes } from "./fields.ts";

export const renewSchema = z.object({
  type: z.literal("renew"),
  /** The new public key, SubjectPublicKeyInfo in DER, P-256. */
  spki: bytes.refine((value) => value.length <= 512, "at most 512 bytes"),
  /** The new key's ECDSA-SHA256 signature over the renewal transcript (certs/public-key.ts). */
  proof: bytes.refine((value) => value.length <= 512, "at most 512 bytes"),
});
export type Renew = z.infer<typeof renewSchema>;

const pem = z.string().max(16_384);
export const renewedSchema = z.object({
  type: z.literal("renewed"),
  certificate: pem,
  agentsCa: z.array(pem).min(1).max(2),
  nodesCa: z.array(pem).min(1).max(2),
});
export type Renewed = z.infer<typeof renewedSchema>;
