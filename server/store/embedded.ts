// The embedded PostgreSQL of a single-machine cluster, as a Service: initialises, adopts or starts, watches and stops
// it. Take the DataDirectoryLock first and stop this last. Invariant: at most one postmaster serves the cluster, and a
// postmaster that outlived a killed server is taken over with its connections, never started a second time.
import { chmod, mkdir, readFile, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Background } from "../../shared/background.ts";
import type { Clock, Timer } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import type { Logger } from "../../shared/logger.ts";
import type { Random } from "../../shared/random.ts";
import type { Service } from "../../shared/service.ts";
import { adminUrl, databaseUrl, saveAccess } from "./embedded-access.ts";
import type { Access } from "./embedded-access.ts";
import { accountFor, openQuarters } from "./embedded-account.ts";
import type { Quarters } from "./embedded-account.ts";
import { findBinaries } from "./embedded-binaries.ts";
import type { Binaries } from "./embedded-binaries.ts";
import { accessPathIn, clusterPathIn, ensureCluster, ensureDatabase } from "./embedded-cluster.ts";
import {
  boundLog,
  findPostmaster,
  freePort,
  hasEnded,
  isAlive,
  isPidTaken,
  launchPostmaster,
  servesCluster,
  wasLeftRunning,
  stopPostmaster,
  waitUntilReady,
} from "./embedded-process.ts";
import type { Postmaster } from "./embedded-process.ts";

/** For one to three nodes and 2 cores. Durability is left at PostgreSQL's own defaults and spelled out. */
const defaultParameters = {
  fsync: "on",
  full_page_writes: "on",
  synchronous_commit: "on",
  listen_addresses: "127.0.0.1",
  // A socket's path may take 107 bytes at most, and the data directory may be deeper.
  unix_socket_directories: "",
  max_connections: "100",
  shared_buffers: "128MB",
  wal_compression: "on",
  random_page_cost: "1.1",
  // Short statements only: compiling them costs more than it saves.
  jit: "off",
  password_encryption: "scram-sha-256",
  timezone: "UTC",
  log_timezone: "UTC",
  log_line_prefix: "%m [%p] ",
  log_checkpoints: "off",
  // SECURITY S13: values never reach the log, not even those of failing statements.
  log_parameter_max_length: "0",
  log_parameter_max_length_on_error: "0",
} as const;

/** How long orphaned backends of a killed postmaster may take to end, and how often the start is tried meanwhile. */
const orphansLimitMs = 15_000;
const launchAgainMs = 200;
const watchPeriodMs = 1_000;
const boundLogPeriodMs = 60_000;
/** A postmaster found stopping (its server was asked to stop, then killed) gets as long as a fast shutdown. */
const stoppingLimitMs = 40_000;

export interface EmbeddedOptions {
  /** The server's data directory; everything of PostgreSQL lies in its folder `postgres`. */
  readonly dataDirectory: string;
  /** Settings over the defaults above. */
  readonly parameters?: Readonly<Record<string, string>>;
  /** Where the programs are copied when the package's folder cannot be used; see embedded-binaries.ts. */
  readonly cacheDirectory?: string;
}

interface Running {
  readonly is: "running";
  readonly postmaster: Postmaster;
  readonly access: Access;
  readonly binaries: Binaries;
  readonly quarters: Quarters;
  readonly timers: readonly Timer[];
}

export class EmbeddedPostgres implements Service {
  readonly #deps: { readonly clock: Clock; readonly random: Random; readonly logger: Logger };
  readonly #options: EmbeddedOptions;
  readonly #home: string;
  readonly #background: Background;
  #state: { readonly is: "stopped" } | Running = { is: "stopped" };

  constructor(
    deps: { readonly clock: Clock; readonly random: Random; readonly logger: Logger },
    options: EmbeddedOptions,
  ) {
    this.#deps = deps;
    this.#options = options;
    this.#home = resolve(options.dataDirectory, "postgres");
    this.#background = new Background(deps);
  }

