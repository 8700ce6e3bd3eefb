// Every message a node may send.
import { z } from "zod";
import { cancelSchema } from "./cancel.ts";
import { goAwaySchema } from "./go-away.ts";
import { inquireSchema } from "./inquire.ts";
import { logAckSchema, resumeFromSchema } from "./log-ack.ts";
import { nodesSchema } from "./nodes.ts";
import { offerSchema } from "./offer.ts";
import { renewedSchema } from "./renew.ts";
import { resultAckSchema } from "./result-ack.ts";
import { settingsSchema } from "./settings.ts";
import { welcomeSchema } from "./welcome.ts";

export const fromNodeSchema = z.discriminatedUnion("type", [
  welcomeSchema,
  offerSchema,
  cancelSchema,
  inquireSchema,
  logAckSchema,
  resumeFromSchema,
  resultAckSchema,
  renewedSchema,
  nodesSchema,
  goAwaySchema,
  settingsSchema,
]);
export type FromNode = z.infer<typeof fromNodeSchema>;
