// Requests for an operation of the description: valid ones, ones that break a rule of their schema here and there, and ones
// that HTTP itself would not make. Pure: the same dice give the same request.
import type { Dice } from "../dice.ts";
import type { Operation, Schema } from "./description.ts";

export interface FuzzRequest {
  readonly method: string;
  /** With its query, as it goes on the line. */
  readonly target: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | undefined;
}

export interface Pool {
  /** Ids and names that exist, of every kind: each is tried where another kind is wanted. */
  readonly known: readonly string[];
  readonly apiKey: string;
}

const hostileTexts: readonly string[] = [
  "",
  "\0",
  "a\0b",
  "\ud800",
  "'",
  "' or 1=1--",
  "\\",
  "%",
  "%00",
  "../../etc/passwd",
  "{}",
  "[]",
  "null",
  "true",
  "-1",
  "NaN",
  "1e400",
  "0x10",
  "9".repeat(400),
  "a".repeat(129),
  "a".repeat(20_000),
  "é".repeat(600),
  "\u{1f600}\u200d",
  "\u202eabc",
  "__proto__",
  "constructor",
  "${jndi:x}",
  "<script>",
  "\r\nx: y",
  "role=",
  "role=web,",
  "*,!*",
  "((((",
  "a in (",
  "!".repeat(500),
  "a,".repeat(1_500),
  "0190b7e5-0000-7000-8000-000000000001",
  "0190B7E5-0000-7000-8000-000000000001",
  "-".repeat(50),
];
const hostileNumbers: readonly unknown[] = [
  0,
  -1,
  -0,
  0.1,
  1e308,
  -1e308,
  2_147_483_648,
  4_294_967_296,
  Number.MAX_SAFE_INTEGER,
  2 ** 63,
  1e-320,
];
const plausible: readonly string[] = [
  "web-01",
  "idle-01",
  "role",
  "web",
  "echo",
  "LANG",
  "/tmp",
  "a".repeat(64),
  "http://node:8080",
  "0-0",
  "default",
  "root",
  "x86",
];

export function fuzzRequest(dice: Dice, operation: Operation, pool: Pool): FuzzRequest {
  const wildness = dice.pick([0, 0, 0.1, 0.3, 0.8]);
  const maker = new Maker(dice, wildness, pool);
  const headers: Record<string, string> = { authorization: `Bearer ${pool.apiKey}` };
  let path = operation.path;
  const query: string[] = [];
  for (const { in: place, name, schema } of operation.parameters) {
    if (place === "path") path = path.replace(`{${name}}`, maker.inPath(schema));
    else if (dice.chance(0.6)) {
      const value = String(maker.value(schema, 0));
      if (place === "query") query.push(`${name}=${encode(value, dice)}`);
      else headers[name] = headerSafe(value);
    }
  }
  if (dice.chance(wildness * 0.3)) query.push(`${encode(maker.text(), dice)}=${encode(maker.text(), dice)}`);
  const target = query.length === 0 ? path : `${path}?${query.join("&")}`;
  const { body, type } = bodyOf(maker, operation);
  if (body !== undefined) headers["content-type"] = type;
  if (dice.chance(wildness * 0.5)) Object.assign(headers, oddHeaders(dice));
  const method = dice.chance(wildness * 0.1)
    ? dice.pick(["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD", "PROPFIND", "SEARCH"])
    : operation.method;
  return { method, target, headers, body };
}

/** Percent signs as they are now and then: a broken escape is the router's to refuse. */
function encode(text: string, dice: Dice): string {
  const safe = encodeURIComponent(text.toWellFormed());
  return dice.chance(0.05) ? `${safe}%` : dice.chance(0.05) ? `%ff%${safe}` : safe;
}

const headerSafe = (text: string): string => text.replaceAll(/[^\t\x20-\x7e]/g, "?").slice(0, 4_000);

function oddHeaders(dice: Dice): Record<string, string> {
  return dice.pick<Record<string, string>>([
    { authorization: "Bearer" },
    { authorization: "Bearer hfk_x_y" },
    { authorization: `Basic ${"A".repeat(3_000)}` },
    { "content-type": "text/plain" },
    { "content-type": "application/json; charset=utf-16" },
    { "content-type": "multipart/form-data; boundary=x" },
    { "content-type": 'application/json;;;="' },
    { "content-encoding": "gzip" },
    { "transfer-encoding": "chunked" },
    { range: "bytes=0-0,5-4,-1" },
    { range: "bytes=99999999999999999999-" },
    { "x-request-id": "'; drop table task" },
    { "x-forwarded-for": "1.2.3.4, ::ffff:999" },
    { "idempotency-key": "a".repeat(129) },
    { traceparent: "00-zz" },
    { "last-event-id": "9007199254740993.-1" },
    { origin: "null" },
    { host: "a@b:99999" },
    { accept: 'image/png;q="' },
    { "if-none-match": "*" },
    { expect: "100-continue" },
  ]);
}

