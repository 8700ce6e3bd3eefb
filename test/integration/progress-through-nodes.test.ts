// What a script says of how far it is, from a real agent through the node that is its home to whoever asks any node.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { main } from "../../cli/main.ts";
import type { RunProgress } from "../../sdk/run-handle.ts";
import { FakeShell } from "../fakes/shell.ts";
import { eventually } from "../harness/eventually.ts";
import { NodeGroup } from "../harness/node-group.ts";

let group: NodeGroup;
let steps = 0;

beforeAll(async () => {
  group = await NodeGroup.start(["node-b"]);
  await group.startAgent("web-01");
});
afterAll(() => group[Symbol.asyncDispose]());

/** A script that says each of these, and says the next only when it is let go on. */
function sayingScript(lines: readonly string[]): { readonly script: string; readonly goOn: () => Promise<void> } {
  const name = join(group.first.folder, `step-${(steps += 1)}`);
  const wait = (no: number): string =>
    `until [ -e '${name}-${no}' ] || [ ! -d '${group.first.folder}' ]; do sleep 0.05; done`;
  const script = lines.map((line, no) => `echo '${line}' 1<> "$HOLDFAST_PROGRESS"; ${wait(no)}`).join("\n");
  let at = 0;
  return { script, goOn: () => writeFile(`${name}-${at++}`, "") };
}

function cli(words: readonly string[], node: string, terminal: boolean) {
  const shell = new FakeShell({ terminal, environment: { NO_COLOR: "1" } });
  const { url } = group.named(node);
  return {
    shell,
    exitCode: main([...words.slice(0, 2), "--url", url, "--api-key", group.first.apiKey, ...words.slice(2)], shell),
  };
}

test("`run` shows it on a terminal, `tasks show` and the task of the API through every node", async () => {
  const { script, goOn } = sayingScript(["40 copying", "- waiting"]);
  const { shell, exitCode } = cli(["run", "--on=web-01", "--", script], "node-a", true);
  await shell.err.until("40 % copying");
  const [running] = (await group.client.tasks.list({ state: "running" })).items;
  const id = running?.id ?? "";
  for (const node of ["node-a", "node-b"]) {
    const { attempts } = await group.named(node).client.tasks.show(id);
    expect(attempts).toMatchObject([{ progress: { percent: 40, message: "copying" } }]);
    const shown = cli(["tasks", "show", id], node, false);
    expect(await shown.exitCode).toBe(0);
    expect(shown.shell.out.text).toMatch(/^progress: +40 % copying \(20/m);
  }
  await goOn();
  await shell.err.until("waiting");
  await goOn();
  expect(await exitCode).toBe(0);
  expect(shell.err.text.endsWith("waiting\x1b[?7h\r\x1b[2K")).toBe(true);
  const shown = cli(["tasks", "show", id], "node-b", false);
  await shown.exitCode;
  expect(shown.shell.out.text).not.toContain("progress");
});

test("whoever follows through another node than its home is told of each within moments", async () => {
  const { script, goOn } = sayingScript(["1 one", "2 two", "3 three"]);
  const handle = await group.client.run({ on: "web-01", script });
  const id = handle.tasks[0]?.id ?? "";
  const told: RunProgress[] = [];
  const results = ["node-a", "node-b"].map(async (node) => {
    const following = await group.named(node).client.tasks.follow(id);
    return following.result({ onProgress: (progress) => void told.push(progress) });
  });
  for (const message of ["one", "two", "three"]) {
    await eventually(`both were told ${message}`, () => ({
      done: told.filter((progress) => progress.message === message).length === 2,
      state: told,
    }));
    await goOn();
  }
  expect((await Promise.all(results)).map(({ state }) => state)).toEqual(["succeeded", "succeeded"]);
  expect(told.map(({ agent, taskId, percent }) => [agent, taskId, percent])).toEqual(
    [1, 1, 2, 2, 3, 3].map((percent) => ["web-01", id, percent]),
  );
});

test("a retry begins with none", async () => {
  const once = sayingScript(["40 first"]);
  const script = `if [ "$HOLDFAST_ATTEMPT" = 1 ]; then ${once.script}\nfi; exit 1`;
  const handle = await group.client.run({ on: "web-01", script });
  const id = handle.tasks[0]?.id ?? "";
  await eventually("it was said", async () => {
    const { attempts } = await group.client.tasks.show(id);
    return { done: attempts[0]?.progress?.message === "first", state: attempts };
  });
  await once.goOn();
  await handle.result();
  await group.client.tasks.retry(id);
  await (await group.client.tasks.follow(id)).result();
  const { attempts } = await group.client.tasks.show(id);
  expect(attempts.map(({ progress }) => progress?.message)).toEqual(["first", undefined]);
});
