// The cluster's master key: 32 bytes in a 0600 file. Seals what the database may hold only as ciphertext (AES-256-GCM)
// and derives the keys all nodes share. Never logged, never stored beside what it seals.
import { createCipheriv, createDecipheriv, createHmac, hkdfSync } from "node:crypto";
import { readFile, stat, writeFile } from "node:fs/promises";
import { AppError, describeError, errnoOf } from "../../shared/errors.ts";
import type { Random } from "../../shared/random.ts";

const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

export interface MasterKey {
  /** nonce ‖ ciphertext ‖ tag; `purpose` is bound to it and must be the same when opened. */
  seal(purpose: string, plaintext: Uint8Array): Buffer;
  /** Throws `master-key.wrong` when key, purpose or content differ. */
  open(purpose: string, sealed: Uint8Array): Buffer;
  /** A 32-byte key for one purpose, the same on every node. */
  derive(purpose: string): Buffer;
}

/** Reads the key file, or makes it with mode 0600 when it does not exist and `create` is "allowed". */
export async function loadMasterKey(
  deps: { readonly random: Random },
  options: { readonly path: string; readonly create: "allowed" | "forbidden" },
): Promise<MasterKey> {
  const { path } = options;
  try {
    const { mode } = await stat(path);
    if ((mode & 0o077) !== 0) {
      throw new AppError(
        "config.invalid",
        `${path} can be read by others (mode ${(mode & 0o777).toString(8)}); expected 600`,
        { mend: `chmod 600 ${path}` },
      );
    }
    return masterKeyFrom(Buffer.from((await readFile(path, "utf8")).trim(), "base64url"), deps.random);
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    if (errnoOf(cause) !== "ENOENT" || options.create === "forbidden") {
      throw new AppError("file.unreadable", `the master key file ${path} cannot be read: ${describeError(cause)}`, {
        cause,
      });
    }
  }
  const key = Buffer.from(deps.random.bytes(keyBytes));
  await writeFile(path, `${key.toString("base64url")}\n`, { mode: 0o600, flag: "wx", flush: true });
  return masterKeyFrom(key, deps.random);
}

function masterKeyFrom(key: Buffer, random: Random): MasterKey {
  if (key.length !== keyBytes)
    throw new AppError("master-key.wrong", `the master key has ${key.length} bytes; expected ${keyBytes}`);
  const derive = (purpose: string): Buffer =>
    Buffer.from(hkdfSync("sha256", key, Buffer.alloc(0), `holdfast ${purpose} v1`, 32));
  const sealing = derive("seal");
  return {
    derive: (purpose) => createHmac("sha256", derive("derive")).update(purpose).digest(),
    seal(purpose, plaintext) {
      const nonce = random.bytes(nonceBytes);
      const cipher = createCipheriv("aes-256-gcm", sealing, nonce).setAAD(Buffer.from(purpose));
      return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
    },
    open(purpose, sealed) {
      try {
        const bytes = Buffer.from(sealed);
        const decipher = createDecipheriv("aes-256-gcm", sealing, bytes.subarray(0, nonceBytes), {
          authTagLength: tagBytes,
        }).setAAD(Buffer.from(purpose));
        decipher.setAuthTag(bytes.subarray(-tagBytes));
        return Buffer.concat([decipher.update(bytes.subarray(nonceBytes, -tagBytes)), decipher.final()]);
      } catch (cause) {
        throw new AppError("master-key.wrong", `the master key does not open "${purpose}" of this cluster`, { cause });
      }
    },
  };
}
