// Writes the samples of the newest protocol as bytes and JSON: `node test/surface/write-wire-samples.ts`. Run once per
// protocol version, when its messages are settled; files that exist are left alone.
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { encodeFrame } from "../../shared/wire/frame.ts";
import { newestProtocol } from "../../shared/wire/version.ts";
import { fromAgentSamples, fromNodeSamples } from "./wire-messages.ts";

const folder = join(import.meta.dirname, "wire", `v${newestProtocol}`);
mkdirSync(folder, { recursive: true });

/** Bytes as `{"$hex": "…"}`: JSON has none. */
const replacer = (_key: string, value: unknown): unknown =>
  value instanceof Uint8Array ? { $hex: Buffer.from(value).toString("hex") } : value;

for (const [direction, samples] of Object.entries({ agent: fromAgentSamples, node: fromNodeSamples })) {
  for (const [name, message] of Object.entries(samples)) {
    const path = join(folder, `${direction}.${name}`);
    if (existsSync(`${path}.bin`)) continue;
    writeFileSync(`${path}.bin`, encodeFrame(message));
    writeFileSync(`${path}.json`, `${JSON.stringify(message, replacer, 2)}\n`);
  }
}
