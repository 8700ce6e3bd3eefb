// Waits for an observation of another process that no event announces. Looks again every 50 ms, or as asked, until a deadline,
// then fails with the last state seen. The only timer that tests use.
import { patience } from "../../demo/patience.ts";

export interface Observation<State> {
  readonly done: boolean;
  readonly state: State;
}

const lookMs = 50;

export async function eventually<State>(
  what: string,
  look: () => Promise<Observation<State>> | Observation<State>,
  /** `everyMs`: of a look that costs more than it should while the machine is busy. */
  options: { readonly limitMs?: number; readonly everyMs?: number } = {},
): Promise<State> {
  const limitMs = (options.limitMs ?? 30_000) * patience;
  const endMs = performance.now() + limitMs;
  let last: unknown = "nothing";
  while (performance.now() < endMs) {
    try {
      const { done, state } = await look();
      if (done) return state;
      last = state;
    } catch (cause) {
      last = cause;
    }
    await new Promise((resolve) => void setTimeout(resolve, options.everyMs ?? lookMs));
  }
  throw new Error(`within ${limitMs} ms it did not happen that ${what}; last seen: ${show(last)}`);
}

function show(state: unknown): string {
  return state instanceof Error
    ? state.message
    : (JSON.stringify(state, undefined, 1) ?? String(state)).slice(0, 4_000);
}
