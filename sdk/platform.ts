// What the SDK takes from where it runs: only what browsers and Node both have. No node: import may appear below sdk/.
import type { Clock } from "../shared/clock.ts";
import type { Random } from "../shared/random.ts";

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

export interface Platform {
  readonly fetch: Fetch;
  readonly clock: Clock;
  readonly random: Random;
}

export const webRandom: Random = {
  unit: () => Math.random(),
  bytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
};

export const webFetch: Fetch = (url, init) => fetch(url, init);
