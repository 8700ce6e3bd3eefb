// The processes of one simulated machine: shims on their way to a gate, the scripts and relays under them, and children that
// outlive a script. They live on when the agent dies and end when the machine loses its power. Stands for shim.sh and /proc.
// Invariant: a process number is never given twice.
import type { Exit } from "../../agent/exit.ts";
import type { Member, ProcessControl, Tree } from "../../agent/process-tree.ts";
import type { RelayMark } from "../../agent/shim-report.ts";
import type { AttemptId } from "../../shared/ids.ts";
import { streams } from "../../shared/task.ts";
import type { SeededRandom } from "./kernel/random.ts";
import type { Folder, Machine } from "./machine.ts";
import { readPlan, type ScriptPlan } from "./script.ts";
import { short } from "./short.ts";
import type { ScriptTruth } from "./truth.ts";

export interface Shim {
  readonly pid: number;
  readonly startTicks: string;
  readonly attempt: AttemptId;
  readonly folder: Folder;
  readonly onEnd: (code: number | null) => void;
  stage: "spawned" | "gate" | "signed" | "script" | "writing" | "gone";
  /** The script under it. */
  script: "none" | "running" | "ended";
  child: "none" | "running";
  /** They move what script and child write, and end a moment after the last of both. */
  relays: "none" | "running" | "ended";
  /** Set while it waits for the last writer of the output: what it does then. */
  conclude?: (() => void) | undefined;
  readonly plan: ScriptPlan;
}

export interface ProcessesOptions {
  /** Longest time until a spawned shim gets to the gate, and from there to its signature. */
  readonly slowestShimMs: number;
  /** Probability that something kills a running script's shim. */
  readonly shimDeath: number;
}

/** What an agent grants a shim between gate and signature. */
const patienceMs = 5_000;
/** Of the processes under a shim, counted from its own number. */
const under = { script: 1, child: 2, out: 3, err: 4 };
const numbersEach = 5;

export class Processes implements ProcessControl {
  readonly #machine: Machine;
  readonly #options: ProcessesOptions;
  readonly #random: SeededRandom;
  /** By process number; those of which nothing lives any more are forgotten. */
  #shims = new Map<number, Shim>();
  /** Process numbers that belong to somebody else by now. */
  readonly recycled = new Set<number>();
  shimDeath: number;
  onStart: (attempt: AttemptId) => void = () => undefined;
  onExit: (attempt: AttemptId) => void = () => undefined;
  #pids = 1_000;

  constructor(machine: Machine, options: ProcessesOptions) {
    this.#machine = machine;
    this.#options = options;
    this.shimDeath = options.shimDeath;
    this.#random = machine.world.random(`processes ${machine.place}`);
  }

  isAlive(mark: RelayMark): boolean {
    const at = this.#at(mark.pid);
    if (at === undefined || at.shim.startTicks !== mark.startTicks) return false;
    if (at.part === 0) return at.shim.stage !== "gone";
    return (at.part === under.out || at.part === under.err) && at.shim.relays === "running";
  }

  isIdle(): boolean {
    return true;
  }

  /** Everything that lives of an attempt but the shim the caller knows of and its relays. */
  membersOf(tree: Tree): Member[] {
    const members: Member[] = [];
    for (const { attempt, pid, stage, script, child } of this.#shims.values()) {
      if (attempt !== tree.attempt) continue;
      if (stage !== "gone" && pid !== tree.shim?.pid) members.push({ pid, isScript: true });
      if (script === "running") members.push({ pid: pid + under.script, isScript: true });
      if (child === "running") members.push({ pid: pid + under.child, isScript: false });
    }
    return members;
  }

  signal(pid: number, name: NodeJS.Signals): void {
    const at = this.#at(pid);
    if (at === undefined || name === "SIGCONT") return;
    const { shim, part } = at;
    const truth = this.#truth(shim);
    if (part === under.child && shim.child === "running") this.#childEnded(shim);
    else if (part === under.script && shim.script === "running") {
      truth.wasSignalled = true;
      this.#machine.onRisk("script-signalled");
      this.#scriptSignalled(shim, name);
    } else if (part === 0 && shim.stage !== "gone") {
      // Its trap is set before its script begins; until then it dies of TERM, and starts nothing.
      const isTrapped = shim.stage === "script" || shim.stage === "writing";
      if (name === "SIGALRM") this.#conclude(shim);
      if (name !== "SIGKILL" && isTrapped) return;
      this.#machine.truth.hindered.add(shim.attempt);
      this.#shimEnded(shim, null);
    }
  }

