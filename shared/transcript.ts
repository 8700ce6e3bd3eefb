// The bytes that signatures and MACs are made over: a domain name, then typed, length-prefixed fields.
// Invariant: two different (domain, fields) never give the same bytes, so nothing signed can be read as another thing.

export type TranscriptField = string | number | Uint8Array | readonly TranscriptField[];

const tags = { list: 0, text: 1, bytes: 2, integer: 3 } as const;

/** `domain` names purpose and version, such as `holdfast enrolment request v1`. Numbers are non-negative safe integers. */
export function transcriptOf(domain: string, fields: readonly TranscriptField[]): Buffer {
  const parts: Uint8Array[] = [];
  write(domain, parts);
  write(fields, parts);
  return Buffer.concat(parts);
}

function write(field: TranscriptField, parts: Uint8Array[]): void {
  if (typeof field === "string") {
    // Unpaired surrogates all become U+FFFD in UTF-8: refused, or two texts would share one form.
    if (!field.isWellFormed()) throw new RangeError("transcript: expected well-formed text");
    const bytes = Buffer.from(field);
    parts.push(header(tags.text, bytes.byteLength), bytes);
  } else if (typeof field === "number") {
    if (!Number.isSafeInteger(field) || field < 0)
      throw new RangeError("transcript: expected a non-negative safe integer");
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(BigInt(field));
    parts.push(header(tags.integer, 8), bytes);
  } else if (field instanceof Uint8Array) {
    parts.push(header(tags.bytes, field.byteLength), field);
  } else {
    parts.push(header(tags.list, field.length));
    for (const item of field) write(item, parts);
  }
}

function header(tag: number, length: number): Uint8Array {
  const bytes = Buffer.alloc(5);
  bytes.writeUInt8(tag);
  bytes.writeUInt32BE(length, 1);
  return bytes;
}
