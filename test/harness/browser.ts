// A headless Chromium of the distribution, driven by WebDriver (W3C) over plain HTTP: open a page, evaluate in it, end.
// Everything it writes lies in a folder of its own, and nothing of it is left after `stop`.
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { z } from "zod";

const answerSchema = z.object({ value: z.unknown() });
const sessionSchema = z.object({ sessionId: z.string() });
const limitMs = 60_000;

const flags = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export function missingBrowserTools(): readonly string[] {
  return ["chromium", "chromedriver"].filter(
    (tool) => spawnSync(tool, ["--version"], { stdio: "ignore" }).error !== undefined,
  );
}

export class Browser implements AsyncDisposable {
  readonly #driver: ChildProcess;
  readonly #base: string;
  readonly #folder: string;
  #session = "";

  private constructor(driver: ChildProcess, base: string, folder: string) {
    this.#driver = driver;
    this.#base = base;
    this.#folder = folder;
  }

  static async start(): Promise<Browser> {
    const folder = await mkdtemp(join(tmpdir(), "holdfast-browser-"));
    const driver = spawn("chromedriver", ["--port=0"], {
      stdio: ["ignore", "pipe", "ignore"],
      env: { ...process.env, HOME: folder, TMPDIR: folder },
    });
    const browser = new Browser(driver, `http://127.0.0.1:${await portOf(driver)}`, folder);
    try {
      const profile = `--user-data-dir=${join(folder, "profile")}`;
      const value = await browser.#call("POST", "/session", {
        capabilities: {
          alwaysMatch: { browserName: "chrome", "goog:chromeOptions": { args: [...flags, profile] } },
        },
      });
      browser.#session = `/session/${sessionSchema.parse(value).sessionId}`;
      return browser;
    } catch (cause) {
      await browser[Symbol.asyncDispose]();
      throw cause;
    }
  }

  async open(url: string): Promise<void> {
    await this.#call("POST", `${this.#session}/url`, { url });
  }

  /** Runs the body of a function in the page and gives what it returns, as JSON carries it. */
  evaluate(body: string, ...args: readonly unknown[]): Promise<unknown> {
    return this.#call("POST", `${this.#session}/execute/sync`, { script: body, args });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#session !== "") await this.#call("DELETE", this.#session).catch(() => undefined);
    if (this.#driver.exitCode === null && this.#driver.signalCode === null) {
      this.#driver.kill("SIGTERM");
      await once(this.#driver, "exit");
    }
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }

  async #call(method: string, path: string, body?: object): Promise<unknown> {
    const response = await fetch(`${this.#base}${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(limitMs),
    });
    const { value } = answerSchema.parse(await response.json());
    if (!response.ok) throw new Error(`WebDriver ${method} ${path}: ${JSON.stringify(value).slice(0, 2_000)}`);
    return value;
  }
}

async function portOf(driver: ChildProcess): Promise<number> {
  if (driver.stdout === null) throw new Error("chromedriver has no output");
  for await (const line of createInterface({ input: driver.stdout })) {
    const port = /started successfully on port (\d+)/.exec(line)?.[1];
    if (port === undefined) continue;
    driver.stdout.resume();
    return Number(port);
  }
  throw new Error("chromedriver ended before it said its port");
}
