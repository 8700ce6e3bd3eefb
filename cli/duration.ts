// Durations as people write them: `500ms`, `10s`, `1h30m`, `2d`. A bare number is refused: its unit would be a guess.
import { AppError } from "../shared/errors.ts";

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const part = /(\d+(?:\.\d+)?)(ms|s|m|h|d)/g;
const whole = /^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+$/;

/** Milliseconds. */
export function parseDuration(text: string): number {
  const trimmed = text.trim();
  if (trimmed === "0") return 0;
  if (!whole.test(trimmed)) {
    throw new AppError("config.invalid", `"${text}" is not a duration`, {
      mend: "Write it as 500ms, 10s, 5m, 1h30m or 2d.",
    });
  }
  const ms = [...trimmed.matchAll(part)].reduce(
    (sum, [, count, unit]) => sum + Number(count) * (unitMs[unit ?? ""] ?? 0),
    0,
  );
  return Math.round(ms);
}
