// What is made of the file a script sets its output variables in, whatever stands in it.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tmpdir } from "node:os";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseOutputs, readOutputs } from "../../../agent/output-variables.ts";
import { createRedactor, maskAll } from "../../../agent/redact.ts";

const parse = (text: string, secrets: readonly string[] = []) =>
  parseOutputs(Buffer.from(text), createRedactor(secrets));
const set = (name: string, value: string): { name: string; value: string } => ({ name, value });

describe("the file of output variables", () => {
  test("holds one NAME=VALUE per line, and of a name the last counts", () => {
    expect(parse("A=1\nB=x=y \n\nA=2\nC=\nD=no line end")).toEqual({
      variables: [set("A", "2"), set("B", "x=y "), set("C", ""), set("D", "no line end")],
      dropped: "",
    });
  });

  test("takes values of several lines between NUL bytes, also behind an unfinished line", () => {
    expect(parse("A=1\0B=one\ntwo=2\n\0\0C=3\0D=4\n")).toEqual({
      variables: [set("A", "1"), set("B", "one\ntwo=2\n"), set("C", "3"), set("D", "4")],
      dropped: "",
    });
  });

  test("has nothing silently left out: what is no variable is told of", () => {
    const bytes = Buffer.concat([Buffer.from("just text\n1A=2\nA=1\nE="), Buffer.of(0xff), Buffer.from("\n\0B=torn")]);
    expect(parseOutputs(bytes, undefined)).toEqual({
      variables: [set("A", "1")],
      dropped: "entry 1 (no NAME=VALUE), entry 2 (no NAME=VALUE), E (not UTF-8), B (not written to its end)",
    });
  });

  test("gives no earlier value for one that could not be replaced", () => {
    const bytes = Buffer.concat([Buffer.from("A=1\nA="), Buffer.of(0xff)]);
    expect(parseOutputs(bytes, undefined)).toEqual({ variables: [], dropped: "A (not UTF-8)" });
  });

  test("gives 64 variables and tells of the others", () => {
    const names = Array.from({ length: 71 }, (_, index) => `N${index}`);
    const { variables, dropped } = parse(names.map((name) => `${name}=v\n`).join(""));
    expect(variables.map(({ name }) => name)).toEqual(names.slice(0, 64));
    expect(dropped).toMatch(/^N64 \(over 64 variables\), .*, 2 more$/);
  });

  test("gives 64 KiB of names and values, and still what fits behind one that does not", () => {
    const full = "é".repeat(32 * 1024 - 2);
    expect(parse(`A=${full}\nBC=x\nD=xx\n`)).toMatchObject({
      variables: [set("A", full), set("BC", "x")],
      dropped: "D (over 65536 bytes)",
    });
  });

  test("is read up to 256 KiB: the entry that is cut there is not given in part", () => {
    const filler = "A=x\n".repeat(64 * 1024 - 2);
    const { variables, dropped } = parse(`${filler}B=${"y".repeat(100)}\nC=1\n`);
    expect(variables).toEqual([set("A", "x")]);
    expect(dropped).toBe("B (not written to its end), the rest (beyond 262144 bytes of file)");
  });
});

describe("secrets of the task", () => {
  test("are masked in values, in every form", () => {
    const secret = "correct horse";
    const base64 = Buffer.from(secret).toString("base64");
    const text = JSON.stringify(parse(`A=is ${secret}!\nB=${base64}\nC=correct%20horse\n`, [secret]));
    expect(text).toContain("is *************!");
    for (const form of ["correct", "horse", base64.slice(0, 12)]) expect(text).not.toContain(form);
  });

  test("of several lines show nothing, though each line would be an entry of its own", () => {
    const secret = "-----BEGIN-----\nabcdef=\nghijkl==\n-----END-----";
    const read = parse(`KEY=${secret}\nAFTER=1\n`, [secret]);
    expect(read.variables).toEqual([set("KEY", "*".repeat(secret.length)), set("AFTER", "1")]);
  });

  test("that stand for a name leave neither name nor value", () => {
    expect(parse("hunter2hunter2=1\n", ["hunter2hunter2"])).toEqual({
      variables: [],
      dropped: "entry 1 (no NAME=VALUE)",
    });
  });

  test("that cannot be read any more take every output with them", () => {
    expect(parseOutputs(Buffer.from("A=1\n"), maskAll)).toEqual({ variables: [], dropped: "entry 1 (no NAME=VALUE)" });
  });
});

describe("a file on disk", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "holdfast-outputs-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  test("that is not there is no output", () => {
    expect(readOutputs(join(folder, "none"), undefined)).toEqual({ variables: [], dropped: "" });
  });

  test("is read when it is a plain one", () => {
    writeFileSync(join(folder, "outputs"), "A=1\n");
    expect(readOutputs(join(folder, "outputs"), undefined).variables).toEqual([set("A", "1")]);
  });

  test("is never waited for nor followed: a pipe, a folder and a link are told of", () => {
    execFileSync("mkfifo", [join(folder, "pipe")]);
    mkdirSync(join(folder, "folder"));
    writeFileSync(join(folder, "target"), "A=1\n");
    symlinkSync(join(folder, "target"), join(folder, "link"));
    expect(["pipe", "folder", "link"].map((name) => readOutputs(join(folder, name), undefined))).toEqual([
      { variables: [], dropped: "all (no plain file)" },
      { variables: [], dropped: "all (no plain file)" },
      { variables: [], dropped: "all (ELOOP)" },
    ]);
  });
});
