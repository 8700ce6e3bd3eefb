// Replaces the agent's certificate at half of its life: a new key, a `renew` over a session, the answer checked and
// stored, then one session after another dialled again so that the new one is used.
// Invariant: the old key stays in use until the new pair is on disk.
import { X509Certificate } from "node:crypto";
import { backdateMs } from "../certs/profile.ts";
import { generateKeyPair, renewalTranscript, signTranscript } from "../certs/public-key.ts";
import { subjectOf } from "../certs/subject.ts";
import { issuerOf, readTrustAnchor } from "../certs/trust.ts";
import type { Background } from "../shared/background.ts";
import type { Clock, Timer } from "../shared/clock.ts";
import { AppError, describeError } from "../shared/errors.ts";
import type { Logger } from "../shared/logger.ts";
import type { Random } from "../shared/random.ts";
import type { FromAgent } from "../shared/wire/from-agent.ts";
import type { Renewed } from "../shared/wire/renew.ts";
import type { Identity } from "./identity.ts";

export interface RenewalDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly background: Background;
  readonly identity: () => Identity;
  /** Sends through some open session; false when there is none. */
  readonly send: (message: FromAgent) => boolean;
  /** Stores the pair and the CAs, uses them from then on and renews the sessions one by one. */
  readonly onRenewed: (change: Pick<Identity, "key" | "certificate" | "agentsCa" | "nodesCa">) => Promise<void>;
}

type State =
  | { readonly kind: "stopped" }
  | { readonly kind: "resting"; readonly timer: Timer }
  | { readonly kind: "asked"; readonly privateKeyPem: string; readonly spki: Buffer; readonly timer: Timer };

/** How long an answer may take before the next session is asked, and how often it is tried at most. */
const answerMs = 30_000;
const retryMs = 60_000;

export class Renewal {
  readonly #deps: RenewalDeps;
  #state: State = { kind: "stopped" };

  constructor(deps: RenewalDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#rest(this.#dueInMs());
  }

  stop(): void {
    this.#enter({ kind: "stopped" });
  }

  /** The node's answer; one that was not asked for is ignored. */
  renewed(message: Renewed): void {
    const state = this.#state;
    if (state.kind !== "asked") return;
    this.#rest(retryMs);
    this.#deps.background.run("store a renewed certificate", async () => {
      check(message, { identity: this.#deps.identity(), spki: state.spki, clock: this.#deps.clock });
      const { certificate, agentsCa, nodesCa } = message;
      await this.#deps.onRenewed({ key: state.privateKeyPem, certificate, agentsCa, nodesCa });
      this.#deps.logger.info({ until: new X509Certificate(certificate).validTo }, "the certificate was renewed");
      if (this.#state.kind !== "stopped") this.#rest(this.#dueInMs());
    });
  }

  #enter(next: State): void {
    if (this.#state.kind !== "stopped") this.#state.timer.cancel();
    this.#state = next;
  }

  #rest(delayMs: number): void {
    this.#enter({ kind: "resting", timer: this.#deps.clock.after(delayMs, () => this.#ask()) });
  }

  /** Half of the certificate's life, ± 10 % so that a fleet enrolled together does not renew together. */
  #dueInMs(): number {
    const leaf = new X509Certificate(this.#deps.identity().certificate);
    const nowMs = this.#deps.clock.wallMs();
    const [fromMs, endMs] = [leaf.validFromDate.getTime(), leaf.validToDate.getTime()];
    // Backdating is no part of the life that is halved.
    const issuedMs = fromMs + backdateMs < endMs ? fromMs + backdateMs : fromMs;
    const halfMs = issuedMs + ((endMs - issuedMs) / 2) * (0.9 + 0.2 * this.#deps.random.unit());
    return Math.max(1_000, halfMs - nowMs);
  }

  #ask(): void {
    const { cluster, agentId } = this.#deps.identity();
    const { publicKeySpki, privateKeyPem } = generateKeyPair();
    const proof = signTranscript(privateKeyPem, renewalTranscript({ cluster, agentId, publicKeySpki }));
    const isSent = this.#deps.send({
      type: "renew",
      spki: Uint8Array.from(publicKeySpki),
      proof: Uint8Array.from(proof),
    });
    if (!isSent) {
      this.#rest(2_000 + 8_000 * this.#deps.random.unit());
      return;
    }
    const timer = this.#deps.clock.after(answerMs, () => {
      this.#deps.logger.warn({}, `no answer to a certificate renewal within ${answerMs} ms; trying again`);
      this.#rest(retryMs * this.#deps.random.unit());
    });
    this.#enter({ kind: "asked", privateKeyPem, spki: publicKeySpki, timer });
  }
}

/** A node that answers nonsense must not cost us the identity we have. */
function check(
  message: Renewed,
  expected: { readonly identity: Identity; readonly spki: Buffer; readonly clock: Clock },
): void {
  const { identity, spki, clock } = expected;
  const refuse = (why: string, cause?: unknown): AppError =>
    new AppError("certificate.invalid", `renewal: ${why}`, { cause });
  let leaf: X509Certificate;
  try {
    leaf = new X509Certificate(message.certificate);
  } catch (cause) {
    throw refuse(describeError(cause), cause);
  }
  const subject = subjectOf(leaf);
  const anchors = message.agentsCa.map((certificatePem) => readTrustAnchor({ kind: "agents", certificatePem }));
  for (const certificatePem of message.nodesCa) readTrustAnchor({ kind: "nodes", certificatePem });
  if (subject?.kind !== "agent" || subject.id !== identity.agentId || subject.cluster !== identity.cluster)
    throw refuse(`expected agent ${identity.agentId}`);
  if (!leaf.publicKey.export({ type: "spki", format: "der" }).equals(spki))
    throw refuse("the certificate is for another key");
  if (issuerOf(leaf, anchors, { clock }) === undefined) throw refuse("issued by none of the agents CAs");
}
