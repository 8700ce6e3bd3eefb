// How far this machine's clock is from a server's, as the Date header of its answers tells, and the words for it.
// A hint for a person: the header is not proven by anything, and no decision rests on it.

/** The header has whole seconds and the answer takes time: less than this says nothing. */
export const noticeableMs = 60_000;

/** Milliseconds the server is ahead of this machine; undefined without a readable Date header. */
export function serverAheadMs(
  date: string | null,
  exchange: { readonly sentMs: number; readonly receivedMs: number },
): number | undefined {
  const serverMs = Date.parse(date ?? "");
  if (Number.isNaN(serverMs)) return undefined;
  // Half a second: the mean of what the header cuts off.
  return Math.round(serverMs + 500 - (exchange.sentMs + exchange.receivedMs) / 2);
}

export function isNoticeable(aheadMs: number | undefined): aheadMs is number {
  return aheadMs !== undefined && Math.abs(aheadMs) >= noticeableMs;
}

/** Such as `3 h 20 min behind the server's`. */
export function describeOffset(aheadMs: number): string {
  return `${describeSpan(Math.abs(aheadMs))} ${aheadMs > 0 ? "behind" : "ahead of"} the server's`;
}

/** The two largest units: `12 d 3 h`, `5 min`, `40 s`. */
export function describeSpan(ms: number): string {
  const units = [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["min", 60_000],
    ["s", 1_000],
  ] as const;
  const first = units.findIndex(([, length]) => ms >= length);
  if (first < 0) return "less than 1 s";
  let rest = ms;
  const parts = units.slice(first, first + 2).map(([unit, length]) => {
    const whole = Math.floor(rest / length);
    rest -= whole * length;
    return whole === 0 ? "" : `${whole} ${unit}`;
  });
  return parts.filter((part) => part !== "").join(" ");
}
