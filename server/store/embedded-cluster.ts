// Makes what must exist before the embedded PostgreSQL can serve: passwords, cluster, role and database. Running the
// postmaster is embedded.ts's work. Invariant: a crash on the way leaves nothing half-made in its final place.
import { chown, lstat, mkdir, open, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Client } from "pg";
import { AppError, errnoOf } from "../../shared/errors.ts";
import type { Random } from "../../shared/random.ts";
import { adminUrl, databaseUrl, loadAccess, newAccess, saveAccess } from "./embedded-access.ts";
import type { Access } from "./embedded-access.ts";
import type { Quarters } from "./embedded-account.ts";
import type { Binaries } from "./embedded-binaries.ts";
import { freePort } from "./embedded-process.ts";

export interface ClusterOptions {
  /** The folder that holds `cluster`, `access.json` and the log. */
  readonly home: string;
  /** `none` skips initdb's own sync, for a cluster that runs without fsync anyway. */
  readonly durability: "synced" | "none";
}

export const clusterPathIn = (home: string): string => join(home, "cluster");
export const accessPathIn = (home: string): string => join(home, "access.json");

/** The cluster's port and passwords; both are made when there is no cluster yet. */
export async function ensureCluster(
  deps: { readonly random: Pick<Random, "bytes">; readonly quarters: Quarters; readonly binaries: Binaries },
  options: ClusterOptions,
): Promise<Access> {
  const { home } = options;
  const accessPath = accessPathIn(home);
  const known = await loadAccess(accessPath);
  if (await exists(clusterPathIn(home))) {
    if (known !== undefined) return known;
    throw new AppError(
      "embedded-postgres.failed",
      `${accessPath} with port and passwords is missing, but the cluster exists`,
      {
        mend: "Restore that file from the backup of the data directory.",
      },
    );
  }
  const access = known ?? newAccess(deps, await freePort());
  await saveAccess(accessPath, access);
  await initialise(deps, options, access);
  return access;
}

async function initialise(
  deps: { readonly quarters: Quarters; readonly binaries: Binaries },
  options: ClusterOptions,
  access: Access,
): Promise<void> {
  const { quarters, binaries } = deps;
  const draft = join(options.home, "cluster.new");
  const passwordFile = join(options.home, "initdb-password");
  await rm(draft, { recursive: true, force: true });
  await rm(passwordFile, { force: true });
  await mkdir(draft, { mode: 0o700 });
  await writeFile(passwordFile, `${access.adminPassword}\n`, { mode: 0o600, flag: "wx" });
  const { account } = quarters;
  if (account !== undefined)
    await Promise.all([draft, passwordFile].map((path) => chown(path, account.uid, account.gid)));
  const args = [
    "-D",
    quarters.pathOf("cluster.new"),
    "-U",
    "postgres",
    `--pwfile=${quarters.pathOf("initdb-password")}`,
  ];
  args.push("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions");
  if (options.durability === "none") args.push("--no-sync");
  const { exitCode, output } = await quarters.run(binaries.initdb, args);
  await rm(passwordFile, { force: true });
  if (exitCode !== 0) {
    throw new AppError("embedded-postgres.failed", `initdb in ${draft}: ${output.split("\n").slice(-5).join(" | ")}`);
  }
  await rename(draft, clusterPathIn(options.home));
  await syncDirectory(options.home);
}

/** Role and database, made by the superuser when the role's own login does not work. */
export async function ensureDatabase(access: Access): Promise<void> {
  const own = new Client({ connectionString: databaseUrl(access) });
  try {
    await own.connect();
    return;
  } catch (cause) {
    // Wrong password, unknown role, unknown database; anything else is a fault.
    if (!["28P01", "28000", "3D000"].includes(errnoOf(cause) ?? "")) throw cause;
  } finally {
    await own.end();
  }
  const admin = new Client({ connectionString: adminUrl(access) });
  await admin.connect();
  try {
    // A failing statement would be logged with the password in it.
    await admin.query("set log_min_error_statement = 'panic'");
    const { rowCount: roles } = await admin.query("select from pg_roles where rolname = 'holdfast'");
    await admin.query(`${roles === 0 ? "create" : "alter"} role holdfast login password '${access.password}'`);
    const { rowCount: databases } = await admin.query("select from pg_database where datname = 'holdfast'");
    if (databases === 0) await admin.query("create database holdfast owner holdfast");
  } finally {
    await admin.end();
  }
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (cause: unknown) => {
      if (errnoOf(cause) === "ENOENT") return false;
      throw cause;
    },
  );
}

/** Makes a rename last through a power cut. */
async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
