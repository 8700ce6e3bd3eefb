// Makes bytes of strangers safe to show on a terminal (SECURITY S11): SGR colours pass, every other escape sequence is
// dropped, other control characters and bidirectional overrides are shown as text. Invariant: the output holds no ESC but
// of SGR, and no control character but line feed and tab, wherever the input was cut.

type State =
  | { readonly kind: "text" }
  | { readonly kind: "escape" }
  | { readonly kind: "escape-intermediate" }
  | { readonly kind: "csi"; readonly parameters: string }
  /** OSC, DCS, APC, PM and SOS: swallowed up to their end, at most `left` characters, so that a lone opener hides little. */
  | { readonly kind: "string"; readonly left: number; readonly escaped: boolean };

const longestString = 4_096;
const longestParameters = 64;
const reset = "\x1b[0m";
const text: State = { kind: "text" };

export class TerminalSafe {
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #state: State = text;
  #coloured = false;
  #afterReturn = false;

  push(bytes: Uint8Array): string {
    return this.#filter(this.#decoder.decode(bytes, { stream: true }));
  }

  /** What is left, and colours set back. */
  end(): string {
    const rest = this.#filter(this.#decoder.decode());
    const tail = this.#afterReturn ? "\n" : "";
    const back = this.#coloured ? reset : "";
    this.#state = text;
    this.#coloured = false;
    this.#afterReturn = false;
    return rest + tail + back;
  }

  #filter(input: string): string {
    let output = "";
    for (const character of input) output += this.#step(character);
    return output;
  }

  #step(character: string): string {
    switch (this.#state.kind) {
      case "text":
        return this.#inText(character);
      case "escape":
        return this.#afterEscape(character);
      case "escape-intermediate":
        if (!isBetween(character, " ", "/")) this.#state = text;
        return character === "\n" ? "\n" : "";
      case "csi":
        return this.#inSequence(character, this.#state.parameters);
      case "string":
        return this.#inString(character, this.#state);
    }
  }

  #inText(character: string): string {
    // A lone carriage return would let later output overwrite what a person has read: it becomes a line feed.
    const held = this.#afterReturn && character !== "\n" ? "\n" : "";
    this.#afterReturn = character === "\r";
    if (character === "\r") return held;
    if (character === "\x1b") {
      this.#state = { kind: "escape" };
      return held;
    }
    return held + shown(character);
  }

  #afterEscape(character: string): string {
    if (character === "[") this.#state = { kind: "csi", parameters: "" };
    else if ("]PX^_".includes(character)) this.#state = { kind: "string", left: longestString, escaped: false };
    else if (character === "\x1b") this.#state = { kind: "escape" };
    else if (isBetween(character, " ", "/")) this.#state = { kind: "escape-intermediate" };
    else this.#state = text;
    return character === "\n" ? "\n" : "";
  }

  #inSequence(character: string, parameters: string): string {
    if (isBetween(character, " ", "?") && parameters.length < longestParameters) {
      this.#state = { kind: "csi", parameters: parameters + character };
      return "";
    }
    if (character === "\x1b") {
      this.#state = { kind: "escape" };
      return "";
    }
    this.#state = text;
    if (character === "m" && /^[0-9;:]*$/.test(parameters)) {
      this.#coloured = !/^0?$/.test(parameters);
      return `\x1b[${parameters}m`;
    }
    return isBetween(character, "@", "~") ? "" : this.#inText(character);
  }

  #inString(character: string, state: { readonly left: number; readonly escaped: boolean }): string {
    if (character === "\x07" || (state.escaped && character === "\\")) {
      this.#state = text;
      return "";
    }
    if (state.left <= 1) {
      this.#state = text;
      return this.#inText(character);
    }
    this.#state = { kind: "string", left: state.left - 1, escaped: character === "\x1b" };
    return "";
  }
}

/** One value for a table or a message: as above, and on one line. */
export function safeLine(value: string): string {
  const safe = new TerminalSafe();
  return (safe.push(new TextEncoder().encode(value)) + safe.end()).replace(/\n/g, " ");
}

function shown(character: string): string {
  if (character === "\n" || character === "\t") return character;
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x20 || (code >= 0x7f && code <= 0x9f)) return `\\x${code.toString(16).padStart(2, "0")}`;
  if (isBidirectionalControl(code) || code === 0x2028 || code === 0x2029)
    return `\\u${code.toString(16).padStart(4, "0")}`;
  return character;
}

function isBidirectionalControl(code: number): boolean {
  return (
    code === 0x061c ||
    code === 0x200e ||
    code === 0x200f ||
    (code >= 0x202a && code <= 0x202e) ||
    (code >= 0x2066 && code <= 0x2069)
  );
}

function isBetween(character: string, first: string, last: string): boolean {
  return character >= first && character <= last;
}
