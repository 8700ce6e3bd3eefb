// What every failed request answers with. `code` is one of docs/errors.md; an older client may meet a newer code, so it is plain text here.
import { z } from "zod";

export const problemSchema = z
  .object({
    code: z.string().describe("Stable code of docs/errors.md"),
    message: z.string().describe("What was seen and what was expected"),
    mend: z.string().describe("What to do about it"),
    requestId: z.string().describe("Find the request in the server's log by it; also in the header X-Request-Id"),
  })
  .describe("A failed request");
export type Problem = z.infer<typeof problemSchema>;
