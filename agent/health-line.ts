// What a running agent says of itself in one JSON line on its local socket: the form of it, and where the socket lies.
// Invariant: fields are only added and never change their meaning, and none holds a secret.
import { closeSync, constants, openSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { AppError } from "../shared/errors.ts";
import type { ConnectionView } from "./connections.ts";
import type { Engine } from "./engine.ts";
import type { Identity } from "./identity.ts";

export const healthLineSchema = z.object({
  /** Of this line. */
  format: z.literal(1),
  pid: z.int(),
  version: z.string(),
  name: z.string(),
  agentId: z.string(),
  state: z.enum(["running", "draining", "quarantined"]),
  /** Why no work is taken, null unless quarantined. */
  quarantine: z.string().nullable(),
  upMs: z.int(),
  /** One per listed node and per seed that is tried. `state` is `open` for a session. */
  sessions: z.array(
    z.object({ node: z.string(), id: z.string().nullable(), state: z.string(), lastEnd: z.string().nullable() }),
  ),
  attempts: z.object({ open: z.int(), running: z.int(), waiting: z.int(), kept: z.int() }),
  journalBytes: z.int(),
  disk: z.object({ freeBytes: z.int(), refusedBelowBytes: z.int() }),
  cgroups: z.object({ tree: z.boolean(), memory: z.boolean(), pids: z.boolean() }),
  interpreters: z.array(z.string()),
});
export type HealthLine = z.infer<typeof healthLineSchema>;

export interface HealthFacts {
  readonly pid: number;
  readonly version: string;
  readonly identity: Pick<Identity, "name" | "agentId">;
  readonly activity: "running" | "draining";
  readonly corruption: AppError | undefined;
  readonly upMs: number;
  readonly views: readonly ConnectionView[];
  readonly size: Engine["size"];
  readonly journalBytes: number;
  readonly freeBytes: number;
  readonly refusedBelowBytes: number;
  readonly cgroups: HealthLine["cgroups"];
  readonly interpreters: readonly string[];
}

export function makeHealthLine(facts: HealthFacts): HealthLine {
  const { identity, corruption, views, size } = facts;
  const { open, running, waiting, kept } = size;
  return {
    format: 1,
    pid: facts.pid,
    version: facts.version,
    name: identity.name,
    agentId: identity.agentId,
    state: corruption === undefined ? facts.activity : "quarantined",
    quarantine: corruption?.message ?? null,
    upMs: Math.round(facts.upMs),
    sessions: sessionsOf(views),
    attempts: { open, running, waiting, kept },
    journalBytes: facts.journalBytes,
    disk: { freeBytes: facts.freeBytes, refusedBelowBytes: facts.refusedBelowBytes },
    cgroups: facts.cgroups,
    interpreters: [...facts.interpreters],
  };
}

/** One per node, however it was reached, and per seed that is tried; a seed that rests is no news. */
function sessionsOf(views: readonly ConnectionView[]): HealthLine["sessions"] {
  const rows = new Map<string, HealthLine["sessions"][number]>();
  for (const { node, id, state, lastEnd } of views) {
    if (id === undefined && state === "idle") continue;
    const known = id === undefined ? undefined : rows.get(id);
    if (known === undefined) rows.set(id ?? node, { node, id: id ?? null, state, lastEnd: lastEnd ?? null });
    else if (state === "open") rows.set(id ?? node, { ...known, state });
  }
  return [...rows.values()];
}

export const healthSocketPath = (dataPath: string): string => join(dataPath, "health.sock");

/** `sun_path` of Linux is 108 bytes, of macOS and the BSDs 104, with the NUL at its end. */
const socketPathBytesAtMost = process.platform === "linux" ? 107 : 103;

export interface SocketFolder {
  /** A path of the same socket that is short enough for bind and connect. */
  pathOf(name: string): string;
  close(): void;
}

/**
 * The data directory as bind(2) and connect(2) can take it. Where its path is too long for a socket address, Linux lets
 * us name it by an open descriptor instead, so the socket lies where it belongs all the same. Throws `config.invalid`
 * where there is no such way.
 */
export function openSocketFolder(dataPath: string, longestName: string): SocketFolder {
  const bytes = Buffer.byteLength(join(dataPath, longestName));
  if (bytes <= socketPathBytesAtMost) return { pathOf: (name) => join(dataPath, name), close: () => undefined };
  if (process.platform !== "linux") {
    throw new AppError(
      "config.invalid",
      `${dataPath}: a socket's path may have ${socketPathBytesAtMost} bytes, this one has ${bytes}`,
      { mend: "Choose a shorter --data-dir; only the health line is missing, the agent runs." },
    );
  }
  const descriptor = openSync(dataPath, constants.O_RDONLY | constants.O_DIRECTORY);
  return { pathOf: (name) => `/proc/self/fd/${descriptor}/${name}`, close: () => closeSync(descriptor) };
}
