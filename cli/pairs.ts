// `k=v` on the command line: labels and environment variables of scripts.
import { AppError } from "../shared/errors.ts";
import { environmentNameSchema, labelSchema, type Labels } from "../shared/task.ts";

/** `role=web` or `role=web,env=prod`. Later ones win. */
export function parseLabels(texts: readonly string[]): Labels {
  const words = texts.flatMap((text) => text.split(",")).map((word) => word.trim());
  return Object.fromEntries(
    words.map((word) => {
      const [key, value] = splitPair(word, "label", "role=web");
      for (const side of [key, value]) {
        const parsed = labelSchema.safeParse(side);
        if (!parsed.success)
          throw new AppError(
            "config.invalid",
            `the label "${word}": ${parsed.error.issues[0]?.message ?? "not allowed"}`,
          );
      }
      return [key, value];
    }),
  );
}

/** `K=V`; the value may hold anything, `=` and commas too. */
export function parseEnvironment(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const [key, value] = splitPair(text, "environment variable", "KEY=value");
      if (!environmentNameSchema.safeParse(key).success) {
        throw new AppError("config.invalid", `"${key}" is not the name of an environment variable`);
      }
      return [key, value];
    }),
  );
}

function splitPair(text: string, noun: string, example: string): [string, string] {
  const at = text.indexOf("=");
  if (at < 1) throw new AppError("config.invalid", `the ${noun} "${text}" has not the form ${example}`);
  return [text.slice(0, at), text.slice(at + 1)];
}
