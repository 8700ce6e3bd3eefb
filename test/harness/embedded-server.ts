// A process that starts the embedded PostgreSQL on the directory given and says so on stdout, to be killed by a test.
// Ends in good order when stdin ends.
import { systemClock } from "../../shared/clock.ts";
import { describeError } from "../../shared/errors.ts";
import { silentLogger } from "../../shared/logger.ts";
import { SystemRandom } from "../../shared/random.ts";
import { DataDirectoryLock } from "../../server/data-directory.ts";
import { EmbeddedPostgres } from "../../server/store/embedded.ts";

const [dataDirectory = "", cacheDirectory] = process.argv.slice(2);
const lock = new DataDirectoryLock({ directory: dataDirectory });
const postgres = new EmbeddedPostgres(
  { clock: systemClock, random: new SystemRandom(), logger: silentLogger },
  { dataDirectory, ...(cacheDirectory === undefined ? {} : { cacheDirectory }) },
);
try {
  await lock.start();
  await postgres.start();
  process.stdout.write(`${JSON.stringify({ url: postgres.url, pid: postgres.pid })}\n`);
} catch (cause) {
  process.stdout.write(`${JSON.stringify({ error: describeError(cause) })}\n`);
  process.exit(1);
}
process.stdin.resume().once("end", () => {
  void postgres.stop().then(() => lock.stop());
});
