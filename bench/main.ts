// `npm run bench [name …]`: runs each bench in a process of its own, one after the other. Figures go to bench/results/.
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const known = [
  "dispatch-latency",
  "task-rate",
  "start-rate",
  "log-throughput",
  "agent-footprint",
  "failover",
  "reconnect-storm",
  "idle-fleet",
];
const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !known.includes(name));
if (unknown.length > 0) {
  console.error(`bench: unknown ${unknown.join(", ")}; there are ${known.join(", ")}`);
  process.exit(2);
}
for (const name of wanted.length > 0 ? wanted : known) {
  console.log(`== ${name}`);
  const { status } = spawnSync(process.execPath, [join(import.meta.dirname, `${name}.ts`)], { stdio: "inherit" });
  if (status !== 0) process.exitCode = 1;
}
