// The faults of one run: when each strikes, whom, and how everything is healed at the end.
import type { JournalId } from "../../shared/ids.ts";
import type { SimAgent } from "./agent.ts";
import { calmRates, databasePlace } from "./database-server.ts";
import type { SeededRandom } from "./kernel/random.ts";
import type { MachineSnapshot, RiskyMoment } from "./machine.ts";
import type { SimNode } from "./node.ts";
import { People } from "./people.ts";
import { isGrave, type FaultKind } from "./options.ts";
import { short } from "./short.ts";
import type { Simulation } from "./simulation.ts";

interface Snapshot {
  readonly state: MachineSnapshot;
  readonly bootCounter: number;
  readonly journalId: JournalId;
}

export class Nemesis {
  readonly #sim: Simulation;
  readonly #random: SeededRandom;
  #mode: "striking" | "healed" = "striking";
  readonly #people: People;
  readonly #snapshots = new Map<SimAgent, Snapshot[]>();

  constructor(sim: Simulation) {
    this.#sim = sim;
    this.#random = sim.world.random("nemesis");
    this.#people = new People(sim);
  }

  start(): void {
    const { world, options } = this.#sim;
    for (const [kind, everyMs] of Object.entries(options.faults) as [FaultKind, number][]) {
      const next = (): void => {
        world.schedule(this.#random.between(0.2, 1.8) * everyMs, () => {
          if (this.#mode === "healed") return;
          this.#strike(kind);
          if (!isGrave(kind)) next();
        });
      };
      next();
    }
    if (options.faults["agent-disk-rolled-back"] !== undefined) this.#takeSnapshots();
  }

  heal(): void {
    const { network, database, nodes, agents, options } = this.#sim;
    this.#mode = "healed";
    network.healAll();
    database.rates = { ...calmRates };
    database.clockOffsetMs = 0;
    if (database.state === "down") this.#recover();
    this.#sim.hintLoss = Math.min(options.hintLoss, 0.5);
    this.#people.heal();
    for (const node of nodes) {
      node.process?.surviveEffects();
      node.process?.resume();
    }
    for (const agent of agents) {
      agent.machine.disk.isFull = false;
      agent.machine.processes.shimDeath = 0;
      agent.machine.onRisk = () => undefined;
      agent.machine.disk.slowestSyncMs = options.slowestSyncMs;
      agent.process?.surviveEffects();
      agent.process?.resume();
    }
  }

