// Which agents a submission goes to. A text without operators is a list of names (`web-01,web-02`), `*` is every agent,
// and anything with an operator is a label selector in Kubernetes' habit: `role=web,env in (prod,stage),!canary`.
// Client and server parse with this one file, so a selector means the same everywhere.
import { z } from "zod";
import { AppError } from "../errors.ts";
import { labelSchema, labelsSchema, nameSchema, type Labels } from "../task.ts";

export const requirementSchema = z.discriminatedUnion("operator", [
  z.object({ label: labelSchema, operator: z.enum(["in", "not-in"]), values: z.array(labelSchema).min(1).max(64) }),
  z.object({ label: labelSchema, operator: z.enum(["exists", "absent"]) }),
]);
export type Requirement = z.infer<typeof requirementSchema>;

/** A selector as the server works with it. `names` hold agent names or ids; all `requirements` must hold. */
export type Selector =
  | { readonly kind: "all" }
  | { readonly kind: "names"; readonly names: readonly string[] }
  | { readonly kind: "labels"; readonly requirements: readonly Requirement[] };

const mostTerms = 1_000;

export const targetSchema = z
  .union([
    z
      .string()
      .min(1)
      .max(16_384)
      .describe("Selector text: `web-01`, `web-01,web-02`, `role=web,env in (prod,stage),!canary`, `*`"),
    z.strictObject({ agents: z.array(nameSchema).min(1).max(mostTerms).describe("Names or ids") }),
    z.strictObject({
      labels: labelsSchema
        .refine((labels) => Object.keys(labels).length > 0, "at least one label")
        .describe("All must be equal"),
    }),
    z.strictObject({ all: z.literal(true) }),
  ])
  .describe("The agents to run on");
export type Target = z.infer<typeof targetSchema>;

/** Throws AppError `request.invalid` when a text cannot be read. */
export function selectorOf(target: Target): Selector {
  if (typeof target === "string") return parseSelector(target);
  if ("agents" in target) return { kind: "names", names: unique(target.agents) };
  if ("labels" in target) {
    return {
      kind: "labels",
      requirements: Object.entries(target.labels).map(([label, value]) => ({ label, operator: "in", values: [value] })),
    };
  }
  return { kind: "all" };
}

export function parseSelector(text: string): Selector {
  if (text.trim() === "*") return { kind: "all" };
  const terms = splitTerms(text);
  if (terms.some((term) => term === "")) throw unreadable(text, "an empty term");
  if (terms.length > mostTerms) throw unreadable(text, `${terms.length} terms, at most ${mostTerms}`);
  if (!/[=!()]|\s(?:in|notin)\s/.test(text))
    return { kind: "names", names: unique(terms.map((term) => checked(nameSchema, term, text))) };
  return { kind: "labels", requirements: terms.map((term) => parseTerm(term, text)) };
}

/** Whether an agent is meant; `id` and `name` are compared as they are. */
export function selects(
  selector: Selector,
  agent: { readonly id: string; readonly name: string; readonly labels: Labels },
): boolean {
  switch (selector.kind) {
    case "all":
      return true;
    case "names":
      return selector.names.includes(agent.name) || selector.names.includes(agent.id);
    case "labels":
      return selector.requirements.every((requirement) => holds(requirement, agent.labels));
  }
}

function holds(requirement: Requirement, labels: Labels): boolean {
  const value = Object.hasOwn(labels, requirement.label) ? labels[requirement.label] : undefined;
  switch (requirement.operator) {
    case "in":
      return value !== undefined && requirement.values.includes(value);
    case "not-in":
      return value === undefined || !requirement.values.includes(value);
    case "exists":
      return value !== undefined;
    case "absent":
      return value === undefined;
  }
}

function parseTerm(term: string, text: string): Requirement {
  const set = /^(\S+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(term);
  if (set !== null) {
    const values = (set[3] ?? "").split(",").map((value) => checked(labelSchema, value.trim(), text));
    return {
      label: checked(labelSchema, set[1] ?? "", text),
      operator: set[2] === "in" ? "in" : "not-in",
      values: unique(values),
    };
  }
  const pair = /^([^=!\s]+)\s*(==|=|!=)\s*([^=!\s]+)$/.exec(term);
  if (pair !== null) {
    const label = checked(labelSchema, pair[1] ?? "", text);
    return { label, operator: pair[2] === "!=" ? "not-in" : "in", values: [checked(labelSchema, pair[3] ?? "", text)] };
  }
  if (term.startsWith("!")) return { label: checked(labelSchema, term.slice(1).trim(), text), operator: "absent" };
  return { label: checked(labelSchema, term, text), operator: "exists" };
}

/** Commas part terms, except inside parentheses. */
function splitTerms(text: string): string[] {
  const terms: string[] = [];
  let depth = 0;
  let term = "";
  for (const character of text) {
    if (character === "(") depth += 1;
    if (character === ")") depth -= 1;
    if (depth < 0 || depth > 1) throw unreadable(text, "parentheses that do not match");
    if (character === "," && depth === 0) {
      terms.push(term.trim());
      term = "";
    } else {
      term += character;
    }
  }
  if (depth !== 0) throw unreadable(text, "a parenthesis that is not closed");
  return [...terms, term.trim()];
}

function checked(schema: z.ZodType<string>, value: string, text: string): string {
  const parsed = schema.safeParse(value);
  if (!parsed.success)
    throw unreadable(
      text,
      value === "" ? "an empty word" : `"${value}" (${parsed.error.issues[0]?.message ?? "not allowed"})`,
    );
  return parsed.data;
}

function unreadable(text: string, seen: string): AppError {
  const shown = text.length > 120 ? `${text.slice(0, 120)}…` : text;
  return new AppError("request.invalid", `the selector "${shown}" holds ${seen}`, {
    mend: "Write names (`web-01,web-02`), labels (`role=web,env in (prod,stage),!canary`) or `*`.",
  });
}

function unique(values: readonly string[]): string[] {
  return [...new Set(values)];
}
