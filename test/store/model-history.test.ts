// The simulator's verdict rests on a model of the database (test/simulation/model). Here random histories of every named
// transaction are played on it and on the shipped SQL, and after each step the answers and all rows must be equal.
// HOLDFAST_HISTORIES=n plays more; HOLDFAST_SEED and HOLDFAST_PATH play a reported one again.
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ClockedLab } from "./model/clocked-lab.ts";
import { anyStep, histories, Player, weights, type Step } from "./model/play.ts";
import { unknownColumns } from "./model/tables.ts";

const lab = new ClockedLab();
beforeAll(() => lab.start());
afterAll(() => lab.stop());

const asked = histories({ file: "test/store/model-history.test.ts", count: 40 });
const steps = fc.array(anyStep(Object.keys(weights) as Step["verb"][]), { minLength: 5, maxLength: 60, size: "max" });

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
    `answers as SQL does and holds the same rows after every step of ${asked.named}`,
    { timeout: 36_000_000 },
    async () => {
      const found = await asked.check(steps, async (history) => {
        const player = new Player(lab);
        await player.begin();
        for (const step of history) await player.play(step);
      });
      expect(found).toBe("");
    },
  );
});
