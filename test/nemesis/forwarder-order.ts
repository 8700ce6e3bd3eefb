// What the owner of the forwarder tells it, and what it answers.
import { z } from "zod";

const laneSchema = z.object({ flow: z.enum(["pass", "pause"]), delayMs: z.number(), jitterMs: z.number() });
const planSchema = z.object({ toTarget: laneSchema, toClient: laneSchema });

export const orderSchema = z.discriminatedUnion("kind", [
  z.object({ no: z.int(), kind: z.literal("listen"), seed: z.int() }),
  z.object({ no: z.int(), kind: z.literal("change"), port: z.int(), plan: planSchema }),
  /** Where the database is from now on: what is open, and may lead to the one before, is reset. */
  z.object({ no: z.int(), kind: z.literal("lead"), to: z.int() }),
]);

/** To each order under its number, once it is carried out, with the port of one that listens; or why it could not be. */
export const answerSchema = z.object({ no: z.int(), port: z.int().optional(), error: z.string().optional() });

export type LinePlan = z.infer<typeof planSchema>;
export type Order = z.infer<typeof orderSchema>;
export type Answer = z.infer<typeof answerSchema>;

export const wholeLine: LinePlan = {
  toTarget: { flow: "pass", delayMs: 0, jitterMs: 0 },
  toClient: { flow: "pass", delayMs: 0, jitterMs: 0 },
};
