// One node process: the shipped couriers, submit and group commit on the model database, joined as node.ts joins them, and
// the supervisor that starts it again. What HTTP would carry is called directly, over the network's delays.
import { createCouriers, type Couriers } from "../../server/couriers.ts";
import type { HintKind } from "../../server/cluster/hints.ts";
import type { AgentSession } from "../../server/gateway/agent-session.ts";
import type { CourierStore } from "../../server/store/store.ts";
import { createSecretVault } from "../../server/tasks/secret-vault.ts";
import { submit, type Submitted, type SubmitRequest } from "../../server/tasks/submit.ts";
import { Background } from "../../shared/background.ts";
import { AppError } from "../../shared/errors.ts";
import {
  attemptIdSchema,
  bootIdSchema,
  createIdSource,
  newId,
  type AgentId,
  type NodeId,
  type TaskId,
} from "../../shared/ids.ts";
import type { TaskState } from "../../shared/task.ts";
import type { DatabaseServer } from "./database-server.ts";
import { SimProcess, type ProcessClock } from "./kernel/process.ts";
import type { SeededRandom } from "./kernel/random.ts";
import type { World } from "./kernel/world.ts";
import type { SimLogger } from "./logger.ts";
import { retryTask } from "./model/administer.ts";
import { abandonTask, cancelTasks } from "./model/cluster.ts";
import { removeAgent } from "./model/remove-agent.ts";
import type { AgentRow } from "./model/rows.ts";
import { createGroupedModelStore, createModelClusterStore, type Carry } from "./model/store.ts";
import { readEarlier } from "./model/submit.ts";
import type { End, Place } from "./network.ts";

/** Nothing that is simulated has secrets. */
const noVault = createSecretVault({
  seal: (_purpose, plaintext) => plaintext,
  open: (_purpose, sealed) => sealed,
  derive: () => new Uint8Array(32),
});

export interface SimNodeDeps {
  readonly world: World;
  readonly database: DatabaseServer;
  readonly random: SeededRandom;
  readonly logger: SimLogger;
  /** To every other node, if it gets there. */
  readonly publish: (from: SimNode, kind: HintKind, agents: readonly AgentId[]) => void;
}

export interface SimNodeOptions {
  readonly id: NodeId;
  readonly name: string;
  readonly clock: ProcessClock;
}

interface Running {
  readonly process: SimProcess;
  readonly carry: Carry;
  readonly store: CourierStore;
  readonly couriers: Couriers;
  stage: "joining" | "serving" | "draining";
}

export class SimNode {
  readonly id: NodeId;
  readonly name: string;
  readonly place: Place;
  readonly #deps: SimNodeDeps;
  readonly #options: SimNodeOptions;
  #running: Running | undefined;
  starts = 0;

  constructor(deps: SimNodeDeps, options: SimNodeOptions) {
    this.#deps = deps;
    this.#options = options;
    this.id = options.id;
    this.name = options.name;
    this.place = options.name;
  }

  get address(): string {
    return `${this.name}:10943`;
  }

  get process(): SimProcess | undefined {
    return this.#running?.process.isUp === true ? this.#running.process : undefined;
  }

