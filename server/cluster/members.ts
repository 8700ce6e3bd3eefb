// This node's place in the cluster: joins, beats every 3 s, and watches the versioned list that agents follow. A missed
// beat changes nothing in the node itself; only being removed or replaced by another boot of the same id ends it. Its versions also tell that the database failed over.
import type { Background } from "../../shared/background.ts";
import type { Clock, Timer } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import type { Logger } from "../../shared/logger.ts";
import type { Service } from "../../shared/service.ts";
import type { NodeList } from "../../shared/wire/nodes.ts";
import type { NodeRow } from "../store/membership.ts";
import type { ClusterStore } from "../store/store.ts";

const beatMs = 3_000;

export interface MembersDeps {
  readonly store: Pick<ClusterStore, "join" | "beat" | "nodeList">;
  readonly clock: Clock;
  readonly background: Background;
  readonly logger: Logger;
  readonly load: () => { readonly active: number; readonly sessions: number; readonly draining: boolean };
  readonly onList: (list: NodeList) => void;
  readonly onReplaced: () => void;
  /** Another primary serves: it may lack the last commits of the one before. */
  readonly onFailover: () => void;
}

/** The upper half of a list's version; see wire/nodes.ts. */
const timelineOf = ({ version }: NodeList): number => Math.floor(version / 2 ** 32);

export class Members implements Service {
  readonly #deps: MembersDeps;
  #list: NodeList = { version: 0, want: 0, nodes: [] };
  #timer: Timer | undefined;
  #node: NodeRow | undefined;
  #beat: "idle" | "running" = "idle";

  constructor(deps: MembersDeps) {
    this.#deps = deps;
  }

  current(): NodeList {
    return this.#list;
  }

  /** Takes the node's row, which is known only once its listener has a port. Throws `node.removed`. */
  async join(node: NodeRow): Promise<void> {
    if (!(await this.#deps.store.join(node))) {
      throw new AppError("node.removed", `node ${node.name} (${node.id}) was removed from the cluster`);
    }
    this.#node = node;
    await this.#refresh();
  }

  start(): Promise<void> {
    this.#timer = this.#deps.clock.every(beatMs, () => this.#tick());
    return Promise.resolve();
  }

  stop(): Promise<void> {
    this.#timer?.cancel();
    return Promise.resolve();
  }

  /** Looks at the list now, after a hint. */
  look(): void {
    this.#tick();
  }

  #tick(): void {
    const node = this.#node;
    if (this.#beat === "running" || node === undefined) return;
    this.#beat = "running";
    this.#deps.background.run("heartbeat", async () => {
      try {
        const beaten = await this.#deps.store.beat({
          id: node.id,
          bootId: node.bootId,
          ...this.#deps.load(),
        });
        if (!beaten) this.#deps.onReplaced();
        await this.#refresh();
      } catch (cause) {
        this.#deps.logger.warn({ err: cause }, "no heartbeat: the database is away");
      } finally {
        this.#beat = "idle";
      }
    });
  }

  async #refresh(): Promise<void> {
    const list = await this.#deps.store.nodeList();
    const before = this.#list;
    const isNewer = list.version > before.version || list.nodes.length !== before.nodes.length;
    this.#list = list;
    if (isNewer) this.#deps.onList(list);
    if (before.version > 0 && timelineOf(list) > timelineOf(before)) this.#deps.onFailover();
  }
}
