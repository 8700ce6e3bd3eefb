// What the engine asks of the machine it runs on: folders, evidence, executions, free space, time since boot. One interface,
// so that the simulator can stand in for a whole machine. Decides nothing.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Background } from "../shared/background.ts";
import type { Clock } from "../shared/clock.ts";
import type { AttemptId } from "../shared/ids.ts";
import type { ProgressLine } from "../shared/progress-line.ts";
import type { Random } from "../shared/random.ts";
import type { Stream } from "../shared/task.ts";
import type { Secret } from "../shared/secret.ts";
import type { OfferItem } from "../shared/wire/offer.ts";
import { admitOffer, defaultFreeBytesAtLeast } from "./admission.ts";
import type { AttemptEffect } from "./attempt.ts";
import { AttemptFolder, listAttemptFolders } from "./attempt-folder.ts";
import type { Controller } from "./cgroup-layout.ts";
import { openCgroups, type Cgroups } from "./cgroups.ts";
import { gatherEvidence } from "./evidence.ts";
import { Execution } from "./execution.ts";
import type { ExecutionDeps, ExecutionOptions } from "./execution.ts";
import { bootMs, freeBytesNow } from "./host.ts";
import type { AttemptFacts } from "./journal-record.ts";
import type { JournaledAttempt } from "./journal-state.ts";
import { KeptFolders } from "./kept-folders.ts";
import { LocalHost } from "./local-host.ts";
import type { LogOutlet, LogShipper } from "./log-shipper.ts";
import { isAlive } from "./process-table.ts";
import { PipePool } from "./pipe-pool.ts";
import type { PipePoolDeps } from "./pipe-pool.ts";
import type { Evidence } from "./recovery.ts";
import type { Admission } from "./roster-event.ts";
import { memoryFolder, removeSecretFiles } from "./script-secrets.ts";
import { ScriptUsers } from "./script-users.ts";
import { SecretStore } from "./secret-store.ts";
import { whyNoUpdate, type UpdateTaskOptions } from "./update/task.ts";
import type { ShimStartOptions } from "./shim-start.ts";
import { UserPlaces } from "./user-places.ts";

/** The driver of one attempt that runs a script; execution.ts is the real one. */
export interface AttemptExecution {
  perform(effect: AttemptEffect): Promise<void>;
  attach(outlets: Readonly<Record<Stream, LogOutlet>>, from: "start" | "node"): void;
  detach(): void;
  shipper(stream: Stream): Pick<LogShipper, "acknowledged" | "resumeFrom">;
  progress(): ProgressLine | undefined;
  seal(lengths: Readonly<Record<Stream, number>>): void;
  stop(): Promise<void>;
}

export interface Site {
  readonly hostBootId: string;
  /** Milliseconds since boot, suspend included. */
  bootMs(): number;
  freeBytes(): number;
  /** Makes the folder of the attempts. */
  prepare(): Promise<void>;
  admit(offer: OfferItem, facts: { readonly freeBytes: number; readonly stoodMs: number }): Admission;
  /** On disk, sealed, once it resolves. */
  keepSecrets(attempt: AttemptId, secrets: readonly Secret[]): Promise<void>;
  evidence(attempt: AttemptId, journaled: JournaledAttempt | undefined): Evidence;
  /** Attempts that have a folder. */
  folders(): Promise<AttemptId[]>;
  removeFolder(attempt: AttemptId): Promise<void>;
  execution(
    deps: ExecutionDeps,
    attempt: { readonly attempt: AttemptId; readonly facts: AttemptFacts | undefined },
  ): AttemptExecution;
  /** The agent stops; scripts go on. */
  close(): void;
}

export interface HostSiteOptions extends ShimStartOptions, Omit<ExecutionOptions, "attempt" | "facts" | "host"> {
  readonly dataPath: string;
  readonly hostBootId: string;
  readonly updates: UpdateTaskOptions;
  /** Of its control groups; tells the agents of one host apart. Without, none are made. */
  readonly groupName?: string;
  /** Of this data directory, for the secrets of scripts. */
  readonly secretKey: Buffer;
  /** How long the work folder of a failed attempt stays after the attempt's own. Default 0: not at all. */
  readonly keepFailedMs?: number;
  /** Free space below which offers are refused `disk-full`. Default 32 MiB. */
  readonly freeBytesAtLeast?: number;
}

export class HostSite implements Site {
  readonly #background: Background;
  readonly #options: HostSiteOptions;
  readonly #attemptsPath: string;
  readonly #pipes: PipePool;
  readonly #secrets: SecretStore;
  readonly #cgroups: Cgroups | undefined;
  readonly #kept: KeptFolders;
  readonly #places: UserPlaces;
  readonly #users: ScriptUsers;

