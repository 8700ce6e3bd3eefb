import { plantedBugs } from "./bugs.ts";
import { findBug } from "./score.ts";
await Promise.all(
  plantedBugs
    .filter(({ name }) => ["slow shim given up", "spawned before STARTING is on disk"].includes(name))
    .map(async (bug) => {
      const s = await findBug({ ...bug, within: 5000 }, 1);
      console.log(bug.name, s.seeds, s.invariant, s.violation.slice(0, 100));
    }),
);
