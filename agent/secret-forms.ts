// The forms in which a secret may turn up in output: as it is, in base64 wherever it stands in what was encoded, and as
// URLs and JSON write it. Knows nothing of streams; redact.ts looks for what is listed here.
// Base64 has a character that holds bits of a neighbour at either end; it is left out, for it is not the same each time.

/** Shorter values would mask half of any output (SECURITY S13). In UTF-16 units, as JavaScript counts. */
export const maskedCharsAtLeast = 6;

/** Columns after which encoders break lines: MIME and `base64`, PEM and `openssl base64`. */
const wraps = [76, 64] as const;

/** Every form to mask, without repeats; empty for a value that is too short. */
export function formsOf(value: string): Buffer[] {
  if (value.length < maskedCharsAtLeast) return [];
  const forms = new Set<string>();
  const add = (form: string): void => void forms.add(Buffer.from(form).toString("latin1"));
  // A line break at the end came with the file it was read from: it is no secret, and masked it would join two lines.
  const bare = value.replace(/(\r?\n)+$/, "");
  const text = bare.length >= maskedCharsAtLeast ? bare : value;
  for (const form of [text, ...base64Forms(Buffer.from(text)), ...urlForms(text), ...jsonForms(text)]) add(form);
  return [...forms].filter((form) => form.length > 0).map((form) => Buffer.from(form, "latin1"));
}

function base64Forms(bytes: Buffer): string[] {
  const plain = [0, 1, 2].map((before) => coreOf(bytes, before));
  const whole = plain[0] ?? "";
  const wrapped = wraps.flatMap((columns) =>
    whole.length <= columns
      ? []
      : ["\n", "\r\n"].map((end) => whole.replaceAll(new RegExp(`.{${columns}}(?=.)`, "g"), `$&${end}`)),
  );
  return [...plain, ...wrapped].flatMap((text) => [text, text.replaceAll("+", "-").replaceAll("/", "_")]);
}

/** The characters that stand for nothing but these bytes, when so many bytes stand before them in their group of three. */
function coreOf(bytes: Buffer, before: number): string {
  const encoded = Buffer.concat([Buffer.alloc(before), bytes])
    .toString("base64")
    .replaceAll("=", "");
  const isWhole = (before + bytes.length) % 3 === 0;
  return encoded.slice([0, 2, 3][before] ?? 0, isWhole ? undefined : -1);
}

function urlForms(text: string): string[] {
  const component = encodeURIComponent(text);
  const strict = component.replaceAll(/[!'()*]/g, (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`);
  const forms = [component, strict, strict.replaceAll("~", "%7E")];
  const all = forms.flatMap((form) => [
    form,
    form.replaceAll("%20", "+"),
    form.replaceAll("%2F", "/"),
    encodeURI(text),
  ]);
  return all.flatMap((form) => [form, form.replaceAll(/%[0-9A-F]{2}/g, (code) => code.toLowerCase())]);
}

function jsonForms(text: string): string[] {
  const plain = JSON.stringify(text).slice(1, -1);
  const ascii = plain.replaceAll(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return [plain, plain.replaceAll("/", "\\/"), ascii];
}