  constructor(
    deps: PipePoolDeps & { readonly random: Pick<Random, "bytes">; readonly clock: Clock },
    options: HostSiteOptions,
  ) {
    this.#background = deps.background;
    this.#options = options;
    this.#pipes = new PipePool(deps, { path: join(options.dataPath, "pipes") });
    this.#attemptsPath = join(options.dataPath, "attempts");
    this.#secrets = new SecretStore(deps, { attemptsPath: this.#attemptsPath, key: options.secretKey });
    this.#kept = new KeptFolders(
      { ...deps, freeBytes: () => this.freeBytes() },
      {
        path: join(options.dataPath, "kept"),
        keptMs: options.keepFailedMs ?? 0,
        freeBytesAtLeast: 2 * (options.freeBytesAtLeast ?? defaultFreeBytesAtLeast),
      },
    );
    this.#places = new UserPlaces({ dataPath: options.dataPath });
    this.#users = new ScriptUsers({ clock: deps.clock, places: this.#places });
    this.#cgroups = options.groupName === undefined ? undefined : openCgroups(options.groupName);
  }

  get hostBootId(): string {
    return this.#options.hostBootId;
  }

  bootMs(): number {
    return bootMs();
  }

  freeBytes(): number {
    return freeBytesNow(this.#options.dataPath);
  }

  /** What the host lets this agent do with control groups. */
  get groups(): { readonly tree: boolean; readonly memory: boolean; readonly pids: boolean } {
    const can = (controller: Controller): boolean => this.#cgroups?.canLimit(controller) ?? false;
    return { tree: this.#cgroups !== undefined, memory: can("memory"), pids: can("pids") };
  }

  async prepare(): Promise<void> {
    await mkdir(this.#attemptsPath, { recursive: true, mode: 0o700 });
    await this.#pipes.start();
    this.#kept.start();
  }

  admit(offer: OfferItem, facts: { readonly freeBytes: number; readonly stoodMs: number }): Admission {
    return admitOffer(offer, {
      ...facts,
      freeBytesAtLeast: this.#options.freeBytesAtLeast ?? defaultFreeBytesAtLeast,
      searchPath: this.#options.environment["PATH"],
      canLimit: (controller) => this.#cgroups?.canLimit(controller) ?? false,
      judgeUser: (request) => this.#users.judge(request),
      updateLack: () => whyNoUpdate(this.#options.updates),
    });
  }

  keepSecrets(attempt: AttemptId, secrets: readonly Secret[]): Promise<void> {
    return this.#secrets.keep(attempt, secrets);
  }

  evidence(attempt: AttemptId, journaled: JournaledAttempt | undefined): Evidence {
    return gatherEvidence(this.#folder(attempt), journaled, { hostBootId: this.hostBootId, isAlive });
  }

  folders(): Promise<AttemptId[]> {
    return listAttemptFolders(this.#attemptsPath);
  }

  async removeFolder(attempt: AttemptId): Promise<void> {
    this.#cgroups?.remove(attempt);
    const folder = this.#folder(attempt);
    const places = this.#places;
    const own = await places.takeBack(attempt);
    const work = own === "taken" ? this.#folder(attempt, places.place(attempt)).work : folder.work;
    if ((this.#options.keepFailedMs ?? 0) > 0 && folder.hasFailed()) await this.#kept.keep(attempt, work);
    await removeSecretFiles({ attempt, folder: folder.path, memory: memoryFolder });
    if (own === "taken") await places.remove(attempt);
    await folder.remove();
  }

  execution(
    deps: ExecutionDeps,
    { attempt, facts }: { readonly attempt: AttemptId; readonly facts: AttemptFacts | undefined },
  ): AttemptExecution {
    const host = new LocalHost({
      ...this.#options,
      pipes: this.#pipes,
      cgroups: this.#cgroups,
      onEntering: () => this.#makeWay(),
      secrets: this.#secrets,
      users: this.#users,
      places: this.#places,
      attempt,
      facts,
      attemptsPath: this.#attemptsPath,
    });
    return new Execution(deps, { ...this.#options, attempt, facts, host });
  }

  close(): void {
    this.#users.close();
    this.#kept.stop();
    this.#cgroups?.close();
  }

  #makeWay(): void {
    const cgroups = this.#cgroups;
    if (cgroups !== undefined) this.#background.run("make way for a script", () => cgroups.expectEntry());
  }

  #folder(attempt: AttemptId, place?: string): AttemptFolder {
    return new AttemptFolder({ attemptsPath: this.#attemptsPath, attempt, place });
  }
}
