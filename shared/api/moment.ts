// Times as the API shows them: RFC 3339, UTC, milliseconds. For people; nothing decides by them.
import { z } from "zod";

export const momentSchema = z.string().describe("RFC 3339, UTC");
