// One project per folder of test/: what needs a database gets one PostgreSQL for the whole run.
import { defineConfig } from "vitest/config";

const database = { globalSetup: ["test/harness/postgres.ts"] };

export default defineConfig({
  test: {
    reporters: process.env["CI"] === "true" ? ["default", "json"] : ["default"],
    outputFile: { json: process.env["HOLDFAST_TEST_REPORT"] ?? ".reports/vitest.json" },
    projects: [
      { test: { name: "architecture", include: ["test/architecture.test.ts"] } },
      { test: { name: "unit", include: ["test/unit/**/*.test.ts"], testTimeout: 10_000 } },
      { test: { name: "simulation", include: ["test/simulation/*.test.ts"], testTimeout: 30_000 } },
      { test: { name: "planted", include: ["test/simulation/planted/*.test.ts"], testTimeout: 300_000 } },
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
          name: "smoke",
          include: ["test/cluster/smoke.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 60_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "cluster",
          include: ["test/cluster/**/*.test.ts"],
          exclude: ["test/cluster/smoke.test.ts"],
          testTimeout: 180_000,
          hookTimeout: 60_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
