// One agent's renewals of its certificate, over one session. One at a time: each is a transaction and a signature, and an
// agent needs one in weeks. After one that failed none is looked at for a while: an agent asks again after a minute, and what
// is asked without end shall fill no log.
import type { Background } from "../../shared/background.ts";
import type { Clock } from "../../shared/clock.ts";
import type { AgentId } from "../../shared/ids.ts";
import type { Logger } from "../../shared/logger.ts";
import type { Seldom } from "../../shared/seldom.ts";
import type { Renew, Renewed } from "../../shared/wire/renew.ts";

const pauseMs = 10_000;

export interface RenewalsDeps {
  readonly background: Background;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly seldom: Seldom;
  readonly renew: (asked: {
    readonly agent: AgentId;
    readonly spki: Uint8Array;
    readonly proof: Uint8Array;
  }) => Promise<Renewed>;
  /** Aborts when the session ends. */
  readonly signal: AbortSignal;
  readonly send: (answer: Renewed) => void;
}

export class Renewals {
  readonly #deps: RenewalsDeps;
  #state: "idle" | "busy" = "idle";

  constructor(deps: RenewalsDeps) {
    this.#deps = deps;
  }

  ask(
    { spki, proof }: Pick<Renew, "spki" | "proof">,
    { id, name }: { readonly id: AgentId; readonly name: string },
  ): void {
    if (this.#state === "busy") return;
    this.#state = "busy";
    const { background, clock, logger, seldom, renew, send, signal } = this.#deps;
    background.run("renew certificate", async () => {
      try {
        send(await renew({ agent: id, spki, proof }));
      } catch (cause) {
        if (seldom.isDue(`${id} renewal`)) logger.warn({ err: cause, agent: name }, "a certificate was not renewed");
        await clock.sleep(pauseMs, signal).catch(() => undefined);
      } finally {
        this.#state = "idle";
      }
    });
  }
}
