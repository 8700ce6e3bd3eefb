// docs/protocol.md names every message, every field, every allowed word and every close code of shared/wire, in the
// section they belong to, and nothing there contradicts the numbers in the code.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { enrolmentAnswerSchema, enrolmentGreetingSchema, enrolmentRequestSchema } from "../../shared/enrolment.ts";
import { scriptSpecSchema } from "../../shared/task.ts";
import { transcriptOf } from "../../shared/transcript.ts";
import { reservedTypes } from "../../shared/wire/call.ts";
import { closeCode } from "../../shared/wire/close-code.ts";
import { initialWindowBytes, itemsPerMessage, logFrameBytes } from "../../shared/wire/fields.ts";
import { frameBytes } from "../../shared/wire/frame.ts";
import { fromAgentSchema } from "../../shared/wire/from-agent.ts";
import { fromNodeSchema } from "../../shared/wire/from-node.ts";
import { attemptsPerHello } from "../../shared/wire/hello.ts";
import { prescanLimits } from "../../shared/wire/prescan.ts";
import { agentPath, newestProtocol, subprotocol } from "../../shared/wire/version.ts";
import { defaultTimings } from "../../shared/wire/welcome.ts";

const page = readFileSync(new URL("../../docs/protocol.md", import.meta.url), "utf8");
/** The text under a heading, up to the next one of its level or above. */
function section(heading: string): string {
  const [level = ""] = /^#+/.exec(heading) ?? [];
  const start = page.indexOf(`\n${heading}\n`);
  if (start < 0) return "";
  const rest = page.slice(start + heading.length + 2);
  const end = rest.search(new RegExp(`^#{1,${level.length}} `, "m"));
  return end < 0 ? rest : rest.slice(0, end);
}
const grouped = (number: number): string => number.toLocaleString("en-US");

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
}

/** Field names and fixed words of a schema, however deep. */
function wordsOf(schema: JsonSchema): string[] {
  const own = Object.entries(schema.properties ?? {}).flatMap(([name, field]) => [name, ...wordsOf(field)]);
  const inner = [schema.items, ...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].flatMap((one) =>
    one === undefined ? [] : wordsOf(one),
  );
  const fixed = [...(schema.enum ?? []), schema.const].filter((word) => typeof word === "string");
  return [...own, ...inner, ...fixed];
}
const jsonOf = (schema: z.ZodType): JsonSchema =>
  z.toJSONSchema(schema, { unrepresentable: "any", io: "input" }) as JsonSchema;

const directions = [
  ["agent", fromAgentSchema],
  ["node", fromNodeSchema],
] as const;
const messages = directions.flatMap(([from, union]) =>
  union.options.map((option) => [option.shape.type.value, from, option as z.ZodType] as const),
);

describe("docs/protocol.md", () => {
  it.each(messages)("has a section of its own for %s, under what the %s sends", (type, from) => {
    expect(section(`### ${type}`)).not.toBe("");
    expect(section(from === "agent" ? "## 4. Messages from the agent" : "## 5. Messages from the node")).toContain(
      `\n### ${type}\n`,
    );
  });

  it.each(messages)("names every field and every word of %s", (type, _from, schema) => {
    // What several messages share is described once, where it is at home: streams, reports, the list of nodes.
    const text = [type, "state", "nodes", "offer", "log"].map((one) => section(`### ${one}`)).join("\n");
    const missing = new Set(
      wordsOf(jsonOf(schema)).filter(
        (word) => word !== "type" && word !== type && !new RegExp(`\\b${word}\\b`).test(text),
      ),
    );
    expect([...missing]).toEqual([]);
  });

  it("has no section for a message that does not exist", () => {
    const described = [...page.matchAll(/^### (\S+)$/gm)].map(([, type]) => type);
    expect(new Set(described)).toEqual(new Set(messages.map(([type]) => type)));
    expect(described).toHaveLength(messages.length);
  });

  it("names every field of a script's spec, and the reserved types", () => {
    for (const field of Object.keys(scriptSpecSchema.shape))
      expect(section("### offer")).toMatch(new RegExp(`\`${field}\``));
    for (const type of reservedTypes) expect(page).toContain(`\`${type}\``);
  });

  it("has one row for every close code, under its own name, and no other", () => {
    const rows = [...section("## 7. Close codes").matchAll(/^\| (\d{4}) \| `(\w+)`/gm)].map(([, code, name]) => [
      name,
      Number(code),
    ]);
    expect(Object.fromEntries(rows)).toEqual(closeCode);
  });

  it.each([
    ["path", `GET ${agentPath}`],
    ["sub-protocol", `Sec-WebSocket-Protocol: ${subprotocol}`],
    ["frame bound", `${grouped(frameBytes)} bytes`],
    ["depth", `${prescanLimits.depth} levels`],
    ["values", `${grouped(prescanLimits.nodes)} values`],
    ["key length", `${prescanLimits.keyBytes} bytes`],
    ["text length", `${grouped(prescanLimits.textBytes)} bytes`],
    ["items of a message", `1 to ${itemsPerMessage}`],
    ["attempts of a hello", `up to ${grouped(attemptsPerHello)} reports`],
    ["log piece", `1 to ${grouped(logFrameBytes)} bytes`],
    ["first window", `starts with\n${grouped(initialWindowBytes)} bytes`],
    ["ping period", `\`pingMs\` (${grouped(defaultTimings.pingMs)})`],
    ["silence", `\`silenceMs\` (${grouped(defaultTimings.silenceMs)})`],
    ["version", `version ${newestProtocol}`],
  ])("states the %s as the code has it", (_what, words) => {
    expect(page.replaceAll(/\s+/g, " ")).toContain(words.replaceAll(/\s+/g, " "));
  });

  it("names every field of the enrolment exchange", () => {
    const text = section("## 9. Enrolment");
    const fields = [enrolmentGreetingSchema, enrolmentRequestSchema, enrolmentAnswerSchema].flatMap((schema) =>
      Object.keys(schema.shape),
    );
    expect(fields.filter((field) => !text.includes(`| \`${field}\` `))).toEqual([]);
  });

  it.each(["enrolment greeting", "enrolment proof", "enrolment request", "enrolment answer", "renewal"])(
    "names the transcript of the %s by its domain",
    (name) => {
      expect(page).toContain(`"holdfast ${name} v1"`);
    },
  );

  it("shows the bytes of a transcript as the code makes them", () => {
    const bytes = transcriptOf("example", ["a", 1, Uint8Array.of(0xff), [["k", "v"]]]).toString("hex");
    expect(section("## 8. Transcripts").replaceAll(/\s/g, "")).toContain(bytes);
  });
});
