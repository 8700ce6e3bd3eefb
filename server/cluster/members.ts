// This node's place in the cluster: joins, beats every 3 s, hears with each beat what people have set and how loaded the
// others are, and watches the versioned list that agents follow. A missed beat changes nothing in the node itself; only
// being removed or replaced by another boot of the same id ends it.
import type { Background } from "../../shared/background.ts";
import type { Clock, Timer } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import type { Logger } from "../../shared/logger.ts";
import type { Service } from "../../shared/service.ts";
import type { NodeList } from "../../shared/wire/nodes.ts";
import type { BeatAnswer, NodeRow, NodeSettings, OtherNode } from "../store/membership.ts";
import type { ClusterStore } from "../store/store.ts";

const beatMs = 3_000;
/** Lists are pushed at most this often: a rolling restart changes several addresses in a row. */
const listPauseMs = 1_000;

export interface MembersDeps {
  readonly store: Pick<ClusterStore, "join" | "beat" | "nodeList">;
  readonly clock: Clock;
  readonly background: Background;
  readonly logger: Logger;
  readonly load: () => { readonly active: number; readonly sessions: number; readonly draining: boolean };
  readonly onList: (list: NodeList) => void;
  /** Makes the settings hold; resolves when nothing that went by the former ones is under way. */
  readonly onSettings: (settings: NodeSettings) => Promise<void>;
  readonly onOthers: (others: readonly OtherNode[], taskCap: number) => void;
  /** A database of a later timeline serves: it may lack the last commits of the one before. */
  readonly onFailover: () => void;
  /** Its row is there, at its start or again after a failover: the other nodes are to look at the list. */
  readonly onJoined: () => void;
  readonly onEnded: (why: "replaced" | "removed") => void;
}

export class Members implements Service {
  readonly #deps: MembersDeps;
  #list: NodeList = { version: 0, want: 0, nodes: [] };
  #timer: Timer | undefined;
  #listTimer: Timer | undefined;
  #node: NodeRow | undefined;
  #beat: "idle" | "running" | "again" = "idle";
  #settingsSeen = 0;
  #others: readonly OtherNode[] = [];
  #ended: "replaced" | "removed" | undefined;

  constructor(deps: MembersDeps) {
    this.#deps = deps;
  }

  current(): NodeList {
    return this.#list;
  }

  /** Whether another live node may take what this one gives away. */
  get hasSuccessor(): boolean {
    return this.#others.some(({ draining }) => !draining);
  }

  /**
   * Takes the node's row, which is known only once its listener has a port, and then acts by what is set for it.
   * Throws `node.removed`.
   */
  async join(node: NodeRow): Promise<void> {
    if (!(await this.#deps.store.join(node))) {
      throw new AppError("node.removed", `node ${node.name} (${node.id}) was removed from the cluster`);
    }
    this.#node = node;
    this.#deps.onJoined();
    await this.#sayAlive(node);
    await this.#refresh();
  }

  start(): Promise<void> {
    this.#timer = this.#deps.clock.every(beatMs, () => this.#tick());
    return Promise.resolve();
  }

  stop(): Promise<void> {
    this.#timer?.cancel();
    this.#listTimer?.cancel();
    return Promise.resolve();
  }

  /** Looks at settings and list now, after a hint. */
  look(): void {
    this.#tick();
  }

  #tick(): void {
    const node = this.#node;
    if (node === undefined || this.#ended === "removed") return;
    if (this.#beat !== "idle") {
      this.#beat = "again";
      return;
    }
    this.#beat = "running";
    this.#deps.background.run("heartbeat", async () => {
      try {
        do {
          this.#beat = "running";
          await this.#sayAlive(node);
          await this.#refresh();
        } while (this.#wantsMore());
      } catch (cause) {
        if (AppError.from(cause).retryable)
          this.#deps.logger.warn({ err: cause }, "no heartbeat: the database is away");
        else this.#deps.logger.error({ err: cause }, "the heartbeat failed; it is tried again in 3 s");
      } finally {
        this.#beat = "idle";
      }
    });
  }

  #wantsMore(): boolean {
    return this.#beat === "again";
  }

  /** Beats, and once more when the answer was news: whoever set it waits until every node says it holds. */
  async #sayAlive(node: NodeRow): Promise<void> {
    for (;;) {
      const sent = { id: node.id, bootId: node.bootId, ...this.#deps.load(), settingsSeen: this.#settingsSeen };
      const answer = await this.#deps.store.beat(sent);
      if (answer.kind === "unlisted") {
        // The next beat, in 3 s, says whether that helped.
        if (await this.#deps.store.join(node)) this.#deps.onJoined();
        else this.#end("removed");
        return;
      }
      if (answer.kind !== "beaten") {
        this.#end(answer.kind);
        return;
      }
      this.#ended = undefined;
      if (await this.#obey(answer)) return;
    }
  }

  async #obey({ settings, others }: Extract<BeatAnswer, { kind: "beaten" }>): Promise<boolean> {
    const isKnown = settings.version === this.#settingsSeen;
    this.#others = others;
    this.#deps.onOthers(others, settings.taskCap);
    await this.#deps.onSettings(settings);
    this.#settingsSeen = settings.version;
    return isKnown;
  }

  #end(why: "replaced" | "removed"): void {
    if (this.#ended === why) return;
    this.#ended = why;
    this.#deps.onEnded(why);
  }

  async #refresh(): Promise<void> {
    const list = await this.#deps.store.nodeList();
    const before = this.#list;
    const isNewer = list.version > before.version || list.nodes.length !== before.nodes.length;
    this.#list = list;
    if (before.version > 0 && timelineOf(list) > timelineOf(before)) this.#deps.onFailover();
    if (!isNewer) return;
    this.#listTimer ??= this.#deps.clock.after(listPauseMs, () => {
      this.#listTimer = undefined;
      this.#deps.onList(this.#list);
    });
  }
}

function timelineOf({ version }: NodeList): number {
  return Math.floor(version / 2 ** 32);
}
