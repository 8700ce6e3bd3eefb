// `npm run bench -- [name …] [--repeats N]`: runs each bench in a process of its own, one after the other. Figures go to
// bench/results/, and docs/performance.md is written from them; `--table` only writes that.
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { benches } from "./benches.ts";
import { performancePath, performanceText } from "./performance-doc.ts";
import { readResults } from "./result.ts";

const { values, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: { repeats: { type: "string" }, table: { type: "boolean", default: false } },
});
const known = Object.keys(benches);
const unknown = wanted.filter((name) => !known.includes(name));
if (unknown.length > 0 || !/^[1-9]\d*$/.test(values.repeats ?? "1")) {
  console.error(
    unknown.length > 0
      ? `bench: unknown ${unknown.join(", ")}; there are ${known.join(", ")}`
      : `bench: --repeats expects a number from 1, saw ${values.repeats}`,
  );
  process.exit(2);
}
const repeats = values.repeats === undefined ? [] : ["--repeats", values.repeats];
for (const name of values.table ? [] : wanted.length > 0 ? wanted : known) {
  console.log(`== ${name}`);
  const program = join(import.meta.dirname, `${name}.ts`);
  const { status } = spawnSync(process.execPath, [program, ...repeats], { stdio: "inherit" });
  if (status !== 0) process.exitCode = 1;
}
writeFileSync(performancePath, performanceText(readResults()));
console.log(`written: ${performancePath}`);
