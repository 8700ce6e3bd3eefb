// A fleet in a process of its own: `agent-fleet.ts PLAN ADDRESS AGENTS node|bare`. Its parent asks over the IPC channel, one
// question at a time, and gets the fleet's state with the answer; when the parent goes, the process ends.
import { readFileSync } from "node:fs";
import { z } from "zod";
import { Fleet } from "./fleet.ts";
import type { FleetPlan } from "./fleet-plan.ts";

const questionSchema = z.discriminatedUnion("ask", [
  z.object({ ask: z.literal("start"), atOnce: z.int().min(1) }),
  z.object({ ask: z.enum(["watch", "state", "stop"]) }),
]);
export type FleetQuestion = z.infer<typeof questionSchema>;

const [planPath = "", address = "", agents = "0", peer = "node"] = process.argv.slice(2);
const plan: FleetPlan = JSON.parse(readFileSync(planPath, "utf8"));
const fleet = new Fleet(plan, { address, agents: Number(agents), peer: peer === "bare" ? "bare" : "node" });

async function carryOut(question: FleetQuestion): Promise<void> {
  let tookMs: number | undefined;
  if (question.ask === "start") tookMs = await fleet.start(question.atOnce);
  else if (question.ask === "watch") fleet.watch();
  else if (question.ask === "stop") fleet.stop();
  process.send?.({ ...fleet.state, tookMs });
}

process.on("message", (message) => void carryOut(questionSchema.parse(message)));
process.on("disconnect", () => process.exit());
