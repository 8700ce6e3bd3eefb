// Seals the secrets of a task for the database, and opens them for the one frame that offers the task to its agent. Bound
// to the task: what was sealed for one does not open for another. Knows no SQL and keeps nothing.
import { createHmac } from "node:crypto";
import { z } from "zod";
import type { TaskId } from "../../shared/ids.ts";
import { secretsSchema, type Secret } from "../../shared/secret.ts";

/** What it needs of the master key. */
export interface SealingKey {
  seal(purpose: string, plaintext: Uint8Array): Uint8Array;
  open(purpose: string, sealed: Uint8Array): Uint8Array;
  derive(purpose: string): Uint8Array;
}

export interface SecretVault {
  seal(task: TaskId, secrets: readonly Secret[]): Uint8Array;
  /** Throws `master-key.wrong` when key or task differ. */
  open(task: TaskId, sealed: Uint8Array): readonly Secret[];
  /**
   * `digest` with the values bound to it under a key of the cluster: equal for equal requests on every node, and no
   * help for guessing the values to whoever has the database only.
   */
  digest(digest: string, secrets: readonly (readonly Secret[])[]): string;
}

const stored = z.string().transform((text) => secretsSchema.parse(JSON.parse(text)));
const purposeOf = (task: TaskId): string => `secrets of task ${task}`;

export function createSecretVault(key: SealingKey): SecretVault {
  return {
    seal: (task, secrets) => key.seal(purposeOf(task), Buffer.from(JSON.stringify(secrets))),
    open: (task, sealed) => stored.parse(Buffer.from(key.open(purposeOf(task), sealed)).toString("utf8")),
    digest: (digest, secrets) =>
      createHmac("sha256", key.derive("submission digest"))
        .update(`${digest}\n${JSON.stringify(secrets)}`)
        .digest("hex"),
  };
}
