// The door for agents that have no certificate yet. Public: the exchange proves itself (DESIGN section 7).
import { z } from "zod";
import type { EnrolmentBackend } from "./backend.ts";
import type { ApiInstance } from "./route.ts";

const url = "/api/v1/enrolment";
const enrolmentBodyBytes = 64 * 1024;

export function addEnrolmentRoutes(app: ApiInstance, enrolment: EnrolmentBackend): void {
  app.route({
    method: "GET",
    url,
    config: { permission: "public" },
    schema: {
      summary: "What an agent needs before it enrols",
      tags: ["enrolment"],
      response: { 200: z.looseObject({}) },
    },
    handler: async () => ({ ...(await enrolment.greeting()) }),
  });

  app.route({
    method: "POST",
    url,
    config: { permission: "public" },
    bodyLimit: enrolmentBodyBytes,
    schema: { summary: "Enrol an agent", tags: ["enrolment"], body: z.unknown(), response: { 200: z.looseObject({}) } },
    handler: async (request) => ({ ...(await enrolment.enrol(request.body, request.clientAddress)) }),
  });
}