  /** Starts a shim in the attempt's folder; `onEnd` hears its exit code if anybody still listens. */
  spawn(attempt: AttemptId, script: string, onEnd: (code: number | null) => void): void {
    const folder = this.#machine.makeFolder(attempt);
    this.#pids += numbersEach;
    const shim: Shim = {
      pid: this.#pids,
      startTicks: String(Math.trunc(this.#machine.bootMs / 10)),
      attempt,
      folder,
      onEnd,
      stage: "spawned",
      script: "none",
      child: "none",
      relays: "none",
      plan: readPlan(script),
    };
    // Several may be on their way to one gate; the one that wins it is the folder's.
    folder.shim ??= shim;
    this.#shims.set(shim.pid, shim);
    this.#after(shim, this.#random.skewed(0.5, this.#options.slowestShimMs), () => this.#atGate(shim));
  }

  losePower(): void {
    for (const shim of this.#shims.values()) {
      this.#machine.truth.hindered.add(shim.attempt);
      shim.stage = "gone";
      shim.script = shim.script === "none" ? "none" : "ended";
      shim.child = "none";
      shim.relays = "ended";
    }
    this.#shims.clear();
  }

  #at(pid: number): { readonly shim: Shim; readonly part: number } | undefined {
    const part = pid % numbersEach;
    const shim = this.#shims.get(pid - part);
    return shim === undefined ? undefined : { shim, part };
  }

  #truth(shim: Shim): ScriptTruth {
    return this.#machine.truth.script(shim.attempt, this.#machine.place);
  }

