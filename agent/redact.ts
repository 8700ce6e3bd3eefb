// Masks secrets in bytes: each byte of a form of a secret becomes `*`, so lengths and offsets stay. Pure; what a byte
// becomes depends on the bytes around it and never on how they were cut into pieces.
// Invariant: with `reach` bytes of context on either side, or none beyond, every reader at any offset sees the same.
import { formsOf } from "./secret-forms.ts";

const star = 0x2a;
const keyBytes = 4;

/** `cut`: what lay beyond this end of the bytes is gone and will never be seen. `open`: there is more, or never was. */
export type Edge = "open" | "cut";

export interface Redactor {
  /** A byte is decided by the bytes up to so far before and after it. */
  readonly reach: number;
  /** Masks in place. At a cut even a part of a secret that reaches it is masked. */
  mask(bytes: Uint8Array, edges: { readonly before: Edge; readonly after: Edge }): void;
  /** From here on the bytes may be the beginning of a secret that is not whole yet; the length when they are not. */
  openEnd(bytes: Uint8Array): number;
}

interface Form {
  readonly bytes: Buffer;
  /** Knuth, Morris and Pratt's table, made when the form is first met. */
  fallback: Int32Array | undefined;
}

/** Undefined when nothing is to be masked. */
export function createRedactor(secrets: readonly string[]): Redactor | undefined {
  const texts = new Set(secrets.flatMap(formsOf).map((form) => form.toString("latin1")));
  if (texts.size === 0) return undefined;
  return new FormRedactor([...texts].map((text) => Buffer.from(text, "latin1")));
}

/** For output whose secrets cannot be read any more: nothing of it may leave. */
export const maskAll: Redactor = { reach: 0, mask: (bytes) => void bytes.fill(star), openEnd: (bytes) => bytes.length };

class FormRedactor implements Redactor {
  readonly reach: number;
  readonly #forms: readonly Form[];
  /** By their first four bytes. */
  readonly #byKey = new Map<number, Form[]>();
  /** By their first byte, for what is shorter than a key. */
  readonly #byFirst = new Map<number, Form[]>();
  /** By two bytes: whether any form begins so. Nearly every byte of a stream costs this look only. */
  readonly #mayBegin = new Uint8Array(65_536);

  /** Each form has at least four bytes: a masked value has six characters, its shortest form in base64 seven. */
  constructor(forms: readonly Buffer[]) {
    this.reach = Math.max(...forms.map((form) => form.length)) - 1;
    this.#forms = forms.map((bytes) => ({ bytes, fallback: undefined }));
    for (const form of this.#forms) {
      const { bytes } = form;
      this.#mayBegin[bytes.readUInt16LE(0)] = 1;
      push(this.#byKey, bytes.readUInt32LE(0), form);
      push(this.#byFirst, bytes[0] ?? 0, form);
    }
  }

  mask(bytes: Uint8Array, { before, after }: { readonly before: Edge; readonly after: Edge }): void {
    const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const found = this.#find(view);
    if (before === "cut") found.push([0, this.#openBeginning(view)]);
    if (after === "cut") found.push([this.openEnd(view), view.length]);
    for (const [from, to] of found) view.fill(star, from, to);
  }

  openEnd(bytes: Uint8Array): number {
    const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = Math.max(0, view.length - this.reach); at < view.length; at += 1) {
      const left = view.length - at;
      const candidates =
        left < keyBytes
          ? this.#byFirst.get(view[at] ?? 0)
          : this.#mayBegin[view.readUInt16LE(at)] === 1
            ? this.#byKey.get(view.readUInt32LE(at))
            : undefined;
      if (candidates?.some((form) => left < form.bytes.length && startsAt(view, at, form.bytes.subarray(0, left))))
        return at;
    }
    return view.length;
  }

  /** Up to here the bytes may be the end of a secret whose beginning is gone. */
  #openBeginning(view: Buffer): number {
    let most = 0;
    for (const { bytes } of this.#forms) {
      for (let length = Math.min(bytes.length - 1, view.length); length > most; length -= 1)
        if (startsAt(view, 0, bytes.subarray(bytes.length - length))) most = length;
    }
    return most;
  }

  /** Every place of every form. Linear for each form that is met: one made of repeats overlaps itself at every byte. */
  #find(view: Buffer): [from: number, to: number][] {
    const found: [number, number][] = [];
    const lookedUpTo = new Map<Form, number>();
    for (let at = 0; at + keyBytes <= view.length; at += 1) {
      if (this.#mayBegin[(view[at] ?? 0) | ((view[at + 1] ?? 0) << 8)] !== 1) continue;
      for (const form of this.#byKey.get(view.readUInt32LE(at)) ?? []) {
        if ((lookedUpTo.get(form) ?? 0) > at) continue;
        lookedUpTo.set(form, follow(view, at, form, found));
      }
    }
    return found;
  }
}

/** Notes each place of the form from `at` on, and answers where nothing of it is open any more. */
function follow(view: Buffer, at: number, form: Form, found: [number, number][]): number {
  const { bytes } = form;
  form.fallback ??= fallbackOf(bytes);
  let matched = 0;
  let next = at;
  do {
    const byte = view[next];
    while (matched > 0 && bytes[matched] !== byte) matched = form.fallback[matched - 1] ?? 0;
    if (bytes[matched] === byte) matched += 1;
    next += 1;
    if (matched === bytes.length) {
      found.push([next - matched, next]);
      matched = form.fallback[matched - 1] ?? 0;
    }
  } while (matched > 0 && next < view.length);
  return next;
}

/** For each length of the form's beginning: the longest shorter beginning that it ends with. */
function fallbackOf(bytes: Buffer): Int32Array {
  const table = new Int32Array(bytes.length);
  for (let at = 1, length = 0; at < bytes.length; at += 1) {
    while (length > 0 && bytes[at] !== bytes[length]) length = table[length - 1] ?? 0;
    if (bytes[at] === bytes[length]) length += 1;
    table[at] = length;
  }
  return table;
}

function startsAt(view: Buffer, at: number, bytes: Buffer): boolean {
  return view.compare(bytes, 0, bytes.length, at, at + bytes.length) === 0;
}

function push<Key>(map: Map<Key, Form[]>, key: Key, form: Form): void {
  const there = map.get(key);
  if (there === undefined) map.set(key, [form]);
  else there.push(form);
}
