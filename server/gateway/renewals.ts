// The renewals of one session's certificate. One at a time: a renewal is a transaction and a signature, and an agent needs one
// in weeks. After one that failed none is looked at for a while: an agent asks again after a minute, and what it asks
// without end shall fill no log.
import type { AgentId } from "../../shared/ids.ts";
import type { Link } from "../../shared/link.ts";
import type { FromNode } from "../../shared/wire/from-node.ts";
import type { SessionDeps } from "./session-deps.ts";

const pauseMs = 10_000;

export interface RenewalsDeps extends Pick<SessionDeps<unknown>, "renew" | "background" | "clock" | "logger"> {
  readonly link: Pick<Link<FromNode>, "send">;
  /** Aborts with the session. */
  readonly signal: AbortSignal;
}

export interface RenewalsOptions {
  readonly agent: AgentId;
  readonly agentName: string;
}

export class Renewals {
  readonly #deps: RenewalsDeps;
  readonly #options: RenewalsOptions;
  #state: "idle" | "running" = "idle";

  constructor(deps: RenewalsDeps, { agent, agentName }: RenewalsOptions) {
    this.#deps = deps;
    this.#options = { agent, agentName };
  }

  /** Sends the certificate, or says in the log why there is none. Nothing while another is under way. */
  renew({ spki, proof }: { readonly spki: Uint8Array; readonly proof: Uint8Array }): void {
    if (this.#state === "running") return;
    this.#state = "running";
    const { link, background, clock, logger, signal, renew } = this.#deps;
    const { agent, agentName } = this.#options;
    background.run("renew certificate", async () => {
      try {
        link.send(await renew({ agent, spki, proof }));
      } catch (cause) {
        logger.warn({ err: cause, agent: agentName }, "a certificate was not renewed");
        await clock.sleep(pauseMs, signal).catch(() => undefined);
      } finally {
        this.#state = "idle";
      }
    });
  }
}
