// Every message an agent may send. Anything else closes the connection (SECURITY S4).
import { z } from "zod";
import { acceptSchema } from "./accept.ts";
import { helloSchema } from "./hello.ts";
import { logSchema } from "./log.ts";
import { progressSchema } from "./progress.ts";
import { readySchema } from "./ready.ts";
import { refuseSchema } from "./refuse.ts";
import { renewSchema } from "./renew.ts";
import { resultSchema } from "./result.ts";
import { resumeSchema } from "./resume.ts";
import { startedSchema } from "./started.ts";
import { stateSchema } from "./state.ts";

export const fromAgentSchema = z.discriminatedUnion("type", [
  helloSchema,
  readySchema,
  acceptSchema,
  refuseSchema,
  stateSchema,
  startedSchema,
  logSchema,
  progressSchema,
  resultSchema,
  resumeSchema,
  renewSchema,
]);
export type FromAgent = z.infer<typeof fromAgentSchema>;
