// Ids as the one text PostgreSQL reads an array from. `pg` looks through every element of an array for what it must escape,
// which is half of what a look about thousands of agents costs; ids are letters, digits and dashes by their schemas.
import { AppError } from "../../shared/errors.ts";

const onlyIds = /^(?:[0-9a-zA-Z-]+(?:,[0-9a-zA-Z-]+)*)?$/;

/** For a `uuid[]`, or a `text[]` of hex. Throws `internal` at anything else. */
export function idArray(ids: readonly string[]): string {
  const joined = ids.join(",");
  if (!onlyIds.test(joined) || (joined === "" && ids.length > 0) || ids.some((id) => id.includes(",")))
    throw new AppError("internal", "an array of ids holds something else");
  return `{${joined}}`;
}
