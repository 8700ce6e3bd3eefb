// One attempt on this machine: its folder under the data directory, its shim, /proc. Carries out, decides nothing.
import { closeSync, existsSync, mkdirSync, statSync, watch } from "node:fs";
import { join } from "node:path";
import { AppError } from "../shared/errors.ts";
import type { AttemptId } from "../shared/ids.ts";
import type { ProgressLine } from "../shared/progress-line.ts";
import type { ScriptSpec, Stream } from "../shared/task.ts";
import { placeAttachments } from "./attachments.ts";
import { AttemptCgroup } from "./attempt-cgroup.ts";
import { AttemptFolder } from "./attempt-folder.ts";
import type { AttemptHost, FolderWatch, ShimEnd } from "./attempt-host.ts";
import type { Cgroups } from "./cgroups.ts";
import { bootMs } from "./host.ts";
import { findInterpreter } from "./interpreters.ts";
import type { AttemptFacts } from "./journal-record.ts";
import { readOutputs, type ScriptOutputs } from "./output-variables.ts";
import type { PipePool } from "./pipe-pool.ts";
import { localProcesses, membersOf, type ProcessControl } from "./process-tree.ts";
import { readProgress } from "./progress-file.ts";
import { createRedactor, maskAll, type Redactor } from "./redact.ts";
import { dropSecretFiles, memoryFolder, placeSecrets, type SecretPlace } from "./script-secrets.ts";
import type { KeptSecrets, SecretStore } from "./secret-store.ts";
import type { RunAs, ScriptUsers } from "./script-users.ts";
import { startShim, taskVariables } from "./shim-start.ts";
import type { ShimStartOptions } from "./shim-start.ts";
import { Spool } from "./spool.ts";
import type { UserPlaces } from "./user-places.ts";

export interface LocalHostOptions extends ShimStartOptions {
  readonly attempt: AttemptId;
  /** Missing when a damaged journal lost them: then there is only a finished attempt's log to send. */
  readonly facts: AttemptFacts | undefined;
  readonly attemptsPath: string;
  readonly secrets: Pick<SecretStore, "read">;
  /** Both are missing only where no script is started. */
  readonly users?: ScriptUsers;
  readonly places?: UserPlaces;
  /** Pipes made ahead; without, the shim makes its own. */
  readonly pipes?: Pick<PipePool, "take">;
  /** Missing where the host lets the agent make no control group. */
  readonly cgroups?: Pick<Cgroups, "make"> | undefined;
  /** Told when the script is about to enter its control group, which is made by then. */
  readonly onEntering?: () => void;
}

/** What is laid out for the start. */
interface Layout {
  /** Of the script. */
  readonly path: string;
  readonly commandsPath: string;
  readonly runAs: RunAs | undefined;
}

export class LocalHost implements AttemptHost {
  readonly #options: LocalHostOptions;
  readonly folder: AttemptFolder;
  readonly output: Readonly<Record<Stream, Spool>>;
  readonly processes: ProcessControl = {
    ...localProcesses,
    membersOf: (tree) =>
      tree.ending === "swept" && this.#hasLeftNothing() ? [] : membersOf(tree, this.#group?.pids()),
    killGroup: () => this.#group?.kill(),
    isGroupEmpty: () => this.#group?.isEmpty() ?? true,
  };
  #group: AttemptCgroup | undefined;
  #layout: Layout | undefined;
  readonly #secrets: KeptSecrets;
  readonly #redactor: Redactor | undefined;

