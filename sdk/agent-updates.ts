// The two requests of a rollout: what the node serves, and that agents are to update themselves to it.
import { readSums, type AgentUpdateRequest, type Sums } from "../shared/api/agent-updates.ts";
import { submitAnswerSchema, type SubmitAnswer } from "../shared/api/submissions.ts";
import type { Transport } from "./transport.ts";

export type UpdateRequest = AgentUpdateRequest;

/** Throws `download.unknown` when the node serves no executables. */
export async function readServedSums(transport: Transport): Promise<Sums> {
  const answer = await transport.response({ method: "GET", path: "/downloads/SHA256SUMS", repeatable: "repeatable" });
  return readSums(await answer.text());
}

export function requestUpdates(
  transport: Transport,
  request: UpdateRequest,
  { idempotencyKey, signal }: { readonly idempotencyKey: string; readonly signal?: AbortSignal },
): Promise<SubmitAnswer> {
  return transport.json(submitAnswerSchema, {
    method: "POST",
    path: "/api/v1/agent-updates",
    body: request,
    headers: { "idempotency-key": idempotencyKey },
    repeatable: "repeatable",
    signal,
  });
}
