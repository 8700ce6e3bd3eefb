// Which texts are a traceparent of W3C Trace Context, level 1.
import { expect, test } from "vitest";
import { isTraceParent } from "../../../shared/trace-parent.ts";

const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
const parent = "00f067aa0ba902b7";

test.each([
  `00-${trace}-${parent}-01`,
  `00-${trace}-${parent}-00`,
  `01-${trace}-${parent}-01`,
  `cc-${trace}-${parent}-01-what.is-next`,
])("%s is one", (text) => expect(isTraceParent(text)).toBe(true));

test.each([
  ["nothing", undefined],
  ["no text", ""],
  ["capital letters", `00-${trace.toUpperCase()}-${parent}-01`],
  ["a trace of zeros", `00-${"0".repeat(32)}-${parent}-01`],
  ["a parent of zeros", `00-${trace}-${"0".repeat(16)}-01`],
  ["more behind version 0", `00-${trace}-${parent}-01-more`],
  ["version ff", `ff-${trace}-${parent}-01`],
  ["a line break", `00-${trace}-${parent}-01\n`],
  ["a line break in a later version", `cc-${trace}-${parent}-01-a\nb`],
  ["too long a text", `cc-${trace}-${parent}-01-${"x".repeat(256)}`],
])("%s is none", (_what, text) => expect(isTraceParent(text)).toBe(false));
