// How the small messages of one turn go into frames.
import { expect, test } from "vitest";
import { Outbox } from "../../../agent/outbox.ts";
import { attemptIdSchema } from "../../../shared/ids.ts";
import { bytesOfOutputs, outputLimits } from "../../../shared/output-variables.ts";
import { sha256Hex } from "../../../shared/thumbprint.ts";
import { decodeFrame, encodeFrame } from "../../../shared/wire/frame.ts";
import type { FromAgent } from "../../../shared/wire/from-agent.ts";
import { resultSchema, type ResultItem } from "../../../shared/wire/result.ts";

const empty = { length: 0, sha256: sha256Hex("") };
const result = (no: number, outputs?: ResultItem["record"]["outputs"]): ResultItem => ({
  attempt: attemptIdSchema.parse(`00000000-0000-7000-8000-${String(no).padStart(12, "0")}`),
  homeNo: 1,
  record: {
    outcome: "succeeded",
    reason: "",
    exitCode: 0,
    signal: null,
    startedAtMs: 1,
    finishedAtMs: 2,
    durationMs: 1,
    out: empty,
    err: empty,
    ...(outputs === undefined ? {} : { outputs }),
  },
});

/** What a turn with these results sends, read back as a node reads it. */
function sentOf(items: readonly ResultItem[]): ResultItem[][] {
  const sent: FromAgent[] = [];
  const turns: (() => void)[] = [];
  const link = { queued: 0, send: (message: FromAgent) => void sent.push(message) };
  const outbox = new Outbox({ link, defer: (act) => void turns.push(act) });
  for (const item of items) outbox.put({ type: "result", item });
  for (const turn of turns) turn();
  return sent.map((message) => resultSchema.parse(decodeFrame(encodeFrame(message))).items);
}

test("results without output variables go 64 to a frame", () => {
  const items = Array.from({ length: 65 }, (_, no) => result(no));
  expect(sentOf(items).map((part) => part.length)).toEqual([64, 1]);
});

const most = Array.from({ length: outputLimits.count }, (_, no) => ({ name: `N${no}`, value: "" }));
const name = "A";
const longest = [{ name, value: "x".repeat(outputLimits.bytes - name.length) }];

test.each([
  ["many", most],
  ["long", longest],
])(
  "results with %s output variables go as many to a frame as a node takes, each once and in order",
  (_how, outputs) => {
    expect(bytesOfOutputs(outputs)).toBeLessThanOrEqual(outputLimits.bytes);
    const items = Array.from({ length: 64 }, (_, no) => result(no, outputs));
    const frames = sentOf(items);
    expect(frames.length).toBeGreaterThan(1);
    expect(frames.flat()).toEqual(items);
  },
);
