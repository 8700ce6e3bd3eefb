// Protocol versions. A node serves N and N-1; an agent offers the range it speaks and the node picks the highest common one.
// History, one line per version:
//   1  first version (2026-11): hello … go-away as in docs/protocol.md; settings, to agents with the capability `slots`;
//      progress, to nodes with the capability `progress`
import { z } from "zod";

export const subprotocol = "holdfast.v1";
/** The one path of the agent listener; any other is answered 404. */
export const agentPath = "/agent";
export const newestProtocol = 1;
export const oldestProtocol = 1;

export const protocolRangeSchema = z
  .object({ min: z.int().min(1).max(1_000), max: z.int().min(1).max(1_000) })
  .refine((range) => range.min <= range.max, "min must not exceed max");
export type ProtocolRange = z.infer<typeof protocolRangeSchema>;

export const ownProtocols: ProtocolRange = { min: oldestProtocol, max: newestProtocol };

/** The highest version both ranges contain, or undefined when they do not meet. */
export function negotiate(theirs: ProtocolRange, ours: ProtocolRange = ownProtocols): number | undefined {
  const highest = Math.min(theirs.max, ours.max);
  return highest >= Math.max(theirs.min, ours.min) ? highest : undefined;
}