  #note(text: string): void {
    this.#sim.world.note(`fault: ${text}`);
  }

  #later(leastMs: number, mostMs: number, act: () => void): void {
    this.#sim.world.schedule(this.#random.between(leastMs, mostMs), () => {
      if (this.#mode === "striking") act();
    });
  }

  #strike(kind: FaultKind): void {
    const random = this.#random;
    const { nodes, agents, network, database } = this.#sim;
    const agent = random.pick(agents);
    const node = random.pick(nodes);
    const [one, other] = random.chance(0.5) ? [agent.machine.place, node.place] : [node.place, agent.machine.place];
    switch (kind) {
      case "agent-crash":
        if (random.chance(0.5)) this.#crashAgent(agent);
        else this.#onceRisky(agent, "script-signalled", () => this.#crashAgent(agent));
        return;
      case "agent-crash-mid-event":
        this.#note(`${agent.process?.name ?? ""} is to die mid-event`);
        agent.process?.dieAfterEffects(1 + random.below(12));
        return;
      case "agent-pause":
        this.#pause(agent.process, random.skewed(500, 40_000));
        return;
      case "agent-drain":
        this.#note(`${agent.options.name} drains and exits`);
        agent.drain();
        this.#sim.world.schedule(random.between(200, 3_000), () => this.#crashAgent(agent));
        return;
      case "agent-power-loss":
        this.#losePowerAtWorst(agent);
        return;
      case "agent-disk-full":
        this.#note(`disk of ${agent.machine.place} is full`);
        agent.machine.disk.isFull = true;
        agent.machine.disk.hasReserve = random.chance(0.7);
        this.#later(500, 8_000, () => {
          agent.machine.disk.isFull = false;
        });
        return;
      case "agent-disk-wiped":
        this.#when(
          () => this.#runsUnaccepted(agent),
          400,
          () => this.#wipe(agent),
        );
        return;
      case "agent-disk-rolled-back":
        this.#rollBackAtLast(agent);
        return;
      case "agent-disk-damaged":
        this.#damage(agent);
        return;
      case "agent-cloned":
        this.#clone(agent);
        return;
      case "agent-revoked":
        this.#revoke(agent);
        return;
      case "agent-removed":
        this.#remove(agent);
        return;
      case "cluster-paused":
      case "agent-held":
      case "node-set-draining":
      case "node-capped":
      case "agent-slots-set":
        this.#people.act(kind, (lift) => this.#later(500, 6_000, lift));
        return;
      case "agent-probed":
        this.#sim.probe(agent, node);
        return;
      case "agent-wall-jump":
        agent.options.clock.wallOffsetMs += random.between(-86_400_000, 86_400_000);
        return;
      case "node-crash":
        this.#crashNode(node);
        return;
      case "node-crash-mid-event":
        this.#note(`${node.process?.name ?? ""} is to die mid-event`);
        node.process?.dieAfterEffects(1 + random.below(25));
        return;
      case "node-pause":
        this.#pause(node.process, random.skewed(500, 40_000));
        return;
      case "node-drain":
        this.#note(`${node.name} drains`);
        this.#sim.pairs.drained(node.place);
        node.drain();
        return;
      case "all-nodes-crash":
        for (const each of nodes) this.#crashNode(each);
        this.#sim.pairs.allNodesKilled();
        return;
      case "link-break":
        this.#note("a connection breaks");
        if (network.connections.size > 0) random.pick([...network.connections]).break();
        return;
      case "link-cut":
        this.#note(`no way between ${one} and ${other}`);
        network.cut(one, other);
        network.cut(other, one);
        this.#later(300, 40_000, () => {
          network.heal(one, other);
          network.heal(other, one);
        });
        return;
      case "link-cut-one-way":
        this.#note(`no way from ${one} to ${other}`);
        network.cut(one, other);
        this.#later(300, 40_000, () => network.heal(one, other));
        return;
      case "link-clog":
        this.#note(`a slow way from ${one} to ${other}`);
        network.clog(one, other, random.between(200, 8_000));
        this.#later(1_000, 15_000, () => network.heal(one, other));
        return;
      case "database-crash": {
        const lost = database.crash();
        this.#note(`the database crashes and loses ${lost.join(" ")}`);
        this.#sim.pairs.databaseCrashed(lost);
        this.#later(300, 8_000, () => this.#recover());
        return;
      }
      case "database-failover":
        this.#failOverAtWorst(agent);
        return;
      case "database-cut-off":
        this.#note(`no way between ${node.place} and the database`);
        network.cut(node.place, databasePlace);
        network.cut(databasePlace, node.place);
        this.#later(500, 30_000, () => {
          network.heal(node.place, databasePlace);
          network.heal(databasePlace, node.place);
        });
        return;
      case "database-clock-step":
        database.clockOffsetMs += random.between(-120_000, 120_000);
        this.#sim.pairs.clockStepped();
        this.#note(`the database's clock is off by ${Math.round(database.clockOffsetMs)} ms`);
        return;
    }
  }

  #crashAgent(agent: SimAgent): void {
    if (agent.process === undefined) return;
    this.#note(`${agent.process.name} crashes`);
    agent.kill();
  }

  #crashNode(node: SimNode): void {
    if (node.process === undefined) return;
    this.#note(`${node.process.name} crashes`);
    node.kill();
  }

  #pause(process: SimAgent["process"], forMs: number): void {
    if (process === undefined) return;
    this.#note(`${process.name} stands still`);
    process.pause();
    this.#later(forMs, forMs, () => process.resume());
  }

  /** The machine goes dark: nobody is told that its connections are gone. */
  #goDark(agent: SimAgent): void {
    const { network } = this.#sim;
    for (const connection of network.connections)
      for (const end of connection.ends) if (end.process === agent.process) end.vanish();
    agent.kill();
  }

  /** At any time, or when it takes most: right after a write, or when a script begins while a slow disk still syncs. */
  #losePowerAtWorst(agent: SimAgent): void {
    const { worstMoment } = this.#sim.options;
    const moment = worstMoment ?? this.#random.pick(["any", "written", "sector-begun", "script-begins"] as const);
    if (moment === "any") {
      this.#losePower(agent);
      return;
    }
    const { disk } = agent.machine;
    disk.slowestSyncMs = Math.max(this.#random.between(200, 3_000), disk.slowestSyncMs);
    let spared = moment === "sector-begun" || moment === worstMoment ? 0 : this.#random.below(4);
    const strike = (): void => {
      if (spared > 0) {
        spared -= 1;
        this.#onceRisky(agent, moment, strike);
        return;
      }
      disk.slowestSyncMs = this.#sim.options.slowestSyncMs;
      this.#losePower(agent);
    };
    this.#onceRisky(agent, moment, strike);
  }

  /** Strikes right after the next such moment, unless another fault came to wait for one meanwhile. */
  #onceRisky({ machine }: SimAgent, moment: RiskyMoment, strike: () => void): void {
    machine.onRisk = (now) => {
      if (now !== moment) return;
      machine.onRisk = () => undefined;
      this.#later(0, 0, strike);
    };
  }

  #losePower(agent: SimAgent): void {
    this.#note(`${agent.machine.place} loses power`);
    this.#goDark(agent);
    agent.machine.losePower();
  }

  #openAttempts(agent: SimAgent, why: string): void {
    const { database, truth } = this.#sim;
    for (const row of database.model.attempts.rows.values())
      if (row.agent === agent.options.agent && row.rank > 0 && row.rank < 9) truth.excused.set(row.id, why);
  }

  /** Excused from telling the end of what ran, never from starting once. */
  #forgetScripts(agent: SimAgent): void {
    for (const script of this.#sim.truth.scripts.values())
      if (script.machine === agent.machine.place) script.wasCutShort = true;
  }

  /** Waits a while for the worst moment, then strikes whether or not it came. */
  #when(isRipe: () => boolean, looks: number, act: () => void): void {
    if (isRipe() || looks === 0) act();
    else this.#later(5, 5, () => this.#when(isRipe, looks - 1, act));
  }

  /** An attempt runs whose accept the database does not know. */
  #runsUnaccepted(agent: SimAgent): boolean {
    const { database, truth } = this.#sim;
    return [...database.model.attempts.rows.values()].some(
      (row) => row.agent === agent.options.agent && row.rank === 1 && truth.scripts.get(row.id)?.isAlive === true,
    );
  }

  #wipe(agent: SimAgent): void {
    this.#note(`${agent.machine.place} gets a new disk`);
    this.#goDark(agent);
    this.#sim.pairs.journalReplaced(agent.options.agent);
    agent.machine.wipe();
    // A journal that was rolled back before is gone with the disk.
    if (agent.machine.tampering === "rolled-back") agent.machine.tampering = "none";
    this.#forgetScripts(agent);
    // Its first start may end at the worst moment.
    if (this.#random.chance(0.3)) this.#onceRisky(agent, "file-made", () => this.#crashAgent(agent));
  }

  #takeSnapshots(): void {
    this.#later(500, 2_500, () => {
      for (const agent of this.#sim.agents) {
        const { journal } = agent;
        const bootCounter = journal?.state.boot?.counter;
        if (journal === undefined || bootCounter === undefined) continue;
        const taken = this.#snapshots.get(agent) ?? [];
        taken.push({ state: agent.machine.snapshot(), bootCounter, journalId: journal.id });
        this.#snapshots.set(agent, taken);
      }
      this.#takeSnapshots();
    });
  }

  /**
   * To a snapshot of an earlier boot: one of the boot the cluster knows is told from a crash by nobody, and a journal that
   * was on another disk and never greeted from a new one.
   */
  #earlierBoot(agent: SimAgent): (Snapshot & { readonly known: number }) | undefined {
    const row = this.#sim.database.model.agents.get(agent.options.agent);
    const known = row?.bootCounter ?? 0;
    const isKnown = (journal: JournalId): boolean =>
      row?.journalId === journal || row?.retiredJournals.includes(journal) === true;
    const snapshot = this.#snapshots
      .get(agent)
      ?.findLast(({ bootCounter, journalId }) => bootCounter < known && isKnown(journalId));
    return snapshot === undefined ? undefined : { ...snapshot, known };
  }

  /** Without an earlier boot there is nothing to go back to: then it is started again first. */
  #rollBackAtLast(agent: SimAgent): void {
    if (this.#earlierBoot(agent) === undefined) this.#later(2_500, 3_500, () => this.#crashAgent(agent));
    this.#when(
      () => this.#earlierBoot(agent) !== undefined,
      2_000,
      () => this.#rollBack(agent),
    );
  }

  #rollBack(agent: SimAgent): void {
    const snapshot = this.#earlierBoot(agent);
    if (snapshot === undefined) return;
    const { known } = snapshot;
    this.#note(`${agent.machine.place} is rolled back to boot ${snapshot.bootCounter}, known is ${known}`);
    this.#goDark(agent);
    agent.machine.restore(snapshot.state);
    agent.machine.tampering = "rolled-back";
    this.#forgetScripts(agent);
    // People restart what does not come up.
    for (let restart = 1; restart <= 3; restart += 1)
      this.#later(3_000 * restart, 4_000 * restart, () => {
        agent.kill();
        agent.machine.givenUp = undefined;
        agent.start();
      });
  }

  #damage(agent: SimAgent): void {
    this.#note(`a bit flips on the disk of ${agent.machine.place}`);
    agent.kill();
    if (agent.machine.disk.damage(agent.journalPath)) {
      agent.machine.tampering = "damaged";
      this.#sim.truth.stranded.set(agent.options.agent, "its journal is damaged");
      this.#openAttempts(agent, "its journal is damaged");
    }
  }

  #clone(agent: SimAgent): void {
    const { world, watch } = this.#sim;
    const { agent: id, name } = agent.options;
    if (watch.cloned.has(id)) return;
    this.#note(`${agent.machine.place} is cloned`);
    watch.cloned.add(id);
    this.#sim.pairs.cloned(agent);
    const clone = this.#sim.addAgent(id, `${name}-clone`);
    clone.machine.restore(agent.machine.snapshot());
    clone.machine.tampering = "clone";
    agent.machine.tampering = "clone";
    clone.machine.list = agent.machine.list;
    this.#sim.truth.stranded.set(id, "it was cloned");
    world.note(`clone of ${short(id)} will start`);
    this.#later(200, 3_000, () => clone.start());
  }

  #revoke(agent: SimAgent): void {
    const { database, truth } = this.#sim;
    const { model } = database;
    const id = agent.options.agent;
    this.#note(`${agent.options.name} is revoked`);
    truth.stranded.set(id, "it was revoked");
    model.transaction("durable", "revoke", () => {
      const row = model.agents.get(id);
      if (row?.status === "active") model.agents.put(id, { ...row, status: "revoked", statusReason: "by a person" });
    });
  }

  /** As a person does, through some node, until it is done; now and then its name is enrolled again afterwards. */
  #remove(agent: SimAgent): void {
    const { nodes, agents, database } = this.#sim;
    const { agent: id, name } = agent.options;
    const node = this.#random.pick(nodes);
    this.#note(`${name} is removed through ${node.name}`);
    const again = (): void => this.#later(200, 2_000, () => this.#remove(agent));
    const { process } = node;
    if (process === undefined) {
      again();
      return;
    }
    const remove = async (): Promise<void> => node.removeAgent(id);
    process.schedule(0, () => void remove().catch(again));
    if (this.#random.chance(0.5)) return;
    this.#later(1_000, 6_000, () => {
      const isFree = [...database.model.agents.rows.values()].every(
        (row) => row.name !== name || row.status === "removed",
      );
      const place = `${name}-again`;
      if (!isFree || agents.some(({ machine }) => machine.place === place)) return;
      this.#note(`${name} is enrolled again`);
      this.#sim.enrol(name, place).start();
    });
  }

  /** At any time, or right after an agent greeted every node with a boot that the new primary then does not know. */
  #failOverAtWorst(agent: SimAgent): void {
    if (this.#random.chance(0.5)) {
      this.#failOver();
      return;
    }
    const { database, nodes } = this.#sim;
    const bootId = (): unknown => database.model.agents.get(agent.options.agent)?.bootId;
    const before = bootId();
    this.#crashAgent(agent);
    const hasGreeted = (): boolean => bootId() !== before && agent.sessionCount === nodes.length;
    this.#when(hasGreeted, 2_000, () => this.#failOver());
  }

  #failOver(): void {
    const { database, watch, truth } = this.#sim;
    const { model } = database;
    const keysBefore = new Set([...model.submissions.rows.values()].map(({ idempotencyKey }) => idempotencyKey));
    const lostMs = this.#random.between(0, 4_000);
    watch.duringFailover(() => {
      const lost = database.failOver(lostMs);
      this.#note(`failover loses ${lost.join(" ")}`);
      this.#sim.pairs.databaseFailedOver(lost);
    });
    const keysAfter = new Set([...model.submissions.rows.values()].map(({ idempotencyKey }) => idempotencyKey));
    for (const key of keysBefore) if (!keysAfter.has(key)) truth.excusedKeys.add(key);
    for (const { options } of this.#sim.agents)
      if (model.agents.get(options.agent) === undefined)
        truth.stranded.set(options.agent, "a failover took its enrolment");
    this.#later(300, 8_000, () => this.#recover());
  }

  #recover(): void {
    this.#sim.pairs.databaseRecovered();
    this.#sim.database.recover();
  }
}
