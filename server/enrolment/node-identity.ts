// Who this node is: a random id kept with its data directory, a key that never leaves it, and a leaf that the node
// issues to itself from the nodes CA and renews at half its life.
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { issueNodeLeaf } from "../../certs/leaf.ts";
import { leafLifetimeMs } from "../../certs/profile.ts";
import { generateKeyPair } from "../../certs/public-key.ts";
import type { NodeIdentity } from "../../certs/enrolment-proof.ts";
import type { Clock, Timer } from "../../shared/clock.ts";
import { AppError, describeError, errnoOf } from "../../shared/errors.ts";
import { newId, nodeIdSchema, type IdSource, type NodeId } from "../../shared/ids.ts";
import type { Logger } from "../../shared/logger.ts";
import type { Random } from "../../shared/random.ts";
import type { Service } from "../../shared/service.ts";
import type { Background } from "../../shared/background.ts";
import type { Database } from "../store/connection.ts";
import { storeNodeCertificate } from "../store/trust.ts";
import type { ClusterTrust } from "./cluster-trust.ts";

/** The id kept in the data directory, made at the first start. */
export async function loadNodeId(ids: IdSource, dataDirectory: string): Promise<NodeId> {
  const path = join(dataDirectory, "node-id");
  try {
    return nodeIdSchema.parse((await readFile(path, "utf8")).trim());
  } catch (cause) {
    if (errnoOf(cause) !== "ENOENT")
      throw new AppError("file.unreadable", `${path}: ${describeError(cause)}`, { cause });
  }
  return await renewNodeId(ids, dataDirectory);
}

/** A new id in place of the one kept there: the node joins as another one. */
export async function renewNodeId(ids: IdSource, dataDirectory: string): Promise<NodeId> {
  const path = join(dataDirectory, "node-id");
  const id = newId(ids, nodeIdSchema);
  await writeFile(`${path}.new`, `${id}\n`, { mode: 0o600, flush: true });
  await rename(`${path}.new`, path);
  return id;
}

export interface NodeLeafDeps {
  readonly database: Database;
  readonly trust: () => ClusterTrust;
  readonly clock: Clock;
  readonly random: Random;
  readonly background: Background;
  readonly logger: Logger;
  readonly onRenewed: (identity: NodeIdentity) => void;
}

export interface NodeLeafOptions {
  readonly nodeId: NodeId;
  /** Default 30 days. */
  readonly lifetimeMs?: number;
}

/** Keys live in memory only: a restart makes a new one, and nothing has to be kept or wiped. */
export class NodeLeaf implements Service {
  readonly #deps: NodeLeafDeps;
  readonly #options: Required<NodeLeafOptions>;
  #current: NodeIdentity | undefined;
  #notAfterMs = 0;
  #timer: Timer | undefined;

  constructor(deps: NodeLeafDeps, options: NodeLeafOptions) {
    this.#deps = deps;
    this.#options = { lifetimeMs: leafLifetimeMs, ...options };
  }

  async start(): Promise<void> {
    await this.#issue();
  }

  stop(): Promise<void> {
    this.#timer?.cancel();
    return Promise.resolve();
  }

  current(): NodeIdentity {
    if (this.#current === undefined) throw new AppError("internal", "the node has no certificate yet");
    return this.#current;
  }

  get notAfterMs(): number {
    return this.#notAfterMs;
  }

  async #issue(): Promise<void> {
    const { clock, random, database, trust } = this.#deps;
    const { nodeId, lifetimeMs } = this.#options;
    const { publicKeySpki, privateKeyPem } = generateKeyPair();
    const { cluster, nodesCa } = trust();
    const leaf = issueNodeLeaf({ authority: nodesCa, cluster, nodeId, publicKeySpki, lifetimeMs }, { clock, random });
    await storeNodeCertificate(database.durable, {
      thumbprint: leaf.thumbprint,
      node: nodeId,
      notAfterMs: leaf.notAfterMs,
    });
    this.#notAfterMs = leaf.notAfterMs;
    this.#current = { certificatePem: leaf.certificatePem, privateKeyPem };
    this.#renewAfter(lifetimeMs * (0.45 + random.unit() / 10));
  }

  #renewAfter(delayMs: number): void {
    this.#timer = this.#deps.clock.after(delayMs, () => {
      this.#deps.background.run("renew the node's certificate", async () => {
        try {
          await this.#issue();
          this.#deps.onRenewed(this.current());
        } catch (cause) {
          this.#deps.logger.warn({ err: cause }, "the node's certificate was not renewed; it is tried again");
          this.#renewAfter(Math.min(60_000, this.#options.lifetimeMs / 20));
        }
      });
    });
  }
}
