// The node's own OpenAPI description, read as what the fuzz needs of it: operations, what they take, what they answer.
import { z } from "zod";

/** A JSON Schema; true to what zod writes, and no more of it. */
export interface Schema {
  readonly type?: string | undefined;
  readonly anyOf?: readonly Schema[] | undefined;
  readonly oneOf?: readonly Schema[] | undefined;
  readonly const?: unknown;
  readonly enum?: readonly unknown[] | undefined;
  readonly properties?: Readonly<Record<string, Schema>> | undefined;
  readonly required?: readonly string[] | undefined;
  readonly additionalProperties?: boolean | Schema | undefined;
  readonly items?: Schema | undefined;
  readonly minItems?: number | undefined;
  readonly maxItems?: number | undefined;
  readonly minLength?: number | undefined;
  readonly maxLength?: number | undefined;
  readonly pattern?: string | undefined;
  readonly minimum?: number | undefined;
  readonly maximum?: number | undefined;
}

const schema: z.ZodType<Schema> = z.looseObject({
  type: z.string().optional(),
  get anyOf() {
    return z.array(schema).optional();
  },
  get oneOf() {
    return z.array(schema).optional();
  },
  const: z.unknown().optional(),
  enum: z.array(z.unknown()).optional(),
  get properties() {
    return z.record(z.string(), schema).optional();
  },
  required: z.array(z.string()).optional(),
  get additionalProperties() {
    return z.union([z.boolean(), schema]).optional();
  },
  get items() {
    return schema.optional();
  },
  minItems: z.number().optional(),
  maxItems: z.number().optional(),
  minLength: z.number().optional(),
  maxLength: z.number().optional(),
  pattern: z.string().optional(),
  minimum: z.number().optional(),
  maximum: z.number().optional(),
});

const content = z.record(z.string(), z.object({ schema: z.unknown() }));
const operationSchema = z.object({
  parameters: z.array(z.object({ in: z.string(), name: z.string(), schema })).default([]),
  requestBody: z.object({ content: z.record(z.string(), z.object({ schema })) }).optional(),
  responses: z.record(z.string(), z.object({ content: content.optional() })),
});
const documentSchema = z.object({ paths: z.record(z.string(), z.record(z.string(), operationSchema)) });

export interface Operation {
  readonly method: string;
  readonly path: string;
  readonly parameters: readonly { readonly in: string; readonly name: string; readonly schema: Schema }[];
  readonly body: Schema | undefined;
  /** By status and `default`: the media types, each with the check of its schema. */
  readonly answers: ReadonlyMap<string, ReadonlyMap<string, z.ZodType>>;
}

/** The JSON Schema dialect of OpenAPI 3.1; what the description leaves open passes. */
function checkOf(described: unknown): z.ZodType {
  return z.fromJSONSchema(z.record(z.string(), z.json()).parse(described));
}

export async function operationsOf(url: string): Promise<readonly Operation[]> {
  const response = await fetch(`${url}/api/openapi.json`);
  const { paths } = documentSchema.parse(await response.json());
  return Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) => ({
      method: method.toUpperCase(),
      path,
      parameters: operation.parameters,
      body: operation.requestBody?.content["application/json"]?.schema,
      answers: new Map(
        Object.entries(operation.responses).map(([status, answer]) => [
          status,
          new Map(Object.entries(answer.content ?? {}).map(([type, { schema: of }]) => [type, checkOf(of)])),
        ]),
      ),
    })),
  );
}
