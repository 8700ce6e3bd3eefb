import { describe, expect, it } from "vitest";
import { idArray } from "../../../server/store/id-array.ts";

describe("an array of ids for PostgreSQL", () => {
  it("is one text, without anything to escape", () => {
    expect(idArray([])).toBe("{}");
    expect(idArray(["0198c0de-0000-7000-8000-000000000001", "ab12"])).toBe(
      "{0198c0de-0000-7000-8000-000000000001,ab12}",
    );
  });

  it.each(['a"b', "a b", "{a}", "a\\b", "a;b", "a\nb", "é", "a,b", ""])("never holds %j", (text) => {
    expect(() => idArray([text])).toThrow("an array of ids holds something else");
    expect(() => idArray(["ab12", text])).toThrow("an array of ids holds something else");
  });
});
