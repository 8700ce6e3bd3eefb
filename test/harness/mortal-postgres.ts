// A PostgreSQL of its own whose postmaster a test kills, and which comes back only when the test says so: with its port,
// password and files, after the recovery of a crash. Durability is that of production.
import { eventually } from "./eventually.ts";
import { startTestPostgres } from "./postgres.ts";
import { queryRows } from "./query.ts";
import { Tending } from "./tending.ts";

export interface MortalPostgres {
  readonly url: string;
  /** kill -9 of the postmaster; its backends notice and end. */
  kill(): void;
  /** Resolves once it answers again. */
  comeBack(): Promise<void>;
  stop(): Promise<void>;
}

export async function startMortalPostgres(): Promise<MortalPostgres> {
  const tending = new Tending();
  const postgres = await startTestPostgres({ durability: "on-disk", clock: tending.clock });
  return {
    url: postgres.url,
    kill() {
      tending.holdDown();
      process.kill(postgres.pid, "SIGKILL");
    },
    async comeBack() {
      tending.letLive();
      await eventually("PostgreSQL answers again", async () => ({
        done: true,
        state: await queryRows(postgres.url, "select 1"),
      }));
    },
    async stop() {
      tending.letLive();
      await postgres.stop();
    },
  };
}