  /** Does it unless the shim died or the power failed meanwhile. */
  #after(shim: Shim, delayMs: number, act: () => void): void {
    this.#machine.world.schedule(delayMs, () => {
      if (shim.stage !== "gone") act();
    });
  }

  #atGate(shim: Shim): void {
    const { folder } = shim;
    if (this.#machine.folder(shim.attempt) !== folder) {
      this.#shimEnded(shim, 70);
      return;
    }
    if (folder.gate !== "open") {
      this.#shimEnded(shim, 75);
      return;
    }
    folder.gate = "won";
    folder.shim = shim;
    shim.stage = "gate";
    this.#machine.changed(folder);
    const signsAfterMs = this.#random.skewed(0.1, this.#options.slowestShimMs);
    // An agent's clock may run a little fast.
    if (signsAfterMs > 0.9 * patienceMs) this.#machine.truth.hindered.add(shim.attempt);
    this.#after(shim, signsAfterMs, () => {
      folder.mark = { pid: shim.pid, startTicks: shim.startTicks, uptimeMs: this.#machine.bootMs };
      shim.stage = "signed";
      this.#machine.changed(folder);
      this.#after(shim, this.#random.skewed(0.2, 20), () => this.#runScript(shim));
    });
  }

  #runScript(shim: Shim): void {
    const { world, place, disk } = this.#machine;
    const { plan, folder, attempt } = shim;
    const truth = this.#truth(shim);
    shim.stage = "script";
    shim.script = "running";
    shim.relays = "running";
    truth.startsMs.push(world.nowMs);
    truth.isAlive = true;
    world.note(`${place} script ${short(attempt)} starts`);
    this.onStart(attempt);
    if (disk.isSyncing) this.#machine.onRisk("script-begins");
    this.#after(shim, this.#random.skewed(0.1, 20), () => {
      const { startTicks } = shim;
      folder.relays = [under.out, under.err].map((part) => ({ pid: shim.pid + part, startTicks }));
      this.#machine.changed(folder);
    });
    for (let piece = 1; piece <= plan.pieces; piece += 1) {
      const atMs = plan.pieceMs === undefined ? (plan.runMs * piece) / (plan.pieces + 0.5) : plan.pieceMs * piece;
      world.schedule(atMs, () => {
        if (shim.script === "running") this.#write(shim, piece / plan.pieces);
      });
    }
    if (this.#random.chance(this.shimDeath)) {
      this.#after(shim, plan.runMs * this.#random.unit(), () => {
        if (shim.stage === "script") this.#killedByOthers(shim);
      });
    }
    world.schedule(plan.runMs, () => {
      if (shim.script === "running") this.#scriptEnded(shim, { exitCode: plan.exitCode, signal: null });
    });
  }

  #write({ folder, plan, attempt }: Shim, share: number): void {
    const truth = this.#machine.truth.script(attempt, this.#machine.place);
    for (const stream of streams) {
      const upTo = Math.floor(plan[stream] * share);
      if (upTo <= folder.size[stream]) continue;
      folder.size[stream] = upTo;
      truth.produced[stream] = Math.max(truth.produced[stream], upTo);
    }
    this.#machine.changed(folder);
  }

  #killedByOthers(shim: Shim): void {
    const { world, place } = this.#machine;
    world.note(`${place} something kills the tree of ${short(shim.attempt)}`);
    const truth = this.#truth(shim);
    truth.wasSignalled = true;
    this.#machine.truth.hindered.add(shim.attempt);
    shim.script = "ended";
    shim.child = "none";
    truth.isAlive = false;
    // Its number is soon another process's.
    this.recycled.add(shim.pid);
    this.#relaysEnd(shim);
    this.#shimEnded(shim, 137);
  }

  #shimEnded(shim: Shim, code: number | null): void {
    shim.stage = "gone";
    this.#forget(shim);
    this.#machine.changed(shim.folder);
    shim.onEnd(code);
  }

  /** With the last writer, once they have stored what is in their pipes. */
  #relaysEnd(shim: Shim): void {
    if (shim.script === "running" || shim.child === "running" || shim.relays !== "running") return;
    this.#machine.world.schedule(this.#random.skewed(0.1, 5), () => {
      shim.relays = "ended";
      this.#forget(shim);
    });
  }

  #forget(shim: Shim): void {
    const lives = shim.stage !== "gone" || [shim.script, shim.child, shim.relays].includes("running");
    if (!lives) this.#shims.delete(shim.pid);
  }

  #childEnded(shim: Shim): void {
    shim.child = "none";
    this.#truth(shim).isAlive = shim.script === "running";
    this.#relaysEnd(shim);
    this.#conclude(shim);
    this.#forget(shim);
  }

  #conclude(shim: Shim): void {
    const { conclude } = shim;
    shim.conclude = undefined;
    conclude?.();
  }

  #scriptSignalled(shim: Shim, name: NodeJS.Signals): void {
    const { onTerm } = shim.plan;
    if (name === "SIGKILL" || onTerm === "die") this.#scriptEnded(shim, { exitCode: null, signal: name }, "signal");
    else if (onTerm !== "ignore") {
      this.#machine.world.schedule(this.#random.between(1, 300), () => {
        if (shim.script === "running") this.#scriptEnded(shim, { exitCode: onTerm, signal: null }, "signal");
      });
    }
  }

  #scriptEnded(shim: Shim, exit: Exit, by: "itself" | "signal" = "itself"): void {
    const { world } = this.#machine;
    const { folder, plan } = shim;
    const truth = this.#truth(shim);
    shim.script = "ended";
    const leavesChild = by === "itself" && plan.childMs > 0;
    truth.isAlive = leavesChild;
    if (leavesChild) {
      shim.child = "running";
      world.schedule(plan.childMs, () => {
        if (shim.child === "running") this.#childEnded(shim);
      });
    }
    this.#relaysEnd(shim);
    this.#forget(shim);
    // A shell on a busy machine may take its time to notice.
    this.#after(shim, this.#random.skewed(0.2, 200), () => {
      folder.isOver = true;
      shim.stage = "writing";
      this.#machine.changed(folder);
      const overUptimeMs = this.#machine.bootMs;
      shim.conclude = () =>
        this.#after(shim, this.#random.skewed(1, 80), () => this.#writeExit(shim, exit, overUptimeMs));
      // What the script left behind holds the output open, until it ends or the agent's alarm comes.
      if (shim.child !== "running") this.#conclude(shim);
    });
  }

  #writeExit(shim: Shim, exit: Exit, overUptimeMs: number): void {
    const { world, place } = this.#machine;
    const { folder, attempt } = shim;
    const truth = this.#truth(shim);
    folder.exit = exit;
    folder.exitUptimeMs = overUptimeMs;
    truth.exit = exit;
    truth.exitAtMs = world.nowMs;
    world.note(`${place} exit of ${short(attempt)}: ${exit.exitCode ?? exit.signal}`);
    this.onExit(attempt);
    this.#shimEnded(shim, 0);
  }
}
