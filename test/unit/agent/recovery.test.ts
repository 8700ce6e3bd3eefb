// One test per row of the recovery table of DESIGN section 4, and what must hold over all its inputs.
import { describe, expect, test } from "vitest";
import type { Evidence } from "../../../agent/recovery.ts";
import { recover } from "../../../agent/recovery.ts";

const exit = { exitCode: 3, signal: null };
const base: Evidence = { journal: "starting", hostBoot: "same", marker: "none", shim: "dead", exit: undefined };
const act = (evidence: Partial<Evidence>) => recover({ ...base, ...evidence });

const journals = ["intent", "starting", "cancelling"] as const;
const boots = ["same", "other"] as const;
const markers = ["none", "never", "unclear", "shim"] as const;
const shims = ["alive", "dead"] as const;
const all: Evidence[] = (["none", ...journals] as const).flatMap((journal) =>
  boots.flatMap((hostBoot) =>
    markers.flatMap((marker) =>
      shims.flatMap((shim) => [undefined, exit].map((end) => ({ journal, hostBoot, marker, shim, exit: end }))),
    ),
  ),
);

describe("the recovery table", () => {
  test.each(journals.flatMap((journal) => boots.map((hostBoot) => [journal, hostBoot] as const)))(
    "any valid exit is the result (%s, %s boot)",
    (journal, hostBoot) => {
      expect(act({ journal, hostBoot, marker: "shim", exit })).toEqual({ kind: "finished", exit });
    },
  );

  test("INTENT without a marker starts through the gate, after a reboot too", () => {
    expect(act({ journal: "intent" })).toEqual({ kind: "start" });
    expect(act({ journal: "intent", hostBoot: "other" })).toEqual({ kind: "start" });
  });

  test("STARTING on the same boot without a marker starts again through the gate", () => {
    expect(act({})).toEqual({ kind: "start-again" });
  });

  test("STARTING on the same boot with a living shim is adopted", () => {
    expect(act({ marker: "shim", shim: "alive" })).toEqual({ kind: "adopt" });
  });

  test("STARTING on the same boot with a dead shim is interrupted", () => {
    expect(act({ marker: "shim", shim: "dead" })).toEqual({ kind: "interrupted", reason: "shim-died" });
  });

  test("STARTING with a gate that nobody signed yet waits for the signature", () => {
    expect(act({ marker: "unclear" })).toEqual({ kind: "await-shim" });
  });

  test.each(["none", "unclear", "shim"] as const)(
    "STARTING on another boot is interrupted by the reboot (marker %s)",
    (marker) => {
      expect(act({ hostBoot: "other", marker })).toEqual({ kind: "interrupted", reason: "host-reboot" });
    },
  );

  test("CANCELLING finishes the cancel", () => {
    expect(act({ journal: "cancelling", marker: "shim", shim: "alive" })).toEqual({ kind: "finish-cancel" });
    expect(act({ journal: "cancelling", marker: "none" })).toEqual({ kind: "never-started" });
  });

  test("a gate that was won to declare it never started stays so", () => {
    for (const journal of journals)
      for (const hostBoot of boots)
        expect(act({ journal, hostBoot, marker: "never" })).toEqual({ kind: "never-started" });
  });

  test("no journal and a living shim on the same boot is an orphan", () => {
    expect(act({ journal: "none", marker: "shim", shim: "alive" })).toEqual({ kind: "orphan" });
    expect(act({ journal: "none", marker: "shim", shim: "dead" })).toEqual({ kind: "ignore" });
    expect(act({ journal: "none", hostBoot: "other", marker: "shim", shim: "alive" })).toEqual({ kind: "ignore" });
  });
});

describe("over every combination", () => {
  test("nothing starts once the gate was won", () => {
    for (const evidence of all.filter(({ marker }) => marker !== "none"))
      expect(recover(evidence).kind).not.toMatch(/^start/);
  });

  test("after STARTING nothing starts on another boot", () => {
    for (const evidence of all.filter(({ journal, hostBoot }) => journal === "starting" && hostBoot === "other"))
      expect(recover(evidence).kind).not.toMatch(/^start/);
  });

  test("only a living shim on the same boot is adopted", () => {
    const adopted = all.filter((evidence) => recover(evidence).kind === "adopt");
    expect(adopted.length).toBeGreaterThan(0);
    for (const evidence of adopted) expect(evidence).toMatchObject({ hostBoot: "same", shim: "alive", marker: "shim" });
  });
});
