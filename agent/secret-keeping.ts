// Between an offer with secrets and the roster: the secrets are on disk before the roster hears of the offer, and so before
// its INTENT, its accept and its start. Decides nothing; one attempt's offers pass one after another.
import type { Background } from "../shared/background.ts";
import { describeError } from "../shared/errors.ts";
import type { AttemptId } from "../shared/ids.ts";
import type { Logger } from "../shared/logger.ts";
import type { Journal } from "./journal.ts";
import type { AdmittedOffer, SessionNo } from "./roster-event.ts";
import type { Site } from "./site.ts";

export interface SecretKeepingDeps {
  readonly site: Pick<Site, "keepSecrets" | "removeFolder">;
  readonly journal: Pick<Journal, "state">;
  readonly background: Background;
  readonly logger: Logger;
  /** The roster's turn; it answers at once. */
  readonly offered: (session: SessionNo, offer: AdmittedOffer) => void;
}

export class SecretKeeping {
  readonly #deps: SecretKeepingDeps;
  /** By attempt, the last of its offers that are under way; as many as nodes offer it at the same time. */
  readonly #underWay = new Map<AttemptId, Promise<void>>();

  constructor(deps: SecretKeepingDeps) {
    this.#deps = deps;
  }

  /** Answers those that need no keeping; the others come through `offered`. */
  defer(session: SessionNo, offers: readonly AdmittedOffer[]): AdmittedOffer[] {
    const mustKeep = ({ offer, admission }: AdmittedOffer): boolean =>
      offer.secrets !== undefined && admission.kind === "ok";
    for (const offer of offers) if (mustKeep(offer)) this.#keepThenOffer(session, offer);
    return offers.filter((offer) => !mustKeep(offer));
  }

  #keepThenOffer(session: SessionNo, admitted: AdmittedOffer): void {
    const { attempt } = admitted.offer;
    const before = this.#underWay.get(attempt) ?? Promise.resolve();
    const kept = before
      .catch(() => undefined)
      .then(() => this.#keep(session, admitted))
      .finally(() => {
        if (this.#underWay.get(attempt) === kept) this.#underWay.delete(attempt);
      });
    this.#underWay.set(attempt, kept);
    this.#deps.background.run("keep the secrets of an attempt", () => kept);
  }

  async #keep(session: SessionNo, { offer, admission }: AdmittedOffer): Promise<void> {
    const { site, logger, offered } = this.#deps;
    const { attempt, secrets = [] } = offer;
    if (this.#isKnown(attempt)) {
      offered(session, { offer, admission });
      return;
    }
    try {
      await site.keepSecrets(attempt, secrets);
      offered(session, { offer, admission });
    } catch (cause) {
      logger.warn({ err: cause, attempt }, `cannot keep the secrets of an attempt: ${describeError(cause)}`);
      const detail = "the script's secrets cannot be stored";
      offered(session, { offer, admission: { kind: "later", reason: "disk-full", detail } });
    }
    // Refused, or its session has ended meanwhile. After a stop of the agent, the next start removes it.
    if (!this.#isKnown(attempt)) await site.removeFolder(attempt);
  }

  /** What the roster has taken is in the journal's state in the same turn. */
  #isKnown(attempt: AttemptId): boolean {
    const { open, acknowledged, closed } = this.#deps.journal.state;
    return open.has(attempt) || acknowledged.has(attempt) || closed.has(attempt);
  }
}
