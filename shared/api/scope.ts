// What an API key may do. A route names exactly one of these as its permission; `*` on a key stands for all, present and future.
import { z } from "zod";

export const scopes = [
  "agents:read",
  "agents:write",
  "metrics:read",
  "nodes:read",
  "nodes:write",
  "tasks:read",
  "tasks:run",
  "tokens:read",
  "tokens:write",
] as const;
export type Scope = (typeof scopes)[number];

export const grantSchema = z.enum([...scopes, "*"]);
export type Grant = z.infer<typeof grantSchema>;

export function allows(grants: readonly Grant[], scope: Scope): boolean {
  return grants.includes("*") || grants.includes(scope);
}
