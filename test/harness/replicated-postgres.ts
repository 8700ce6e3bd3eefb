// A PostgreSQL and its streaming standby, for failovers: a commit is answered when both have it flushed
// (synchronous_standby_names), so a promotion loses nothing that was acknowledged. Durability is that of production.
// Invariant: the old primary, its backends and its WAL senders are dead before a standby is promoted.
import { execFile } from "node:child_process";
import { chown, mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { Client, type QueryResultRow } from "pg";
import { accessPathIn, clusterPathIn } from "../../server/store/embedded-cluster.ts";
import { loadAccess } from "../../server/store/embedded-access.ts";
import { EmbeddedPostgres } from "../../server/store/embedded.ts";
import { silentLogger } from "../../shared/logger.ts";
import { SystemRandom } from "../../shared/random.ts";
import { eventually } from "./eventually.ts";
import { favour } from "./favour.ts";
import { isAlive, signalAll, treeOf } from "./process.ts";
import { queryRows } from "./query.ts";
import { scratchParent } from "./scratch.ts";
import { Tending } from "./tending.ts";

interface Member {
  readonly directory: string;
  readonly server: EmbeddedPostgres;
  readonly tending: Tending;
}

const parameters = {
  // Three nodes and who looks at them.
  max_connections: "100",
  // What the primary keeps for a standby that is being made.
  wal_keep_size: "512MB",
  hot_standby: "on",
};
const recoveryMs = 60_000;

export class ReplicatedPostgres implements AsyncDisposable {
  readonly #folder: string;
  readonly #all: Member[] = [];
  #primary: Member | undefined;
  #standby: Member | undefined;
  #made = 0;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async start(): Promise<ReplicatedPostgres> {
    const made = new ReplicatedPostgres(await mkdtemp(join(scratchParent(), "holdfast-replicated-")));
    try {
      made.#primary = await made.#startMember(made.#nextDirectory());
      await made.addStandby();
    } catch (cause) {
      await made[Symbol.asyncDispose]();
      throw cause;
    }
    return made;
  }

  /** Of the primary that is, or was last. */
  get url(): string {
    return this.#first.server.url;
  }

  get port(): number {
    return Number(new URL(this.url).port);
  }

  get hasStandby(): boolean {
    return this.#standby !== undefined;
  }

  /** kill -9 of the primary with all its processes; nothing starts it again but {@link comeBack}. */
  async kill(): Promise<void> {
    const { server, tending } = this.#first;
    tending.holdDown();
    const pids = treeOf(server.pid);
    signalAll(pids, "SIGKILL");
    await eventually("the primary is dead", () => {
      const left = pids.filter((pid) => isAlive(pid));
      return { done: left.length === 0, state: left };
    });
  }

  /** Resolves when the killed primary answers again, after the recovery of a crash. */
  async comeBack(): Promise<void> {
    this.#first.tending.letLive();
    await eventually(
      "the primary answers again",
      async () => ({ done: true, state: await queryRows(this.url, "select 1") }),
      { limitMs: recoveryMs, everyMs: 200 },
    );
    favourAll(this.#first);
  }

  /** Ends the primary for good and makes the standby the primary. Without a standby until {@link addStandby}. */
  async promote(): Promise<void> {
    const standby = this.#standby;
    if (standby === undefined) throw new Error("there is no standby to promote");
    await this.kill();
    const old = this.#first;
    await queryRows(standby.server.adminUrl, "select pg_promote(true, 60)");
    this.#primary = standby;
    this.#standby = undefined;
    await this.#remove(old);
  }

  /** Copies the primary while it works, starts the copy as its standby, and has commits wait for it from then on. */
  async addStandby(): Promise<void> {
    const primary = this.#first;
    const directory = this.#nextDirectory();
    await this.#copy(primary, directory);
    const standby = await this.#startMember(directory);
    const { adminUrl } = primary.server;
    // Commits that had to wait for one that still reads what it missed would be a fault of its own.
    await followedBy(adminUrl, (row) => row["state"] === "streaming");
    // What sends and receives the WAL was started by now.
    favourAll(primary, standby);
    await queryRows(adminUrl, "alter system set synchronous_standby_names = 'standby'");
    await queryRows(adminUrl, "select pg_reload_conf()");
    await followedBy(adminUrl, (row) => row["sync_state"] === "sync");
    this.#standby = standby;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The primary last: a standby that stops tells it so.
    for (const member of this.#all.toReversed()) await this.#remove(member);
    await rm(this.#folder, { recursive: true, force: true });
  }

  get #first(): Member {
    if (this.#primary === undefined) throw new Error("there is no primary");
    return this.#primary;
  }

  #nextDirectory(): string {
    return join(this.#folder, `member-${(this.#made += 1)}`);
  }

  async #startMember(directory: string): Promise<Member> {
    const tending = new Tending();
    const deps = { clock: tending.clock, random: new SystemRandom(), logger: silentLogger };
    const server = new EmbeddedPostgres(deps, { dataDirectory: directory, parameters });
    const member = { directory, server, tending };
    this.#all.push(member);
    await server.start();
    favourAll(member);
    return member;
  }

  async #remove(member: Member): Promise<void> {
    const at = this.#all.indexOf(member);
    if (at >= 0) this.#all.splice(at, 1);
    await member.server.stop();
    await rm(member.directory, { recursive: true, force: true });
  }

  /** PostgreSQL's own backup from below: its mark, a copy of the files as they change, and the WAL of meanwhile over the line. */
  async #copy(from: Member, directory: string): Promise<void> {
    const source = join(from.directory, "postgres");
    const target = join(directory, "postgres");
    await mkdir(target, { recursive: true, mode: 0o711 });
    const client = new Client({ connectionString: from.server.adminUrl });
    client.on("error", () => undefined);
    await client.connect();
    let label = "";
    try {
      await client.query("select pg_backup_start('standby', true)");
      await copyChanging(source, target);
      const { rows } = await client.query<{ labelfile: string }>("select labelfile from pg_backup_stop(false)");
      label = rows[0]?.labelfile ?? "";
    } finally {
      await client.end();
    }
    const access = await loadAccess(accessPathIn(source));
    const cluster = clusterPathIn(target);
    const line = `host=127.0.0.1 port=${from.server.adminUrl.match(/:(\d+)\//)?.[1]} user=postgres password=${access?.adminPassword} application_name=standby`;
    await this.#ownedFile(cluster, "backup_label", label);
    await this.#ownedFile(cluster, "standby.signal", "");
    // Also takes the place of the primary's own, which has commits wait for a standby that a promoted one does not have yet.
    await this.#ownedFile(cluster, "postgresql.auto.conf", `primary_conninfo = '${line}'\n`);
  }

  async #ownedFile(cluster: string, name: string, text: string): Promise<void> {
    const { uid, gid } = await stat(cluster);
    await writeFile(join(cluster, name), text, { mode: 0o600 });
    await chown(join(cluster, name), uid, gid);
  }
}

