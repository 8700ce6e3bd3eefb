// Ids as the one text PostgreSQL reads an array from. `pg` looks through every element of an array for what it must escape,
// which is half of what a look about thousands of agents costs; ids are letters, digits and dashes by their schemas.
import { AppError } from "../../shared/errors.ts";

const idShape = /^[0-9a-zA-Z-]+$/;

/** For a `uuid[]`, or a `text[]` of hex. Throws `internal` at anything else. */
export function idArray(ids: readonly string[]): string {
  if (!ids.every((id) => idShape.test(id))) throw new AppError("internal", "an array of ids holds something else");
  return `{${ids.join(",")}}`;
}
