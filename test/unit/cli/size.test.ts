// Sizes on the command line.
import { expect, it } from "vitest";
import { parseSize } from "../../../cli/size.ts";

it("reads sizes as people write them", () => {
  expect(["1", "64K", "512m", "2G", "1GiB", "3MB"].map(parseSize)).toEqual([
    1,
    65_536,
    536_870_912,
    2 ** 31,
    2 ** 30,
    3 * 2 ** 20,
  ]);
});

it.each(["", "M", "1.5G", "-1", "1 G", "9999999999999999T", "10X"])("refuses %j", (text) => {
  expect(() => parseSize(text)).toThrow(expect.objectContaining({ code: "config.invalid" }));
});
