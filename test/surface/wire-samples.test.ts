// Every message of every protocol version still served, kept as bytes: today's code must read them as they were meant.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { readFrame } from "../../shared/link.ts";
import { decodeFrame, encodeFrame } from "../../shared/wire/frame.ts";
import { fromAgentSchema } from "../../shared/wire/from-agent.ts";
import { fromNodeSchema } from "../../shared/wire/from-node.ts";
import { newestProtocol, oldestProtocol } from "../../shared/wire/version.ts";

const root = join(import.meta.dirname, "wire");
const schemas = { agent: fromAgentSchema, node: fromNodeSchema } as const;
const typesOf = (direction: keyof typeof schemas): string[] =>
  schemas[direction].options.map((option) => option.shape.type.value);
const isDirection = (text: string | undefined): text is keyof typeof schemas => text === "agent" || text === "node";

interface Sample {
  readonly name: string;
  readonly direction: keyof typeof schemas;
  readonly frame: Buffer;
  readonly expected: unknown;
}

function samplesOf(version: number): Sample[] {
  const folder = join(root, `v${version}`);
  return readdirSync(folder)
    .filter((file) => file.endsWith(".bin"))
    .map((file) => {
      const name = file.slice(0, -".bin".length);
      const [direction] = name.split(".");
      if (!isDirection(direction)) throw new Error(`${file}: expected agent.… or node.…`);
      return {
        name,
        direction,
        frame: readFileSync(join(folder, file)),
        expected: JSON.parse(readFileSync(join(folder, `${name}.json`), "utf8")),
      };
    });
}

/** As the JSON beside the bytes writes it: JSON has no bytes. */
const withHex = (value: unknown): unknown => {
  if (value instanceof Uint8Array) return { $hex: Buffer.from(value).toString("hex") };
  if (Array.isArray(value)) return value.map(withHex);
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, withHex(one)]));
  return value;
};

interface JsonSchema {
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly items?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly const?: string | number | boolean | null;
}

/** Every field that a value may have, as its message's type and path; where one word alone is allowed, with the word. */
function placesOf(schema: JsonSchema, path = ""): string[] {
  const { anyOf = [], oneOf = [], items, properties = {} } = schema;
  const alternatives = [...anyOf, ...oneOf].flatMap((one) => placesOf(one, path));
  const within = items === undefined ? [] : placesOf(items, path);
  const word = schema.const === undefined ? [] : [`${path}=${String(schema.const)}`];
  const type = path === "" ? `${properties["type"]?.const ?? ""}` : path;
  const fields = Object.entries(properties).flatMap(([name, one]) => [
    `${type}.${name}`,
    ...placesOf(one, `${type}.${name}`),
  ]);
  return [...alternatives, ...within, ...word, ...fields];
}

/** The same of a value. */
function placesIn(value: unknown, path = ""): string[] {
  if (Array.isArray(value)) return value.flatMap((one) => placesIn(one, path));
  if (typeof value !== "object" || value === null) return [`${path}=${String(value)}`];
  const type = path === "" && "type" in value ? String(value.type) : path;
  return Object.entries(value).flatMap(([name, one]) => [`${type}.${name}`, ...placesIn(one, `${type}.${name}`)]);
}

const versions = Array.from({ length: newestProtocol - oldestProtocol + 1 }, (_, index) => oldestProtocol + index);

describe.each(versions)("protocol %i", (version) => {
  const samples = samplesOf(version);

  it.each(samples.map((sample) => [sample.name, sample] as const))("reads %s as it was written", (_name, sample) => {
    const { direction, frame, expected } = sample;
    const incoming = readFrame<unknown>(frame, schemas[direction], new Set(typesOf(direction)));
    expect(incoming.kind === "message" ? withHex(incoming.message) : incoming).toEqual(expected);
  });

  it.each(samples.map((sample) => [sample.name, sample] as const))(
    "still writes %s so that it reads the same",
    (_name, { frame, direction }) => {
      const message = schemas[direction].parse(decodeFrame(frame));
      expect(withHex(decodeFrame(encodeFrame(message)))).toEqual(withHex(decodeFrame(frame)));
    },
  );

  it.each(["agent", "node"] as const)("has a sample of every message a %s sends", (direction) => {
    const present = new Set(
      samples
        .filter((sample) => sample.direction === direction)
        .map(({ expected }) => (expected as { type: string }).type),
    );
    expect([...present].toSorted()).toEqual(typesOf(direction).toSorted());
  });

  // What an earlier protocol had of fields is what its samples have.
  const written = version === newestProtocol ? (["agent", "node"] as const) : [];
  it.each(written)("has a sample of every field of every message that a %s sends", (direction) => {
    const schema = z.toJSONSchema(schemas[direction], { unrepresentable: "any", io: "input" });
    const sent = samples.filter((sample) => sample.direction === direction);
    const present = new Set(sent.flatMap(({ expected }) => placesIn(expected)));
    const wanted = [...new Set(placesOf(schema as JsonSchema))];
    expect(wanted.length).toBeGreaterThan(40);
    expect(wanted.filter((place) => !present.has(place))).toEqual([]);
  });

  it("ignores an optional field it does not know, in every message", () => {
    for (const { frame, direction, expected } of samples) {
      const message = schemas[direction].parse(
        decodeFrame(encodeFrame({ ...(decodeFrame(frame) as object), addedLater: 1 })),
      );
      expect(withHex(message)).toEqual(expected);
    }
  });
});
