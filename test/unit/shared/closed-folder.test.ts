import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { makeClosedFolder, makeClosedFolderSync } from "../../../shared/closed-folder.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-folder-"));
});
afterEach(() => rm(folder, { recursive: true }));

it.each([
  { how: "at once", make: (path: string) => Promise.resolve(makeClosedFolderSync(path)) },
  { how: "in turn", make: makeClosedFolder },
])(
  "a folder made $how is closed, those above it let others pass, and one that is there stays as it is",
  async ({ make }) => {
    const mode = async (path: string): Promise<number> => (await stat(path)).mode & 0o777 & ~process.umask();
    const path = join(folder, "lib", "holdfast", "agent");
    await make(path);
    expect(await mode(path)).toBe(0o700);
    for (const above of [join(folder, "lib"), join(folder, "lib", "holdfast")])
      expect(await mode(above)).toBe(0o755 & ~process.umask());
    await make(join(folder, "lib"));
    expect(await mode(join(folder, "lib"))).toBe(0o755 & ~process.umask());
  },
);
