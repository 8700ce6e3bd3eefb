// Gathers the small messages of one session during one turn of the event loop into frames of up to 64 items.
// Invariant: of one attempt, what was put first leaves first, and a log frame follows everything put before it.
import type { Link } from "../shared/link.ts";
import { bytesOfOutputs } from "../shared/output-variables.ts";
import { itemsPerMessage } from "../shared/wire/fields.ts";
import type { FromAgent } from "../shared/wire/from-agent.ts";
import type { RosterItem } from "./roster-event.ts";

type Items = { [Type in RosterItem["type"]]: Extract<RosterItem, { type: Type }>["item"][] };

export class Outbox {
  readonly #link: Pick<Link<FromAgent>, "send" | "queued">;
  readonly #defer: (act: () => void) => void;
  readonly #capabilities: readonly string[];
  #items: Items = empty();
  #isDue = false;

  /** `defer` calls once the current turn of the event loop is over. */
  constructor(deps: {
    readonly link: Pick<Link<FromAgent>, "send" | "queued">;
    readonly defer: (act: () => void) => void;
    /** What the node's welcome names. */
    readonly capabilities?: readonly string[] | undefined;
  }) {
    this.#link = deps.link;
    this.#defer = deps.defer;
    this.#capabilities = deps.capabilities ?? [];
  }

  knows(capability: string): boolean {
    return this.#capabilities.includes(capability);
  }

  put(message: RosterItem): void {
    // The order in which flush sends is the order of an attempt's life; an item that goes back in it starts a new batch.
    if (message.type !== "result" && this.#items.result.length > 0) this.flush();
    add(this.#items, message);
    if (this.#isDue) return;
    this.#isDue = true;
    this.#defer(() => this.flush());
  }

  /** Sends at once, behind everything gathered. */
  send(message: FromAgent): void {
    this.flush();
    this.#link.send(message);
  }

  get queued(): number {
    return this.#link.queued;
  }

  flush(): void {
    this.#isDue = false;
    const items = this.#items;
    this.#items = empty();
    for (const part of chunks(items.accept)) this.#link.send({ type: "accept", items: part });
    for (const part of chunks(items.refuse)) this.#link.send({ type: "refuse", items: part });
    for (const part of chunks(items.resume)) this.#link.send({ type: "resume", items: part });
    for (const part of chunks(items.state)) this.#link.send({ type: "state", items: part });
    for (const part of chunks(items.started)) this.#link.send({ type: "started", items: part });
    for (const part of resultChunks(items.result)) this.#link.send({ type: "result", items: part });
  }
}

function empty(): Items {
  return { accept: [], refuse: [], resume: [], state: [], started: [], result: [] };
}

function add(items: Items, message: RosterItem): void {
  switch (message.type) {
    case "accept":
      items.accept.push(message.item);
      return;
    case "refuse":
      items.refuse.push(message.item);
      return;
    case "resume":
      items.resume.push(message.item);
      return;
    case "state":
      items.state.push(message.item);
      return;
    case "started":
      items.started.push(message.item);
      return;
    case "result":
      items.result.push(message.item);
  }
}

function* chunks<Item>(items: readonly Item[]): Generator<Item[]> {
  for (let at = 0; at < items.length; at += itemsPerMessage) yield items.slice(at, at + itemsPerMessage);
}

/** Output variables make results as large as 64 KiB and of as many values as a frame may hold: then fewer go together. */
const resultWeightPerFrame = 512 * 1024;
const weightPerVariable = 256;

function* resultChunks(items: Items["result"]): Generator<Items["result"]> {
  let part: Items["result"] = [];
  let weight = 0;
  for (const item of items) {
    const { outputs = [] } = item.record;
    const own = bytesOfOutputs(outputs) + weightPerVariable * outputs.length;
    if (part.length === itemsPerMessage || (part.length > 0 && weight + own > resultWeightPerFrame)) {
      yield part;
      part = [];
      weight = 0;
    }
    part.push(item);
    weight += own;
  }
  if (part.length > 0) yield part;
}
