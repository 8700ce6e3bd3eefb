// What a schema of this version leaves out of a value that a later one wrote. A field that is not understood is mostly harmless;
// in a spec it may be the user a script is to run as. Pure.

/** Paths of the fields of `raw` that `parsed` does not have any more, such as `user` or `isolation.mode`. */
export function lostFields(raw: unknown, parsed: unknown, path: readonly string[] = []): string[] {
  if (typeof raw !== "object" || raw === null) return [];
  if (typeof parsed !== "object" || parsed === null) return [path.join(".")];
  const kept = new Map(Object.entries(parsed));
  return Object.entries(raw).flatMap(([name, value]) => {
    const inner = [...path, name];
    return kept.has(name) ? lostFields(value, kept.get(name), inner) : [inner.join(".")];
  });
}
