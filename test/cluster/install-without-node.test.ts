// A target without Node: install.sh in an empty root fetches the real executable from a real node, enrols, and the agent that
// is started from it runs a script there. Needs root and busybox: skipped without them, and in CI it fails.
import { writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { installLine } from "../../cli/install-line.ts";
import { buildAgent } from "../../scripts/build-agent.ts";
import { EmptyRoot, type Furnishing } from "../harness/empty-root.ts";
import { connected } from "../harness/enrolled-agent.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";

const whyNot = EmptyRoot.whyNot();
const isSkipped = whyNot !== undefined && process.env["CI"] !== "true";
if (isSkipped) process.stderr.write(`\nSKIPPED, nothing was installed in an empty root: ${whyNot}\n`);

const print = ["agent", "install", "--print"];

describe.skipIf(isSkipped)("a target without Node", () => {
  let node: TestNode;
  beforeAll(async () => {
    const executable = await buildAgent({ version: "0.0.0-test", commit: undefined });
    node = await startTestNode({ agentExecutables: dirname(executable) });
  });
  afterAll(() => node.stop());

  test.for<Furnishing>(["dash with curl", "busybox with wget"])(
    "with %s installs, enrols and runs a script",
    async (kind) => {
      await using root = await EmptyRoot.create(kind, { alike: process.execPath });
      expect((await root.run(["/bin/sh", "-c", "command -v node || echo no node"])).output).toBe("no node\n");
      const name = kind.replaceAll(" ", "-");
      const { token, installerSha256 } = await node.client.tokens.create({});
      // One as `tokens create` prints it for http, where the script is checked as well; one as people type it.
      const printed = installLine({ url: node.url, token, installerSha256: installerSha256 ?? "none" });
      const typed = `wget -q -O - ${node.url}/install.sh | sh -s -- --token ${token}`;
      const line = `${kind === "dash with curl" ? printed : typed} --name ${name} --no-service`;

      const installed = await root.run(["/bin/sh", "-c", line]);
      expect(installed).toMatchObject({ exitCode: 0 });
      expect(installed.output).toContain(
        "enrolled; no service was installed. Start it: /usr/local/bin/holdfast agent run",
      );
      const again = await root.run(["/bin/sh", "-c", line]);
      expect([again.exitCode, again.output]).toEqual([0, expect.stringContaining("is here already")]);
      const version = await root.run(["/usr/local/bin/holdfast", "--version"]);
      expect(version.output).toContain(`holdfast 0.0.0-test (protocol`);
      // What a node's and a client's commands are is not there.
      expect((await root.run(["/usr/local/bin/holdfast", "server", "start"])).exitCode).toBe(2);
      const unit = await root.run(["/bin/env", "HOLDFAST_COMMAND=/other", "/usr/local/bin/holdfast", ...print]);
      expect(unit.output).toContain("\nExecStart=/usr/local/lib/holdfast/current/holdfast-agent agent run --data-dir ");

      root.start(["/usr/local/bin/holdfast", "agent", "run", "--data-dir", "/var/lib/holdfast/agent"]);
      await connected(node, name);
      await writeFile(join(root.path, "etc", "where"), `within ${name}\n`);
      const script = "cat /etc/where; command -v node || echo no node; exit 3";
      const run = await node.client.run({ on: name, interpreter: "sh", script });
      expect(await run.result()).toMatchObject({ state: "failed", exitCode: 3 });
      let log = "";
      for await (const { text } of run.log()) log += `${text}\n`;
      expect(log).toBe(`within ${name}\nno node\n`);
    },
  );
});
