// Asking agents to replace their own executable by the one that the nodes serve, as one submission of update tasks. The caller
// names what it saw listed, so that a rollout stays at one version though nodes are being upgraded meanwhile.
import { z } from "zod";
import { limits, nameSchema, updateServerSchema, updateSpecSchema } from "../task.ts";
import { queueTimeoutBounds } from "./submissions.ts";

export const sumsSchema = z.record(
  z.string().max(128),
  z.string().regex(/^[0-9a-f]{64}$/, "expected a SHA-256 as 64 hex digits"),
);
/** SHA-256 by name of file, such as `holdfast-agent-linux-x64`. */
export type Sums = z.infer<typeof sumsSchema>;

export const agentUpdateSchema = z.strictObject({
  agents: z.array(nameSchema).min(1).max(limits.tasksPerSubmission).describe("Names or ids"),
  sums: sumsSchema.describe(
    "Of the executables as /downloads/SHA256SUMS has them; 404 when this node serves another one, or none, for an agent's platform",
  ),
  servers: z
    .array(updateServerSchema)
    .min(1)
    .max(8)
    .describe("Where the agents download, as they reach it; tried in order"),
  greetMs: updateSpecSchema.shape.greetMs
    .unwrap()
    .optional()
    .describe("Time for the new version to connect; default 60 s"),
  queueTimeoutMs: z
    .int()
    .min(queueTimeoutBounds.leastMs)
    .max(queueTimeoutBounds.mostMs)
    .optional()
    .describe("Expires while its agent has not begun after this long; default 60 s"),
});
export type AgentUpdateRequest = z.infer<typeof agentUpdateSchema>;

export function executableFor(host: { readonly os: string; readonly arch: string }): string {
  return `holdfast-agent-${host.os}-${host.arch}`;
}

/** From a list as `sha256sum` writes it. */
export function readSums(text: string): Sums {
  const lines = text.split("\n").flatMap((line) => {
    const [, sum, name] = /^([0-9a-f]{64}) [ *](\S+)$/.exec(line) ?? [];
    return sum === undefined || name === undefined ? [] : [[name, sum] as const];
  });
  return Object.fromEntries(lines);
}

/** Whether a version by its folder's name is the executable with this sum. */
export function isVersionOf(executable: string, sha256: string): boolean {
  return executable.endsWith(`-${sha256.slice(0, 12)}`);
}
