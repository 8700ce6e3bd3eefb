// Who this agent is: cluster, id, name, the CAs it trusts, its seeds, key and certificate, in the data directory.
//   identity.json  cluster, agent id, name, labels, CA PEMs, seeds      0600
//   key.pem, certificate.pem                                           0600, replaced together on renewal
// Invariant: whatever moment the process dies, key and certificate on disk fit each other or a complete `.next` pair does.
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { makeClosedFolder } from "../shared/closed-folder.ts";
import { AppError, errnoOf } from "../shared/errors.ts";
import { agentIdSchema, clusterIdSchema } from "../shared/ids.ts";
import { labelsSchema, nameSchema } from "../shared/task.ts";
import { addressSchema } from "../shared/wire/nodes.ts";
import { replaceFile } from "./durable-file.ts";

const pems = z.array(z.string().refine(isCertificate, "expected a certificate in PEM")).min(1).max(4);
export const identityFileSchema = z.object({
  cluster: clusterIdSchema,
  agentId: agentIdSchema,
  name: nameSchema,
  labels: labelsSchema.default({}),
  agentsCa: pems,
  nodesCa: pems,
  /** Agent addresses known at registration; used only while no session is open, for ever. */
  seeds: z.array(addressSchema).max(256),
});
export type IdentityFile = z.infer<typeof identityFileSchema>;

export interface KeyPairPem {
  readonly key: string;
  readonly certificate: string;
}

export interface Identity extends IdentityFile, KeyPairPem {}

const paths = (dataPath: string) => ({
  identity: join(dataPath, "identity.json"),
  key: join(dataPath, "key.pem"),
  certificate: join(dataPath, "certificate.pem"),
});

/**
 * Undefined when nothing was registered here. Throws `certificate.invalid` when what is there does not fit together, and
 * `config.invalid` when others may read the key.
 */
export async function loadIdentity(dataPath: string): Promise<Identity | undefined> {
  const identity = await readIdentity(dataPath);
  if (identity !== undefined) await refuseReadableKey(paths(dataPath).key);
  return identity;
}

/** As {@link loadIdentity}, whoever may read the key. */
export async function readIdentity(dataPath: string): Promise<Identity | undefined> {
  const at = paths(dataPath);
  const text = await readIfThere(at.identity);
  if (text === undefined) return undefined;
  const parsed = identityFileSchema.safeParse(parseJson(text, at.identity));
  if (!parsed.success) throw new AppError("certificate.invalid", `${at.identity}: ${describeIssue(parsed.error)}`);
  const pair =
    (await fittingPair(`${at.key}.next`, `${at.certificate}.next`)) ?? (await fittingPair(at.key, at.certificate));
  if (pair === undefined)
    throw new AppError("certificate.invalid", `${at.key} and ${at.certificate} do not fit each other`);
  return { ...parsed.data, ...pair };
}

/** In one line; zod's own message is a JSON text. */
function describeIssue({ issues: [issue] }: z.ZodError): string {
  return issue === undefined ? "invalid" : `${issue.path.join(".")}: ${issue.message}`;
}

function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new AppError("certificate.invalid", `${path} is no JSON`, { cause });
  }
}

export async function storeIdentity(dataPath: string, identity: Identity): Promise<void> {
  await makeClosedFolder(dataPath);
  const { key, certificate, ...file } = identity;
  await storeKeyPair(dataPath, { key, certificate });
  await replaceFile(paths(dataPath).identity, `${JSON.stringify(file, null, 2)}\n`);
}

/** Both halves are on disk as `.next` before either takes the place of the old one. */
export async function storeKeyPair(dataPath: string, pair: KeyPairPem): Promise<void> {
  const at = paths(dataPath);
  await rm(`${at.certificate}.next`, { force: true });
  await replaceFile(`${at.key}.next`, pair.key);
  await replaceFile(`${at.certificate}.next`, pair.certificate);
  await replaceFile(at.key, pair.key);
  await rename(`${at.certificate}.next`, at.certificate);
  await rm(`${at.key}.next`, { force: true });
}

function isCertificate(text: string): boolean {
  try {
    return new X509Certificate(text).raw.length > 0;
  } catch {
    return false;
  }
}

async function fittingPair(keyPath: string, certificatePath: string): Promise<KeyPairPem | undefined> {
  const [key, certificate] = await Promise.all([readIfThere(keyPath), readIfThere(certificatePath)]);
  if (key === undefined || certificate === undefined) return undefined;
  try {
    return new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key)) ? { key, certificate } : undefined;
  } catch {
    return undefined;
  }
}

async function refuseReadableKey(path: string): Promise<void> {
  const { mode } = await stat(path);
  if ((mode & 0o077) === 0) return;
  const seen = (mode & 0o777).toString(8);
  throw new AppError("config.invalid", `${path} has mode ${seen}: others may read the private key`, {
    mend: `chmod 600 ${path}`,
  });
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT") return undefined;
    throw cause;
  }
}
