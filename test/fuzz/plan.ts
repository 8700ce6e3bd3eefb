// How much is fuzzed and from which seed. `npm test` runs the short plan; `npm run fuzz` sets HOLDFAST_FUZZ=full, and
// HOLDFAST_FUZZ_TIMES multiplies either. The seed is fixed, so that a red run stays red; HOLDFAST_FUZZ_SEED takes another.
const isFull = process.env["HOLDFAST_FUZZ"] === "full";
const times = Number(process.env["HOLDFAST_FUZZ_TIMES"] ?? 1);

export const fuzzSeed = Number(process.env["HOLDFAST_FUZZ_SEED"] ?? 20_261_126);

const cases = (short: number, full: number): number => Math.ceil((isFull ? full : short) * times);

/** Cases per kind: frames and journals in memory, requests and messages against a real node. */
export const fuzzCases = {
  frames: cases(30_000, 1_000_000),
  journals: cases(4_000, 20_000),
  requests: cases(1_500, 6_000),
};

/** How to run one failing case again. */
export function replayOf(kind: string, no: number): string {
  return `${kind} case ${no} of seed ${fuzzSeed}: HOLDFAST_FUZZ_SEED=${fuzzSeed} HOLDFAST_FUZZ_CASE=${no} npx vitest run --project fuzz`;
}

/** Of a replay: the one case to run. */
export const onlyCase =
  process.env["HOLDFAST_FUZZ_CASE"] === undefined ? undefined : Number(process.env["HOLDFAST_FUZZ_CASE"]);
