// Parses each part of a request with its zod contract. A wrong part becomes `request.invalid` that names every field;
// values are never repeated, they may be secrets.
import type { FastifySchemaCompiler } from "fastify";
import type { z } from "zod";
import { AppError } from "../../shared/errors.ts";

type Issue = z.core.$ZodIssue;

const issuesShown = 5;
const partNames: Record<string, string> = { querystring: "query", body: "body", params: "path", headers: "header" };

export const validatorCompiler: FastifySchemaCompiler<z.ZodType> = ({ schema, httpPart }) => {
  const part = partNames[httpPart ?? "body"] ?? "request";
  return (data: unknown) => {
    if (part !== "body" && hasNul(data)) {
      return { error: new AppError("request.invalid", `${part}: must not contain NUL`) };
    }
    const parsed = schema.safeParse(data);
    return parsed.success ? { value: parsed.data } : { error: invalid(part, parsed.error.issues) };
  };
};

/** Names and cursors are looked up as they come, and PostgreSQL takes no text with a NUL; bodies have stricter contracts. */
function hasNul(data: unknown): boolean {
  return typeof data === "object" && data !== null && Object.values(data).some((value) => String(value).includes("\0"));
}

function invalid(part: string, issues: readonly Issue[]): AppError {
  const flat = issues.flatMap((issue) => flatten(issue));
  const lines = flat
    .slice(0, issuesShown)
    .map((issue) => `${[part, ...issue.path].map(String).join(".")}: ${issue.message}`);
  if (flat.length > lines.length) lines.push(`and ${flat.length - lines.length} more`);
  return new AppError("request.invalid", lines.join("; "));
}

/** Of a union, tells what is wrong with the alternative that came nearest; "invalid input" alone helps nobody. */
function flatten(issue: Issue): { path: readonly PropertyKey[]; message: string }[] {
  if (issue.code !== "invalid_union" || issue.errors.length === 0)
    return [{ path: issue.path, message: issue.message }];
  const nearest = issue.errors.toSorted((one, other) => distance(one) - distance(other))[0] ?? [];
  return nearest
    .flatMap((inner) => flatten(inner))
    .map((inner) => ({ path: [...issue.path, ...inner.path], message: inner.message }));
}

/** A wrong type at the top or an unknown key means another alternative was meant. */
function distance(issues: readonly Issue[]): number {
  return issues.reduce((sum, issue) => sum + (issue.path.length === 0 ? 10 : 1), 0);
}
