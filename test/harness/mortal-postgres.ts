// A PostgreSQL of its own whose postmaster a test kills, and which comes back only when the test says so: with its port,
// password and files, after the recovery of a crash. Durability is that of production.
import { systemClock, type Clock } from "../../shared/clock.ts";
import { eventually } from "./eventually.ts";
import { startTestPostgres } from "./postgres.ts";
import { queryRows } from "./query.ts";

export interface MortalPostgres {
  readonly url: string;
  /** kill -9 of the postmaster; its backends notice and end. */
  kill(): void;
  /** Resolves once it answers again. */
  comeBack(): Promise<void>;
  stop(): Promise<void>;
}

export async function startMortalPostgres(): Promise<MortalPostgres> {
  let life: "tended" | "held down" = "tended";
  // The product starts a postmaster that died again within a second: here its timers wait for the test's word.
  const clock: Clock = {
    ...systemClock,
    every: (periodMs, act) =>
      systemClock.every(periodMs, () => {
        if (life === "tended") act();
      }),
  };
  const postgres = await startTestPostgres({ durability: "on-disk", clock });
  return {
    url: postgres.url,
    kill() {
      life = "held down";
      process.kill(postgres.pid, "SIGKILL");
    },
    async comeBack() {
      life = "tended";
      await eventually("PostgreSQL answers again", async () => ({
        done: true,
        state: await queryRows(postgres.url, "select 1"),
      }));
    },
    async stop() {
      life = "tended";
      await postgres.stop();
    },
  };
}
