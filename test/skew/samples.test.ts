// Messages as bytes, across versions: what an earlier version kept as samples is kept unchanged (surface/wire-samples.test.ts
// reads it with today's code), and today's samples are read by the earlier version's own code, but for what is written down.
import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { lostFields } from "../../shared/lost-fields.ts";
import { checkOut } from "./checkout.ts";
import { previousVersions } from "./previous.ts";

const root = join(import.meta.dirname, "..", "..");
const samplesOf = (checkout: string): string => join(checkout, "test", "surface", "wire");
const reader = join(import.meta.dirname, "read-samples.ts");

const takenSchema = z.record(
  z.string(),
  z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("message"), message: z.unknown() }),
    z.object({ kind: z.literal("refused"), code: z.int(), reason: z.string() }),
  ]),
);

describe.each(previousVersions)("$title", (previous) => {
  it("its samples are kept to the byte", async () => {
    await using earlier = await checkOut(previous);
    const files = readdirSync(samplesOf(earlier.root), { recursive: true, encoding: "utf8" });
    const kept = files.filter((file) => file.endsWith(".bin"));
    expect(kept.length).toBeGreaterThan(20);
    const changed = kept.filter((file) => {
      const was = readFileSync(join(samplesOf(earlier.root), file));
      return !was.equals(readFileSync(join(samplesOf(root), file)));
    });
    expect(changed).toEqual([]);
  });

  it("its code reads today's samples, without what it does not know", async () => {
    await using earlier = await checkOut(previous);
    const folder = join(samplesOf(root), "v1");
    const { stdout } = await promisify(execFile)(process.execPath, [reader, earlier.root, folder]);
    const taken = Object.entries(takenSchema.parse(JSON.parse(stdout)));
    const differences = taken.flatMap(([name, what]): (readonly [string, number | readonly string[]])[] => {
      if (what.kind === "refused") return [[name, what.code]];
      const expected: unknown = JSON.parse(readFileSync(join(folder, `${name}.json`), "utf8"));
      expect({ [name]: expected }).toMatchObject({ [name]: what.message });
      const lost = lostFields(expected, what.message);
      return lost.length === 0 ? [] : [[name, lost]];
    });
    expect(Object.fromEntries(differences)).toEqual(previous.samples);
  });
});