function bodyOf(maker: Maker, operation: Operation): { readonly body: Buffer | undefined; readonly type: string } {
  const { dice, wildness } = maker;
  const type = "application/json";
  const isWanted = operation.body !== undefined;
  if (!isWanted && !dice.chance(wildness * 0.2)) return { body: undefined, type };
  if (isWanted && dice.chance(wildness * 0.05)) return { body: undefined, type };
  const text = JSON.stringify(maker.value(operation.body ?? {}, 0)) ?? "null";
  if (!dice.chance(wildness * 0.4)) return { body: Buffer.from(text), type };
  const broken = dice.pick<() => Buffer>([
    () => Buffer.from(text.slice(0, dice.below(text.length + 1))),
    () => Buffer.from(`${text}${text}`),
    () => Buffer.from(`${"[".repeat(20_000)}${"]".repeat(20_000)}`),
    () => Buffer.from(`${'{"a":'.repeat(5_000)}1${"}".repeat(5_000)}`),
    () => Buffer.from(text.replace("{", '{"__proto__":{"polluted":1},')),
    () => Buffer.from(text.replace("{", '{"constructor":{"prototype":{"polluted":1}},')),
    () => Buffer.from(text.replace(/"(\w+)":/, '"$1":null,"$1":')),
    () => Buffer.concat([Buffer.from(text), Buffer.of(0xff, 0xfe)]),
    () => Buffer.from(text, "utf16le"),
    () => Buffer.from(`\u{feff}${text}`),
    () => Buffer.from(JSON.stringify({ x: "y".repeat(1_100_000) })),
    () => Buffer.from(text.replaceAll(/\d+/g, "1e999")),
    () => dice.bytes(dice.below(200)),
    () => Buffer.alloc(0),
  ])();
  return { body: broken, type };
}

class Maker {
  readonly dice: Dice;
  readonly wildness: number;
  readonly #pool: Pool;

  constructor(dice: Dice, wildness: number, pool: Pool) {
    this.dice = dice;
    this.wildness = wildness;
    this.#pool = pool;
  }

  text(): string {
    return this.dice.pick(hostileTexts);
  }

  inPath(schema: Schema): string {
    const { dice } = this;
    if (!dice.chance(this.wildness)) return encodeURIComponent(dice.pick(this.#pool.known));
    const text = dice.chance(0.5) ? this.text() : String(this.value(schema, 0));
    return encode(text.slice(0, 3_000), dice);
  }

  value(schema: Schema, depth: number): unknown {
    const { dice } = this;
    // Each value of a request would break it: a few do, so that the deeper checks are reached too.
    if (dice.chance(this.wildness * (depth === 0 ? 0.05 : 0.15))) return this.#hostile(depth);
    const variants = schema.anyOf ?? schema.oneOf;
    if (variants !== undefined && variants.length > 0) return this.value(dice.pick(variants), depth);
    if (schema.const !== undefined) return schema.const;
    if (schema.enum !== undefined) return dice.pick(schema.enum);
    switch (schema.type) {
      case "object":
        return this.#object(schema, depth);
      case "array": {
        const least = schema.minItems ?? 0;
        const count = Math.min(schema.maxItems ?? 3, least + dice.below(3));
        return Array.from({ length: count }, () => this.value(schema.items ?? {}, depth + 1));
      }
      case "string":
        return this.#string(schema);
      case "integer":
      case "number":
        return this.#number(schema);
      case "boolean":
        return dice.chance(0.5);
      case "null":
        return null;
      default:
        return dice.pick<unknown>([null, {}, [], 1, "text"]);
    }
  }

  #object(schema: Schema, depth: number): object {
    const fields = Object.entries(schema.properties ?? {})
      .filter(([name]) =>
        (schema.required ?? []).includes(name) ? !this.dice.chance(this.wildness * 0.1) : this.dice.chance(0.35),
      )
      .map(([name, of]): [string, unknown] => [name, this.value(of, depth + 1)]);
    if (typeof schema.additionalProperties === "object" && this.dice.chance(0.7))
      fields.push([this.dice.pick(plausible), this.value(schema.additionalProperties, depth + 1)]);
    if (this.dice.chance(this.wildness * 0.2)) fields.push([this.text(), this.#hostile(depth)]);
    return Object.fromEntries(fields);
  }

  #string({ pattern, minLength = 0, maxLength = 20_000 }: Schema): string {
    const form = pattern === undefined ? undefined : new RegExp(pattern);
    const fits = (text: string): boolean =>
      text.length >= minLength && text.length <= maxLength && (form === undefined || form.test(text));
    const candidates = [...plausible, ...this.#pool.known, ...(this.dice.chance(0.3) ? hostileTexts : [])].filter(fits);
    return candidates.length === 0 ? "a" : this.dice.pick(candidates);
  }

  #number({ minimum = 0, maximum = 1_000_000 }: Schema): number {
    const least = Math.max(minimum, Number.MIN_SAFE_INTEGER);
    const most = Math.min(maximum, Number.MAX_SAFE_INTEGER);
    return this.dice.pick([least, most, least + 1, Math.min(most, least + this.dice.below(5_000))]);
  }

  #hostile(depth: number): unknown {
    const { dice } = this;
    switch (dice.below(depth > 4 ? 4 : 6)) {
      case 0:
      case 1:
        return this.text();
      case 2:
        return dice.pick(hostileNumbers);
      case 3:
        return dice.pick([null, true, false]);
      case 4:
        return Array.from({ length: dice.pick([0, 1, 2, 1_001]) }, () => dice.pick<unknown>([null, "a", 1, {}]));
      default:
        return { [this.text()]: this.#hostile(depth + 1) };
    }
  }
}
