// Port and passwords of the embedded PostgreSQL, kept in one 0600 file beside the cluster, and the URLs made of them.
// Invariant: the file is complete or absent; a password is in no argument, no environment and no log.
import { open, readFile, rename } from "node:fs/promises";
import { z } from "zod";
import { AppError, errnoOf } from "../../shared/errors.ts";
import type { Random } from "../../shared/random.ts";

const password = z.string().regex(/^[0-9a-f]{64}$/);
const accessSchema = z.object({
  port: z.int().min(1).max(65_535),
  /** Of the superuser `postgres`. */
  adminPassword: password,
  /** Of the role `holdfast`, which owns the database. */
  password,
});
export type Access = z.infer<typeof accessSchema>;

export function newAccess(deps: { readonly random: Pick<Random, "bytes"> }, port: number): Access {
  const draw = (): string => Buffer.from(deps.random.bytes(32)).toString("hex");
  return { port, adminPassword: draw(), password: draw() };
}

/** `undefined` when there is none; throws AppError `embedded-postgres.failed` when it cannot be read. */
export async function loadAccess(path: string): Promise<Access | undefined> {
  try {
    return accessSchema.parse(JSON.parse(await readFile(path, "utf8")));
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT") return undefined;
    throw new AppError("embedded-postgres.failed", `${path} does not hold port and passwords`, { cause });
  }
}

export async function saveAccess(path: string, access: Access): Promise<void> {
  const draft = await open(`${path}.new`, "w", 0o600);
  try {
    await draft.chmod(0o600);
    await draft.writeFile(`${JSON.stringify(access)}\n`);
    await draft.sync();
  } finally {
    await draft.close();
  }
  await rename(`${path}.new`, path);
}

export function databaseUrl(access: Access): string {
  return `postgres://holdfast:${access.password}@127.0.0.1:${access.port}/holdfast`;
}

export function adminUrl(access: Access): string {
  return `postgres://postgres:${access.adminPassword}@127.0.0.1:${access.port}/postgres`;
}
