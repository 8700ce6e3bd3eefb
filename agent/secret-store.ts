// Keeps an attempt's secrets beside its script, sealed, so that a later process of the agent can start it and mask its
// output. AES-256-GCM under a random key of this data directory, bound to the attempt. Invariant: what `keep` has resolved
// for is on disk, and nothing in the data directory holds a value as it is.
import { createCipheriv, createDecipheriv } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { AppError, describeError, errnoOf } from "../shared/errors.ts";
import type { AttemptId } from "../shared/ids.ts";
import type { Random } from "../shared/random.ts";
import { secretsSchema, type Secret } from "../shared/secret.ts";
import { replaceFile } from "./durable-file.ts";
import { syncDirectory } from "./journal-disk.ts";

const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

export type KeptSecrets =
  | { readonly kind: "none" }
  | { readonly kind: "kept"; readonly secrets: readonly Secret[] }
  /** There were some, and they cannot be read: nothing may be started with them, nothing told of their script's output. */
  | { readonly kind: "lost"; readonly why: string };

export class SecretStore {
  readonly #deps: { readonly random: Pick<Random, "bytes"> };
  readonly #attemptsPath: string;
  readonly #key: Buffer;

  constructor(
    deps: { readonly random: Pick<Random, "bytes"> },
    options: { readonly attemptsPath: string; readonly key: Buffer },
  ) {
    this.#deps = deps;
    this.#attemptsPath = options.attemptsPath;
    this.#key = options.key;
  }

  /** Synced, with the folder it makes. Rejects when the disk does not take it. */
  async keep(attempt: AttemptId, secrets: readonly Secret[]): Promise<void> {
    const folder = join(this.#attemptsPath, attempt);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await replaceFile(join(folder, "secrets"), this.#seal(attempt, Buffer.from(JSON.stringify(secrets))));
    await syncDirectory(this.#attemptsPath);
  }

  read(attempt: AttemptId): KeptSecrets {
    let sealed: Buffer;
    try {
      sealed = readFileSync(join(this.#attemptsPath, attempt, "secrets"));
    } catch (cause) {
      return errnoOf(cause) === "ENOENT" ? { kind: "none" } : { kind: "lost", why: describeError(cause) };
    }
    try {
      const text = this.#open(attempt, sealed).toString("utf8");
      return { kind: "kept", secrets: secretsSchema.parse(JSON.parse(text)) };
    } catch {
      // What failed is not told: it may hold a piece of the text.
      return { kind: "lost", why: "they do not open with the key of this data directory" };
    }
  }

  #seal(attempt: AttemptId, plaintext: Buffer): Buffer {
    const nonce = this.#deps.random.bytes(nonceBytes);
    const cipher = createCipheriv("aes-256-gcm", this.#key, nonce).setAAD(Buffer.from(attempt));
    return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  }

  #open(attempt: AttemptId, sealed: Buffer): Buffer {
    const decipher = createDecipheriv("aes-256-gcm", this.#key, sealed.subarray(0, nonceBytes), {
      authTagLength: tagBytes,
    });
    decipher.setAAD(Buffer.from(attempt)).setAuthTag(sealed.subarray(-tagBytes));
    return Buffer.concat([decipher.update(sealed.subarray(nonceBytes, -tagBytes)), decipher.final()]);
  }
}

/** The key of this data directory, made at the first start. Throws `file.unreadable` for one that is damaged. */
export async function loadSecretKey(dataPath: string, random: Pick<Random, "bytes">): Promise<Buffer> {
  const path = join(dataPath, "secret-key");
  try {
    const key = Buffer.from((await readFile(path, "utf8")).trim(), "base64url");
    if (key.length === keyBytes) return key;
    throw new AppError("file.unreadable", `${path} holds no key of ${keyBytes} bytes`, {
      mend: "Restore it, or remove it: scripts that wait with secrets then fail, and the output of running ones is masked.",
    });
  } catch (cause) {
    if (errnoOf(cause) !== "ENOENT") throw cause;
  }
  const key = Buffer.from(random.bytes(keyBytes));
  await replaceFile(path, `${key.toString("base64url")}\n`);
  return key;
}