/**
 * A machine of its own in the field: beside scripts on this one a standby would not catch up for minutes. Each process of
 * PostgreSQL makes itself a session, so each is favoured; those to come inherit the nice value, and no more than that.
 */
function favourAll(...members: readonly Member[]): void {
  for (const { server } of members) for (const pid of server.pid === undefined ? [] : treeOf(server.pid)) favour(pid);
}

async function followedBy(adminUrl: string, isGood: (row: QueryResultRow) => boolean): Promise<void> {
  await eventually(
    "the standby follows",
    async () => {
      const rows = await queryRows(adminUrl, "select sync_state, state from pg_stat_replication");
      return { done: rows.some(isGood), state: rows };
    },
    // Each look is a connection with its proof of the password.
    { limitMs: recoveryMs, everyMs: 200 },
  );
}

/** tar, for cp takes a file that goes or grows meanwhile for a failure; 1 says "changed as it was read". */
async function copyChanging(source: string, target: string): Promise<void> {
  const left = ["cluster/postmaster.pid", "cluster/postmaster.opts", "postgres.log"].map(
    (name) => `--exclude=./${name}`,
  );
  const script = 'tar -C "$1" -cf - "${@:3}" . 2>/dev/null | tar -C "$2" -xpf -; echo "${PIPESTATUS[*]}"';
  const { stdout, stderr } = await promisify(execFile)("bash", ["-c", script, "copy", source, target, ...left]);
  if (!/^[01] 0\n$/.test(stdout)) throw new Error(`copy of ${source}: ${stdout} ${stderr}`);
}
