// The SDK in a real browser, from a page of another origin: it submits, follows the log live, goes on after its connection
// was cut, and has the result. Without Chromium it is skipped, and in CI it fails.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { Browser, missingBrowserTools } from "../harness/browser.ts";
import { TestCluster } from "../harness/cluster.ts";
import { eventually } from "../harness/eventually.ts";
import { FaultProxy } from "../harness/fault-proxy.ts";
import { Page } from "./page.ts";

const missing = missingBrowserTools();
const isSkipped = missing.length > 0 && process.env["CI"] !== "true";
if (isSkipped)
  process.stderr.write(
    `SKIPPED: the SDK is not run in a browser, ${missing.join(" and ")} missing: sh scripts/install-test-tools.sh\n`,
  );

const seenSchema = z.object({
  lines: z.array(z.string()),
  troubles: z.array(z.string()),
  result: z.looseObject({ state: z.string(), exitCode: z.number().nullable() }).nullable(),
  error: z.string().nullable(),
});
type Seen = z.output<typeof seenSchema>;

describe.skipIf(isSkipped)("the SDK in Chromium, on a page of another origin", () => {
  const stack = new AsyncDisposableStack();
  let page: Page;
  let cluster: TestCluster;
  let proxy: FaultProxy;
  let browser: Browser;

  beforeAll(async () => {
    if (missing.length > 0) throw new Error(`${missing.join(" and ")} missing: sh scripts/install-test-tools.sh`);
    page = stack.use(await Page.start());
    cluster = stack.adopt(
      await TestCluster.start({ arguments: ["--allow-origin", `http://127.0.0.1:${page.port}`] }),
      async (one) => {
        // A test that failed leaves its script running, and that would write into the folder that is removed.
        await writeFile(join(one.folder, "go"), "");
        await Promise.all((await one.client.tasks.list()).items.map(({ id }) => one.finished(id)));
        await one.stop();
      },
    );
    await cluster.startAgent({ name: "web-01" });
    const target = { host: "127.0.0.1", port: Number(new URL(cluster.server.url).port) };
    proxy = stack.use(await FaultProxy.start({ target }));
    browser = stack.use(await Browser.start());
  });
  afterAll(() => stack.disposeAsync());

  const look = async (what: string, isSeen: (seen: Seen) => boolean): Promise<Seen> =>
    await eventually(what, async () => {
      const state = seenSchema.parse(await browser.evaluate("return window.seen"));
      return { done: isSeen(state) || state.error !== null, state };
    });

  const begin = async (host: string, script: string, retryForMs = 30_000): Promise<void> => {
    await browser.open(`http://${host}:${page.port}/`);
    await eventually("the page has loaded the SDK", async () => {
      const state = await browser.evaluate("return typeof window.begin");
      return { done: state === "function", state };
    });
    const url = `http://127.0.0.1:${proxy.port}`;
    const options = { url, apiKey: cluster.apiKey, retryForMs, on: "web-01", script };
    // Not awaited by the page's function: WebDriver would wait for the run.
    await browser.evaluate("void window.begin(arguments[0])", options);
  };

  test("submits, follows live, goes on over a cut connection, and has the result", async () => {
    const [truth, go] = [join(cluster.folder, "truth"), join(cluster.folder, "go")];
    const line = `echo "line $i grüße"; echo "line $i grüße" >> '${truth}'`;
    await begin(
      "127.0.0.1",
      `i=0; while [ ! -e '${go}' ]; do i=$((i+1)); ${line}; sleep 0.02; done; echo end >&2; exit 7`,
    );
    const before = await look("ten lines while the script runs", ({ lines }) => lines.length >= 10);
    expect(before).toMatchObject({ result: null, error: null, troubles: [] });
    proxy.reset();
    const after = await look("lines after the cut", ({ lines }) => lines.length >= before.lines.length + 20);
    expect(after).toMatchObject({ result: null, error: null });
    // Node says "closed" where Chromium says "network error"; a busy machine may need more than one dial.
    expect(new Set(after.troubles)).toEqual(new Set(["cluster.unreachable"]));
    await writeFile(go, "");
    const { lines, result, error } = await look("the result", (seen) => seen.result !== null);
    expect({ error, result }).toMatchObject({ error: null, result: { state: "failed", exitCode: 7 } });
    const written = (await readFile(truth, "utf8")).trimEnd().split("\n");
    expect(lines.filter((one) => one.startsWith("out "))).toEqual(written.map((one) => `out ${one}`));
    expect(lines.filter((one) => one.startsWith("err "))).toEqual(["err end"]);
  });

  test("is refused by the browser when its origin is not allowed", async () => {
    const tasks = async () => (await cluster.client.tasks.list()).items.length;
    const before = await tasks();
    // The same page under another name is another origin.
    await begin("localhost", "true", 0);
    const seen = await look("the refusal", ({ error, result }) => error !== null || result !== null);
    expect(seen).toMatchObject({ lines: [], result: null, error: "cluster.unreachable" });
    expect(await tasks()).toBe(before);
  });
});
