// Sealing a task's secrets under the master key, and binding their values to the digest of a request.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadMasterKey, type MasterKey } from "../../server/enrolment/master-key.ts";
import { createSecretVault } from "../../server/tasks/secret-vault.ts";
import { taskIdSchema } from "../../shared/ids.ts";
import { SystemRandom } from "../../shared/random.ts";
import { secretSchema } from "../../shared/secret.ts";
import { uuid } from "../unit/tasks/scene.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-vault-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const keyOf = (name: string): Promise<MasterKey> =>
  loadMasterKey({ random: new SystemRandom() }, { path: join(folder, name), create: "allowed" });

describe("the vault", () => {
  const task = taskIdSchema.parse(uuid(21));
  const secrets = [secretSchema.parse({ name: "S", value: "pin-1234" })];

  it("opens what it sealed, for that task and with that key only", async () => {
    const [key, otherKey] = [await keyOf("one"), await keyOf("two")];
    const vault = createSecretVault(key);
    const bytes = vault.seal(task, secrets);
    expect(Buffer.from(bytes).includes("pin-1234")).toBe(false);
    expect(vault.open(task, bytes)).toEqual(secrets);
    expect(() => vault.open(taskIdSchema.parse(uuid(22)), bytes)).toThrow(/does not open/);
    expect(() => createSecretVault(otherKey).open(task, bytes)).toThrow(/does not open/);
  });

  it("binds values to a request's digest under a key of the cluster", async () => {
    const [key, otherKey] = [await keyOf("one"), await keyOf("two")];
    const digest = "a".repeat(64);
    const other = [secretSchema.parse({ name: "S", value: "pin-1235" })];
    const bound = createSecretVault(key).digest(digest, [secrets]);
    expect(bound).toMatch(/^[0-9a-f]{64}$/);
    expect(createSecretVault(key).digest(digest, [secrets])).toBe(bound);
    expect(createSecretVault(key).digest(digest, [other])).not.toBe(bound);
    expect(createSecretVault(otherKey).digest(digest, [secrets])).not.toBe(bound);
  });
});
