// Reads wire samples by the code of a checkout, in a process of its own: `node read-samples.ts CHECKOUT FOLDER`. Prints what each
// is taken for, as JSON. Imports nothing of this checkout.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { readFrame } from "../../shared/link.ts";
import type { fromAgentSchema } from "../../shared/wire/from-agent.ts";
import type { fromNodeSchema } from "../../shared/wire/from-node.ts";

interface Reader {
  readonly readFrame: typeof readFrame;
  readonly fromAgentSchema: typeof fromAgentSchema;
  readonly fromNodeSchema: typeof fromNodeSchema;
}

const [, , checkout = "", folder = ""] = process.argv;
const load = async (...path: string[]): Promise<Reader> =>
  (await import(pathToFileURL(join(checkout, "shared", ...path)).href)) as Reader;
const { readFrame: read } = await load("link.ts");
const schemas = {
  agent: (await load("wire", "from-agent.ts")).fromAgentSchema,
  node: (await load("wire", "from-node.ts")).fromNodeSchema,
} as const;

const taken = readdirSync(folder)
  .filter((file) => file.endsWith(".bin"))
  .map((file) => {
    const schema = file.startsWith("agent.") ? schemas.agent : schemas.node;
    const types = new Set<string>(schema.options.map((option) => option.shape.type.value));
    return [file.slice(0, -".bin".length), read<unknown>(readFileSync(join(folder, file)), schema, types)];
  });
const withHex = (_key: string, value: unknown): unknown =>
  value instanceof Uint8Array ? { $hex: Buffer.from(value).toString("hex") } : value;
// Before JSON.stringify asks a Buffer for its own form.
Object.defineProperty(Buffer.prototype, "toJSON", { value: undefined });
process.stdout.write(JSON.stringify(Object.fromEntries(taken), withHex));
