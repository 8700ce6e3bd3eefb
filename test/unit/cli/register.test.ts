// Which of several servers `agent register` turns to; registering itself is tested with real nodes.
import { createServer } from "node:http";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { main } from "../../../cli/main.ts";
import { encodeToken } from "../../../shared/enrolment-token.ts";
import type { ErrorCode } from "../../../shared/errors.ts";
import { tokenIdSchema } from "../../../shared/ids.ts";
import { sha256Hex } from "../../../shared/thumbprint.ts";
import { FakeShell } from "../../fakes/shell.ts";

async function answering(status: number, code: ErrorCode) {
  let asked = 0;
  const server = createServer((_request, response) => {
    asked += 1;
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify({ code, message: `said ${code}`, mend: "mend", requestId: "r" }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no port");
  const { port } = address;
  return {
    url: `http://127.0.0.1:${port}`,
    asked: () => asked,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => void server.close(() => resolve())),
  };
}

const token = encodeToken({
  tokenId: tokenIdSchema.parse("00000000-0000-4000-8000-000000000001"),
  secret: new Uint8Array(32),
  nodesCaPin: sha256Hex("a CA"),
});

test("a server that cannot for now is passed over, one that refuses has decided", async () => {
  await using away = await answering(503, "database.unavailable");
  await using refusing = await answering(401, "token.refused");
  await using unasked = await answering(401, "token.refused");
  const folder = await mkdtemp(join(tmpdir(), "holdfast-register-"));
  const shell = new FakeShell();
  const servers = [away, refusing, unasked].flatMap(({ url }) => ["--server", url]);
  const exitCode = await main(
    ["agent", "register", ...servers, "--token", token, "--name", "web-01", "--data-dir", folder],
    shell,
  );
  await rm(folder, { recursive: true });
  expect([away.asked(), refusing.asked(), unasked.asked()]).toEqual([1, 1, 0]);
  expect([exitCode, shell.err.text]).toEqual([77, expect.stringContaining("said token.refused")]);
});
