// The first API key: made with the cluster, written to the data directory (0600) and nowhere else.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { formatApiKey } from "../shared/api/api-key.ts";
import { apiKeyIdSchema, newId, type IdSource } from "../shared/ids.ts";
import type { Random } from "../shared/random.ts";
import { sha256 } from "../shared/thumbprint.ts";
import type { Database } from "./store/connection.ts";
import { hasApiKeys, storeApiKey } from "./store/trust.ts";

export const adminKeyFile = "admin-api-key";

export interface AdminKeyDeps {
  readonly database: Pick<Database, "durable">;
  readonly ids: IdSource;
  readonly random: Random;
}

/** Makes the key when the cluster has none. The file is written before the row: a key nobody has would be worse than a file without effect. */
export async function adminKey(
  deps: AdminKeyDeps,
  options: { readonly dataDirectory: string; readonly origin: "created" | "found" },
): Promise<void> {
  if (options.origin === "found" && (await hasApiKeys(deps.database.durable))) return;
  const id = newId(deps.ids, apiKeyIdSchema);
  const secret = Buffer.from(deps.random.bytes(32)).toString("base64url");
  await writeFile(join(options.dataDirectory, adminKeyFile), `${formatApiKey({ id, secret })}\n`, {
    mode: 0o600,
    flush: true,
  });
  await storeApiKey(deps.database.durable, { id, name: "admin", secretSha256: sha256(secret), scopes: ["*"] });
}
