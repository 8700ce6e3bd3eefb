// First frame of an agent on every connection. Decides admission by boot pair and journal (DESIGN 4.7).
// A probe (`register`, `doctor`) is answered and changes nothing. Absence from `attempts` ends nothing.
import { z } from "zod";
import { bootIdSchema, journalIdSchema } from "../ids.ts";
import { attemptReportSchema } from "./attempt-report.ts";
import { count, storedText } from "./fields.ts";
import { protocolRangeSchema } from "./version.ts";

/** Open attempts one hello can list; an agent with more lists the oldest, the rest are asked for by `inquire`. */
export const attemptsPerHello = 1_000;

/**
 * Words of `capabilities` that a node acts by. `isolation`: keeps isolation locks; without it a spec that asks for one is
 * not offered. `slots`: understands `settings`. `secrets`: gives a script its secrets; without it a task that has some is not offered.
 * `interpreter-args`, `attachments` and `user`: know these fields of a spec; without them one that has the field is not offered.
 * `update`: knows this kind of spec.
 */
export const capability = {
  isolation: "isolation",
  slots: "slots",
  secrets: "secrets",
  interpreterArgs: "interpreter-args",
  attachments: "attachments",
  user: "user",
  update: "update",
} as const;

/** Boots one hello can name as its past. */
export const bootsPerHello = 256;

export const helloSchema = z.object({
  type: z.literal("hello"),
  protocols: protocolRangeSchema,
  version: storedText,
  bootCounter: count,
  bootId: bootIdSchema,
  journalId: journalIdSchema,
  /** Boots of this journal, oldest first, this one last: the boot the cluster knows must be among them. */
  lineage: z.array(bootIdSchema).max(bootsPerHello).optional(),
  attempts: z.array(attemptReportSchema).max(attemptsPerHello),
  capabilities: z.array(storedText).max(64),
  host: z.object({
    hostname: storedText,
    os: storedText,
    arch: storedText,
    slots: count,
    /** The folder of the version that runs, such as `0.1.0-3b6fbea9b5be`: absent where no single executable does. */
    executable: storedText.optional(),
  }),
  probe: z.boolean().optional(),
});
export type Hello = z.infer<typeof helloSchema>;
