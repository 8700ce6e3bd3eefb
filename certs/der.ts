// DER values through node-forge's writer. Owns encoding only: nothing here reads bytes, from anyone.
import forge from "node-forge";

export type DerValue = forge.asn1.Asn1;

const { asn1 } = forge;
const { Class, Type } = asn1;

const universal = (type: forge.asn1.Type, constructed: boolean, value: string | DerValue[]): DerValue =>
  asn1.create(Class.UNIVERSAL, type, constructed, value);

/** forge takes bytes as a string with one character per byte. */
const byteString = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

export const sequence = (...items: DerValue[]): DerValue => universal(Type.SEQUENCE, true, items);
export const set = (...items: DerValue[]): DerValue => universal(Type.SET, true, items);
export const oid = (dotted: string): DerValue => universal(Type.OID, false, asn1.oidToDer(dotted).getBytes());
export const utf8 = (text: string): DerValue => universal(Type.UTF8, false, byteString(Buffer.from(text)));
export const printable = (text: string): DerValue => universal(Type.PRINTABLESTRING, false, text);
export const octets = (bytes: Uint8Array): DerValue => universal(Type.OCTETSTRING, false, byteString(bytes));
export const truth = (): DerValue => universal(Type.BOOLEAN, false, "\xff");

/** A BIT STRING; `unused` counts the bits at the end that say nothing. */
export const bits = (bytes: Uint8Array, unused = 0): DerValue =>
  universal(Type.BITSTRING, false, byteString(Buffer.concat([Buffer.from([unused]), bytes])));

/** A non-negative INTEGER from big-endian bytes, in DER's shortest form. */
export function integer(bigEndian: Uint8Array): DerValue {
  const first = bigEndian.findIndex((byte) => byte !== 0);
  const digits = first === -1 ? Buffer.from([0]) : Buffer.from(bigEndian.subarray(first));
  const padded = (digits[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), digits]) : digits;
  return universal(Type.INTEGER, false, byteString(padded));
}

/** UTCTime until 2049 and GeneralizedTime after (RFC 5280, 4.1.2.5); whole seconds. */
export function time(wallMs: number): DerValue {
  const text = new Date(wallMs).toISOString().replace(/[-:T]|\.\d{3}/g, "");
  return text < "2050" ? universal(Type.UTCTIME, false, text.slice(2)) : universal(Type.GENERALIZEDTIME, false, text);
}

/** `[tag] EXPLICIT` around one value. */
export const explicit = (tag: number, value: DerValue): DerValue =>
  asn1.create(Class.CONTEXT_SPECIFIC, tag, true, [value]);

/** `[tag] IMPLICIT` over a primitive type. */
export const implicit = (tag: number, bytes: Uint8Array): DerValue =>
  asn1.create(Class.CONTEXT_SPECIFIC, tag, false, byteString(bytes));

export function encode(value: DerValue): Buffer {
  return Buffer.from(asn1.toDer(value).getBytes(), "latin1");
}
