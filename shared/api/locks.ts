// The isolation locks of one agent as the API shows them: who holds each, since when, and who waits, in order.
import { z } from "zod";
import { isolationModes } from "../task.ts";
import { momentSchema } from "./moment.ts";

const claimSchema = z.object({
  task: z.string(),
  attempt: z.string(),
  mode: z.enum(isolationModes),
  since: momentSchema.describe("When it began to run, or to wait"),
  ageMs: z.int().describe("By the database's clock"),
});

export const lockViewSchema = z.object({
  name: z.string(),
  holders: z.array(claimSchema).describe("One of mode full, or any number of mode none"),
  waiting: z.array(claimSchema).describe("In the order in which they will have it; some may wait for a slot only"),
});
export type LockView = z.infer<typeof lockViewSchema>;

export const agentLocksSchema = z.object({
  agent: z.string().describe("Name"),
  locks: z.array(lockViewSchema).describe("Those that somebody holds or waits for, by name"),
});
export type AgentLocks = z.infer<typeof agentLocksSchema>;