  /** `postgres://holdfast:…@127.0.0.1:…/holdfast`: a secret; never log it. */
  get url(): string {
    return databaseUrl(this.#running.access);
  }

  /** The superuser's URL, for a person's repair work and for tests: a secret. */
  get adminUrl(): string {
    return adminUrl(this.#running.access);
  }

  get pid(): number {
    return this.#running.postmaster.pid;
  }

  /** Throws AppError `embedded-postgres.missing` or `embedded-postgres.failed`. */
  async start(): Promise<void> {
    if (this.#state.is === "running") return;
    const { clock } = this.#deps;
    await mkdir(this.#home, { recursive: true, mode: 0o700 });
    const quarters = await openQuarters(this.#home, await accountFor(this.#cluster));
    let launched: Postmaster | undefined;
    try {
      // Others may pass through, not look in: outside Linux the account reaches its cluster by path.
      await chmod(this.#home, quarters.account === undefined ? 0o700 : 0o711);
      const binaries = await findBinaries(quarters, this.#options);
      const durability = this.#options.parameters?.["fsync"] === "off" ? "none" : "synced";
      let access = await ensureCluster(
        { random: this.#deps.random, quarters, binaries },
        { home: this.#home, durability },
      );
      const adopted = await this.#adopt();
      const port = adopted?.port ?? (await freePort(access.port));
      if (port !== access.port) await saveAccess(accessPathIn(this.#home), (access = { ...access, port }));
      const postmaster = adopted ?? (launched = await this.#launch(quarters, binaries, access));
      await ensureDatabase(access);
      const timers = [
        clock.every(watchPeriodMs, () => this.#watch()),
        clock.every(boundLogPeriodMs, () => this.#boundLog()),
      ];
      this.#state = { is: "running", postmaster, access, binaries, quarters, timers };
      this.#deps.logger.info(
        { postgresPid: postmaster.pid, port },
        adopted === undefined ? "PostgreSQL started" : "PostgreSQL adopted",
      );
    } catch (cause) {
      if (launched !== undefined) await stopPostmaster(this.#deps, launched, this.#cluster);
      await quarters.close();
      throw AppError.from(cause, "embedded-postgres.failed");
    }
  }

  async stop(): Promise<void> {
    if (this.#state.is === "stopped") return;
    const { timers } = this.#state;
    for (const timer of timers) timer.cancel();
    await this.#background.settle();
    const { postmaster, quarters } = this.#running;
    this.#state = { is: "stopped" };
    const how = await stopPostmaster(this.#deps, postmaster, this.#cluster);
    await quarters.close();
    this.#deps.logger.info({ postgresPid: postmaster.pid, how }, "PostgreSQL stopped");
  }

  get #cluster(): string {
    return clusterPathIn(this.#home);
  }

  get #logPath(): string {
    return join(this.#home, "postgres.log");
  }

  get #running(): Running {
    if (this.#state.is !== "running")
      throw new AppError("database.unavailable", "the embedded PostgreSQL is not started");
    return this.#state;
  }

  async #adopt(): Promise<Postmaster | undefined> {
    const found = await findPostmaster(this.#cluster);
    if (found === undefined) {
      await this.#dropForeignPid();
      return undefined;
    }
    const { pid, status } = found;
    if (status === "ready") return found;
    if (status === "stopping") {
      if (await hasEnded(this.#deps.clock, pid, stoppingLimitMs)) return undefined;
      throw new AppError("embedded-postgres.failed", `the earlier PostgreSQL, pid ${pid}, does not finish stopping`);
    }
    const endOf = async (): Promise<string | undefined> => ((await isAlive(pid)) ? undefined : "ended");
    const outcome = await waitUntilReady(this.#deps, this.#cluster, endOf);
    return typeof outcome === "string" ? undefined : outcome;
  }

  /**
   * PostgreSQL refuses to start while the pid in a left-over file is taken, be it by a zombie or by another program.
   * Only a file whose pid was found not to be this cluster's postmaster goes; PostgreSQL's own check of shared memory
   * still keeps a second postmaster out.
   */
  async #dropForeignPid(): Promise<void> {
    const path = join(this.#cluster, "postmaster.pid");
    const pid = Number((await readFile(path, "utf8").catch(() => "")).split("\n", 1)[0]);
    if (pid > 1 && isPidTaken(pid) && !(await servesCluster(pid, this.#cluster))) await rm(path, { force: true });
  }

  async #launch(quarters: Quarters, binaries: Binaries, access: Access): Promise<Postmaster> {
    const { clock } = this.#deps;
    const parameters = { ...defaultParameters, port: String(access.port), ...this.#options.parameters };
    const args = Object.entries(parameters).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    const deadlineMs = clock.monotonicMs() + orphansLimitMs;
    for (;;) {
      const isUnclean = await wasLeftRunning(this.#cluster);
      try {
        return await launchPostmaster(
          { clock, quarters },
          {
            program: binaries.postgres,
            args: ["-D", quarters.pathOf("cluster"), ...args],
            cluster: this.#cluster,
            logPath: this.#logPath,
          },
        );
      } catch (cause) {
        // Orphans of a killed postmaster hold its shared memory until they notice.
        if (!isUnclean || clock.monotonicMs() > deadlineMs) throw cause;
        await clock.sleep(launchAgainMs);
        await this.#dropForeignPid();
      }
    }
  }

  /** Brings a postmaster back that died under the server, on the same port, so that pools find it again. */
  #watch(): void {
    if (this.#background.size > 0) return;
    this.#background.run("watch PostgreSQL", async () => {
      const running = this.#running;
      if (await isAlive(running.postmaster.pid)) return;
      this.#deps.logger.error(
        { postgresPid: running.postmaster.pid, log: this.#logPath },
        "PostgreSQL ended by itself: starting it again",
      );
      const postmaster =
        (await this.#adopt()) ?? (await this.#launch(running.quarters, running.binaries, running.access));
      this.#state = { ...running, postmaster };
    });
  }

  #boundLog(): void {
    this.#background.run("bound PostgreSQL's log", () => boundLog(this.#logPath));
  }
}
