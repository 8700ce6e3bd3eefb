// One project per folder of test/: what needs a database gets one PostgreSQL for the whole run.
// Files of one worker share their modules (isolate: false): the code keeps no module state, and loading it anew for each
// file cost half of the run. Workers are more than cores, because most files wait for processes, sockets and disks.
import { defineConfig } from "vitest/config";

/** Several processes with timing of their own: nothing else runs meanwhile. */
const alone = { fileParallelism: false, sequence: { groupOrder: 1 } };
const database = { globalSetup: ["test/harness/postgres.ts"] };

export default defineConfig({
  test: {
    isolate: false,
    maxWorkers: 3,
    reporters: process.env["CI"] === "true" ? ["default", "json"] : ["default"],
    outputFile: { json: process.env["HOLDFAST_TEST_REPORT"] ?? ".reports/vitest.json" },
    projects: [
      { test: { name: "architecture", include: ["test/architecture.test.ts"] } },
      // Properties compute for 2 s; on a machine busy with other work that may be many times as long.
      { test: { name: "unit", include: ["test/unit/**/*.test.ts"], testTimeout: 60_000 } },
      {
        test: {
          name: "simulation",
          include: ["test/simulation/*.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "planted",
          include: ["test/simulation/planted/*.test.ts"],
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
      { test: { name: "surface", include: ["test/surface/**/*.test.ts"], testTimeout: 90_000, hookTimeout: 90_000 } },
      {
        test: {
          name: "store",
          include: ["test/store/**/*.test.ts"],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          ...database,
        },
      },
      {
        test: {
          name: "integration",
          include: ["test/integration/**/*.test.ts"],
          testTimeout: 90_000,
          hookTimeout: 60_000,
          ...database,
        },
      },
      {
        test: {
          name: "fuzz",
          include: ["test/fuzz/**/*.test.ts"],
          testTimeout: 900_000,
          hookTimeout: 60_000,
          ...database,
        },
      },
      {
        test: {
          name: "smoke",
          include: ["test/cluster/smoke.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 60_000,
          ...alone,
        },
      },
      {
        test: {
          name: "cluster",
          include: ["test/cluster/**/*.test.ts", "test/skew/**/*.test.ts"],
          exclude: ["test/cluster/smoke.test.ts"],
          testTimeout: 180_000,
          hookTimeout: 60_000,
          ...database,
          ...alone,
        },
      },
      {
        test: {
          name: "long",
          include: ["test/long/**/*.test.ts"],
          testTimeout: 400_000,
          hookTimeout: 60_000,
          ...database,
          ...alone,
        },
      },
      {
        test: { name: "failpoints", include: ["test/failpoints/**/*.test.ts"], hookTimeout: 120_000, ...alone },
      },
      {
        test: { name: "model", include: ["test/model/**/*.test.ts"], testTimeout: 180_000, ...alone },
      },
      {
        test: {
          name: "browser",
          include: ["test/browser/**/*.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          ...database,
          ...alone,
        },
      },
    ],
  },
});
