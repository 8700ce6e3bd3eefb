// Opens the secrets of a claimed attempt, for the frame that takes them to its agent: here and nowhere else.
import { AppError } from "../../shared/errors.ts";
import type { ClaimedAttempt } from "../store/claim-attempts.ts";
import type { OfferedAttempt } from "../tasks/courier-offer.ts";
import type { SessionDeps } from "./session-deps.ts";

/** What cannot be opened is told of, and refused instead of offered. */
export function withOpenSecrets(
  attempt: ClaimedAttempt,
  { vault, logger }: Pick<SessionDeps<unknown>, "vault" | "logger">,
): OfferedAttempt {
  const { task, sealedSecrets } = attempt;
  if (sealedSecrets === undefined) return attempt;
  try {
    return { ...attempt, secrets: vault.open(task, sealedSecrets) };
  } catch (cause) {
    logger.error({ code: AppError.from(cause).code, task }, "the secrets of a task cannot be opened");
    return { ...attempt, secrets: { why: "its secrets cannot be opened with this cluster's master key" } };
  }
}
