// Randomness as a dependency, so that tests and the simulator can seed it.
import { randomBytes } from "node:crypto";

export interface Random {
  /** A number in [0, 1). */
  unit(): number;
  bytes(count: number): Uint8Array;
}

export const systemRandom: Random = {
  unit: () => Math.random(),
  bytes: (count) => randomBytes(count),
};