  get stage(): "down" | Running["stage"] {
    return this.process === undefined ? "down" : (this.#running?.stage ?? "down");
  }

  get couriers(): Couriers | undefined {
    return this.process === undefined ? undefined : this.#running?.couriers;
  }

  start(): void {
    if (this.process !== undefined) return;
    const { world, database, random, logger } = this.#deps;
    this.starts += 1;
    const process = new SimProcess(world, `${this.name}#${this.starts}`, this.#options.clock);
    const processLogger = logger.of(process);
    const background = new Background({ logger: processLogger });
    const { clock } = process;
    const carry = database.linkOf(process, this.place);
    const bootId = newId(createIdSource({ clock, random }), bootIdSchema);
    const store = createGroupedModelStore(carry);
    const couriers = createCouriers(
      {
        store,
        cluster: createModelClusterStore(carry),
        vault: noVault,
        clock,
        defer: process.defer,
        background,
        logger: processLogger,
        renew: () => Promise.reject(new AppError("internal", "certificates are not simulated")),
        random,
        onEnded: (why) => {
          if (why === "removed") process.kill();
        },
        joined: () => this.#deps.publish(this, "nodes", []),
        changed: () => undefined,
        refused: () => undefined,
        ended: () => undefined,
      },
      { node: { id: this.id, name: this.name }, bootId },
    );
    const running: Running = { process, carry, store, couriers, stage: "joining" };
    this.#running = running;
    world.note(`${process.name} starts`);
    // Its supervisor.
    process.onDeath(() => world.schedule(random.between(300, 8_000), () => this.start()));
    process.schedule(random.between(50, 300), () => {
      couriers.members.join({ id: this.id, name: this.name, bootId, version: "1.0.0", addresses: [this.address] }).then(
        async () => {
          await couriers.members.start();
          await couriers.wake.start();
          running.stage = "serving";
          // A new connection for hints looks at everything once.
          for (const kind of ["work", "cancel", "trust", "nodes"] as const) couriers.hint(kind, []);
        },
        () => {
          world.note(`${process.name} cannot join and exits`);
          process.kill();
        },
      );
    });
  }

  kill(): void {
    this.#running?.process.kill();
  }

  /** TERM: takes nothing new, asks agents to go, and exits after a while. */
  drain(): void {
    const running = this.#running;
    if (running === undefined || this.stage !== "serving") return;
    running.stage = "draining";
    running.couriers.drain();
    running.process.schedule(this.#deps.random.between(500, 6_000), () => {
      running.couriers.stop();
      for (const session of running.couriers.sessions.all()) session.close(1001, "the node stops");
      running.process.schedule(500, () => running.process.kill());
    });
  }

  hint(kind: HintKind, agents: readonly AgentId[]): void {
    const running = this.#running;
    if (running !== undefined && this.process !== undefined)
      running.process.schedule(0, () => running.couriers.hint(kind, agents));
  }

  /** Whether the positive list lets this agent in: one read. */
  admission(agent: AgentId): Promise<AgentRow | undefined> {
    if (this.#running === undefined) return Promise.resolve(undefined);
    return this.#running.carry("admission", "read", (db) => db.agents.get(agent));
  }

  openSession(end: End, agent: AgentId, name: string): AgentSession | undefined {
    const running = this.#running;
    if (running === undefined) return undefined;
    const session = running.couriers.open(end, { agent, name, thumbprint: agent });
    end.handlers = {
      frame: (frame) => session.received(frame),
      ping: () => session.heard(),
      pong: () => session.ponged(),
      ended: () => session.ended(),
    };
    session.start();
    return session;
  }

  submit(request: SubmitRequest, principal: string): Promise<Submitted> {
    const running = this.#serving();
    const { clock } = running.process;
    return submit(
      {
        store: running.store,
        vault: noVault,
        dispatcher: running.couriers.dispatcher,
        targets: {
          all: () => running.carry("targets", "read", (db) => targetsOf([...db.agents.rows.values()])),
          named: (names) =>
            running.carry("targets", "read", (db) =>
              targetsOf([...db.agents.rows.values()]).filter((target) => names.includes(target.name)),
            ),
          nameOf: (agents) =>
            running.carry("targets", "read", (db) => new Map(agents.map((id) => [id, db.agents.get(id)?.name ?? ""]))),
        },
        earlier: async (key) => {
          const [row] = await running.carry("earlier", "read", (db) => readEarlier(db, [key]));
          return row === undefined ? undefined : { id: row.id, digest: row.bodySha256, tasks: row.tasks };
        },
        offline: () => Promise.resolve([]),
        ids: createIdSource({ clock, random: this.#deps.random }),
        clock,
        hint: (agents) => this.#deps.publish(this, "work", agents),
      },
      this.id,
      request,
      { id: principal, address: "" },
    );
  }

  async cancel(task: TaskId): Promise<TaskState | undefined> {
    const running = this.#serving();
    const [cancelled] = await running.carry("cancel", "durable", (db) => cancelTasks(db, [task]));
    if (cancelled !== undefined && cancelled.state !== "cancelled") {
      this.#deps.publish(this, "cancel", [cancelled.agent]);
      running.couriers.wake.cancels();
    }
    return cancelled?.state;
  }

  /** As backend.ts: the agent is asked once, now; one that is away hears it when it greets. */
  async abandon(task: TaskId): Promise<void> {
    const running = this.#serving();
    const abandoned = await running.carry("abandon", "durable", (db) => abandonTask(db, task), task);
    if (abandoned?.changed !== true || abandoned.state !== "abandoned") return;
    const { agent, attempt, graceMs } = abandoned;
    running.couriers.sessions.get(agent)?.apply({ kind: "cancel", items: [{ attempt, graceMs }] });
  }

  async removeAgent(agent: AgentId): Promise<void> {
    const running = this.#serving();
    const removal = { nameOrId: agent, principal: "client" };
    const removed = await running.carry("remove-agent", "durable", (db) => removeAgent(db, removal), agent);
    if (removed === undefined) return;
    this.#deps.publish(this, "trust", [agent]);
    running.couriers.wake.trust();
  }

  /** True when a further attempt was made. */
  async retry(task: TaskId): Promise<boolean> {
    const running = this.#serving();
    const { clock } = running.process;
    const attempt = newId(createIdSource({ clock, random: this.#deps.random }), attemptIdSchema);
    const retried = await running.carry("retry", "durable", (db) => retryTask(db, { task, attempt }));
    if (retried?.retried !== true) return false;
    this.#deps.publish(this, "work", [retried.agent]);
    running.couriers.hint("work", [retried.agent]);
    return true;
  }

  /** The state of a task's attempt, from the primary. */
  read(task: TaskId): Promise<{ readonly rank: number; readonly state: TaskState } | undefined> {
    const running = this.#serving();
    return running.carry("read-task", "read", (db) => {
      const row = [...db.attempts.rows.values()].find((attempt) => attempt.task === task);
      return row === undefined ? undefined : { rank: row.rank, state: row.state };
    });
  }

  #serving(): Running {
    const running = this.#running;
    if (running === undefined || this.process === undefined || running.stage !== "serving")
      throw new AppError("node.draining", `${this.name} does not serve`);
    return running;
  }
}

function targetsOf(rows: readonly AgentRow[]) {
  return rows.filter(({ status }) => status === "active").map(({ id, name }) => ({ id, name, labels: {} }));
}