  constructor(options: LocalHostOptions) {
    this.#options = options;
    const { attempt, attemptsPath, facts, users } = options;
    const user = facts?.spec.kind === "script" ? facts.spec.user : undefined;
    this.folder = new AttemptFolder({ attemptsPath, attempt, place: users?.placeOf(attempt, user) });
    this.#secrets = this.#readSecrets();
    const { segmentBytes } = options.bounds;
    const redactor = redactorFor(this.#secrets);
    this.#redactor = redactor;
    const spoolOf = (stream: Stream): Spool => new Spool({ path: this.folder.stream(stream), segmentBytes, redactor });
    this.output = { out: spoolOf("out"), err: spoolOf("err") };
    const places = this.folder.groups();
    if (places.length > 0) this.#group = new AttemptCgroup(places);
  }

  bootMs(): number {
    return bootMs();
  }

  async prepare(): Promise<void> {
    this.#layout = await this.#write();
  }

  async spawn(onEnd: (end: ShimEnd) => void): Promise<void> {
    const { path, commandsPath, runAs } = this.#layout ?? (await this.#write());
    // It may have waited for its turn since it was laid out.
    this.#tellEntry();
    const script = { facts: this.#facts, path, runAs };
    const secrets = this.#placeSecrets(runAs, taskVariables(this.#facts.spec));
    let child;
    try {
      child = startShim({ ...script, secrets }, this.folder, { ...this.#options, commandsPath });
    } finally {
      if (secrets !== undefined) closeSync(secrets);
    }
    child.unref();
    child.on("error", (cause) => {
      this.#dropSecretFiles();
      onEnd({ kind: "refused", cause });
    });
    child.on("exit", (code) => onEnd({ kind: "exited", code }));
  }

  watch(onChange: (name?: string) => void): FolderWatch {
    const watcher = watch(this.folder.path, { persistent: false }, (_, name) => onChange(name ?? undefined));
    watcher.on("error", () => watcher.close());
    return watcher;
  }

  /** The file's own time, which a restart of the agent does not move. */
  signedAtMs(): number | undefined {
    return statSync(join(this.folder.path, "run", "shim"), { throwIfNoEntry: false })?.mtimeMs;
  }

  /** For want of memory the kernel killed something of it. */
  ranOutOfMemory(): boolean {
    return (this.#group?.oomKills() ?? 0) > 0;
  }

  outputs(): ScriptOutputs {
    return readOutputs(this.folder.outputs, this.#redactor);
  }

  progress(): ProgressLine | undefined {
    return readProgress(this.folder.progress, this.#redactor);
  }

  release(): void {
    this.#group?.remove();
    this.#dropSecretFiles();
  }

  /** Most attempts have none, and cost no look at the disk. */
  #readSecrets(): KeptSecrets {
    const { attempt, facts, secrets } = this.#options;
    if (facts !== undefined && facts.secrets === undefined) return { kind: "none" };
    const kept = secrets.read(attempt);
    if (kept.kind !== "none" || facts === undefined) return kept;
    return { kind: "lost", why: "their file is gone" };
  }

  get #secretPlace(): SecretPlace {
    return { attempt: this.#options.attempt, folder: this.folder.place, memory: memoryFolder };
  }

  /** The script has ended and nobody is in its group any more. A look at every process of the host would say no more. */
  #hasLeftNothing(): boolean {
    if (this.#group === undefined || !this.folder.isGrouped() || this.folder.exit() === undefined) return false;
    return this.#group.isEmpty();
  }

  #placeSecrets(runAs: RunAs | undefined, variables: Iterable<readonly [string, string]>): number | undefined {
    if (this.#secrets.kind === "lost")
      throw new AppError("internal", `the script's secrets are lost: ${this.#secrets.why}`);
    const secrets = this.#secrets.kind === "kept" ? this.#secrets.secrets : [];
    if (runAs !== undefined) return placeSecrets({ ...this.#secretPlace, owner: runAs.owner }, secrets, variables);
    return this.#secrets.kind === "none" ? undefined : placeSecrets(this.#secretPlace, secrets);
  }

  #dropSecretFiles(): void {
    if (this.#secrets.kind !== "none") dropSecretFiles(this.#secretPlace);
  }

  async #write(): Promise<Layout> {
    const { spec } = this.#facts;
    const { places } = this.#options;
    const runAs = spec.user === undefined ? undefined : await this.#become(spec.user);
    const isElsewhere = this.folder.place !== this.folder.path;
    if (isElsewhere) places?.open();
    const commandsPath = (isElsewhere ? await places?.commands() : undefined) ?? this.#options.commandsPath;
    const interpreter = findInterpreter(spec.interpreter, this.#options.environment["PATH"]);
    const path = this.folder.write(interpreter?.scriptName ?? "script", spec.script);
    const owner = runAs?.owner;
    placeAttachments({ attempt: this.folder.place, work: this.folder.work, owner }, spec.files ?? []);
    if (owner !== undefined) this.folder.giveTo(owner, path);
    if (runAs !== undefined) this.folder.markUser(runAs.account.uid);
    this.#makeGroups(spec);
    this.#options.pipes?.take(this.folder.pipes);
    return { path, commandsPath, runAs };
  }

  /** May take minutes, in which the attempt is cancelled, or forgotten with its folder: nothing of it is begun after that. */
  async #become(user: string): Promise<RunAs> {
    const { users, attempt } = this.#options;
    if (users === undefined)
      throw new AppError("internal", `attempt ${attempt} names ${user}: nothing here becomes a user`);
    mkdirSync(this.folder.path, { recursive: true, mode: 0o700 });
    const runAs = await users.runAs(user);
    if (this.folder.isDeclaredNever() || !existsSync(this.folder.path))
      throw new AppError("internal", `attempt ${attempt} ended while its user was looked up`);
    return runAs;
  }

  /** Those that are there stay: an older shim may be about to enter them. */
  #makeGroups(spec: ScriptSpec): void {
    this.#findGroups(spec);
    this.#tellEntry();
  }

  #tellEntry(): void {
    if (this.#group !== undefined) this.#options.onEntering?.();
  }

  #findGroups(spec: ScriptSpec): void {
    const { cgroups, attempt } = this.#options;
    if (this.#group?.places.every(({ path }) => existsSync(path)) === true) return;
    const limits = { memoryBytes: spec.memoryBytes, pids: spec.pids };
    const isLimited = spec.memoryBytes !== undefined || spec.pids !== undefined;
    if (cgroups === undefined) {
      if (isLimited) throw new AppError("internal", "this host lets the agent make no control group");
      return;
    }
    try {
      this.#group = cgroups.make(attempt, limits);
    } catch (cause) {
      if (isLimited) throw cause;
      return;
    }
    this.folder.writeGroups(this.#group.places);
  }

  get #facts(): AttemptFacts & { readonly spec: ScriptSpec } {
    const { attempt, facts } = this.#options;
    if (facts?.spec.kind !== "script") throw new AppError("internal", `attempt ${attempt} has no script to run`);
    if (facts.lostFields !== undefined)
      throw new AppError("internal", `this version does not know ${facts.lostFields.join(", ")} of the task`);
    return { ...facts, spec: facts.spec };
  }
}

/** What cannot be read cannot be masked: then nothing leaves but the length. */
function redactorFor(kept: KeptSecrets): Redactor | undefined {
  switch (kept.kind) {
    case "none":
      return undefined;
    case "kept":
      return createRedactor(kept.secrets.map(({ value }) => value));
    case "lost":
      return maskAll;
  }
}
