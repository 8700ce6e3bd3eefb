// The simulator's verdict rests on a model of the database (test/simulation/model). Here random histories of every named
// transaction are played on it and on the shipped SQL, and after each step the answers and all rows must be equal.
// HOLDFAST_HISTORIES=n plays more; HOLDFAST_SEED and HOLDFAST_PATH play a reported one again.
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ClockedLab } from "./model/clocked-lab.ts";
import { Player, weights, type Step } from "./model/play.ts";
import { unknownColumns } from "./model/tables.ts";

const lab = new ClockedLab();
beforeAll(() => lab.start());
afterAll(() => lab.stop());

const histories = Number(process.env["HOLDFAST_HISTORIES"] ?? 40);
const seed = Number(process.env["HOLDFAST_SEED"] ?? Date.now() % 1_000_000_000);
const path = process.env["HOLDFAST_PATH"];

/** Plays of a failing history with steps left out, to tell a shorter one. */
const mostShrinks = 150;

const verbs = (Object.keys(weights) as Step["verb"][]).flatMap((verb) => Array<Step["verb"]>(weights[verb]).fill(verb));
const step: fc.Arbitrary<Step> = fc.noBias(
  fc.record({
    verb: fc.constantFrom(...verbs),
    // Shrinking drops steps; what a step means changes with the rows anyway.
    throws: fc.noShrink(fc.array(fc.nat(0xffff), { minLength: 64, maxLength: 64 })),
  }),
);

describe("the model of the database", () => {
  it("knows every table, column and clock that there is", async () => {
    const columns = await lab.sql(
      `select table_name, column_name, data_type from information_schema.columns
        where table_schema = 'public' and table_name not like 'log_chunk\\__%'`,
    );
    expect(unknownColumns(columns)).toEqual([]);
    const clocks = await lab.sql(
      `select c.relname, a.attname from pg_attrdef d join pg_class c on c.oid = d.adrelid
          join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
        where a.atttypid = 'timestamptz'::regtype and c.relnamespace = 'public'::regnamespace and c.relname <> 'schema_version'
          and pg_get_expr(d.adbin, d.adrelid) not like '%infinity%'
          and not exists (select from pg_depend p where p.classid = 'pg_attrdef'::regclass and p.objid = d.oid
            and p.refobjid = 'lab.clock_timestamp'::regproc)`,
    );
    expect(clocks).toEqual([]);
  });

  it(
    `answers as SQL does and holds the same rows, ${histories} histories of seed ${seed}`,
    { timeout: 3_600_000 },
    async () => {
      let shrinks = 0;
      const property = fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60, size: "max" }), async (steps) => {
        if (shrinks > mostShrinks) return;
        const player = new Player(lab);
        await player.begin();
        try {
          for (const one of steps) await player.play(one);
        } finally {
          if (shrinks > 0 || player.hasDiffered) shrinks += 1;
        }
      });
      const ran = await fc.check(property, { seed, numRuns: histories, ...(path === undefined ? {} : { path }) });
      const again = `HOLDFAST_SEED=${seed} HOLDFAST_PATH=${ran.counterexamplePath ?? ""} npx vitest run test/store/model-history.test.ts`;
      const found = ran.errorInstance instanceof Error ? ran.errorInstance.message : String(ran.errorInstance);
      expect(ran.failed ? `history ${ran.numRuns}, play it again: ${again}\n${found}` : "").toBe("");
    },
  );
});
