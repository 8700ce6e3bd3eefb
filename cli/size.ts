// Sizes as people write them: 64K, 512M, 2G; a bare number counts bytes. A thousand and twenty-four each.
import { AppError } from "../shared/errors.ts";

const units: Readonly<Record<string, number>> = { "": 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 };

/** Bytes. Throws `config.invalid`. */
export function parseSize(text: string): number {
  const [, digits, unit = ""] = /^(\d{1,15})([kmgt]?)(?:i?b)?$/i.exec(text) ?? [];
  const bytes = Number(digits) * (units[unit.toLowerCase()] ?? Number.NaN);
  if (Number.isSafeInteger(bytes)) return bytes;
  throw new AppError("config.invalid", `"${text}" is not a size`, { mend: "Write it as 64K, 512M or 2G." });
}
