// One whole exchange between an agent and a node over real TLS (handshake, greeting, offer, log, result), cut at every 37th byte
// of each direction, by a seeded phase: the agent comes back and the end is that of the run nobody disturbed (fault 58).
// HOLDFAST_EVERY_BYTE=1 cuts at every byte, HOLDFAST_SEED=n chooses the phase.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { expect, test } from "vitest";
import type { Agent } from "../../agent/agent.ts";
import { registerAgent } from "../../agent/register.ts";
import { SystemRandom } from "../../shared/random.ts";
import { startAgentOn } from "../harness/enrolled-agent.ts";
import { FaultProxy, type Direction } from "../harness/fault-proxy.ts";
import { hastyClock } from "../harness/hasty-clock.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";

const random = new SystemRandom();
const withoutJitter = { unit: () => 0, bytes: (count: number) => random.bytes(count) };

const seed = Number(process.env["HOLDFAST_SEED"] ?? Date.now() % 1_000_000);
const step = process.env["HOLDFAST_EVERY_BYTE"] === "1" ? 1 : 37;
const phase = seed % step;
const limitMs = step === 1 ? 7_200_000 : 400_000;
/** An exchange that has not ended by then hangs, and is named. */
const oneMs = 30_000;
/** Sites with a node each, which work off the cuts side by side: most of a run is waiting. */
const siteCount = 4;

interface Cut {
  readonly direction: Direction;
  readonly bytes: number;
}

/** What must be the same after every cut. */
interface End {
  readonly state: string;
  readonly reason: string | null;
  readonly exitCode: number | null;
  readonly attempts: number;
  readonly out: string;
  readonly err: string;
  /** By the script's own record. */
  readonly starts: number;
}

const script = (truth: string): string =>
  `echo "start $HOLDFAST_ATTEMPT_ID" >> '${truth}'; for i in 1 2 3; do echo "out $i"; echo "err $i" >&2; done; exit 7`;

const undisturbed: End = {
  state: "failed",
  reason: "exit-code",
  exitCode: 7,
  attempts: 1,
  out: "out 1\nout 2\nout 3\n",
  err: "err 1\nerr 2\nerr 3\n",
  starts: 1,
};

/** A node that agents reach through a proxy only. */
class Site implements AsyncDisposable {
  readonly node: TestNode;
  readonly proxy: FaultProxy;
  readonly #dataPath: string;
  #armed: Cut | undefined;

  private constructor(node: TestNode, proxy: FaultProxy) {
    this.node = node;
    this.proxy = proxy;
    this.#dataPath = join(node.folder, "agent");
  }

  static async start(): Promise<Site> {
    const proxy = await FaultProxy.start({
      target: () => ({ host: "127.0.0.1", port: site.node.node.agentPort }),
      seed,
      plan: () => site.#plan(),
    });
    const node = await startTestNode({ advertise: [`127.0.0.1:${proxy.port}`] });
    const site = new Site(node, proxy);
    const { token } = await node.client.tokens.create({});
    await registerAgent({ server: node.url, token, name: "web-01", dataPath: site.#dataPath });
    return site;
  }

  /** The next connection is cut, those after it are not. */
  #plan() {
    const cut = this.#armed;
    this.#armed = undefined;
    return cut === undefined ? {} : { [cut.direction]: { cut: { after: { bytes: cut.bytes }, act: "reset" } } };
  }

  /** A new agent process, as it were, and one task that waits for it. */
  async run(signal: AbortSignal, cut?: Cut): Promise<End> {
    const { client, folder } = this.node;
    const truth = join(folder, `truth-${this.proxy.connections.length}`);
    const handle = await client.run({ on: "web-01", script: script(truth) });
    this.#armed = cut;
    let agent: Agent | undefined;
    try {
      // Without jitter the only wait is the one after a cut that may have been a refusal: 5 s, here a tenth of it.
      agent = await startAgentOn(this.#dataPath, { clock: hastyClock(10), random: withoutJitter });
      const streams = { out: "", err: "" };
      for await (const piece of handle.bytes({ signal }))
        streams[piece.stream] += "bytes" in piece ? Buffer.from(piece.bytes).toString() : `[${piece.omitted} omitted]`;
      const [task] = await handle.results({ signal });
      if (task === undefined) throw new Error("no task");
      const starts = (await readFile(truth, "utf8")).split("\n").filter((line) => line.startsWith("start ")).length;
      const { state, reason, exitCode, attempts } = task;
      return { state, reason, exitCode, attempts: attempts.length, ...streams, starts };
    } finally {
      await agent?.stop();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.node.stop();
    await this.proxy[Symbol.asyncDispose]();
  }
}

test(
  `an exchange cut at any byte ends as if nothing had happened (seed ${seed}, every ${step})`,
  { timeout: limitMs },
  async () => {
    await using stack = new AsyncDisposableStack();
    const sites = await Promise.all(Array.from({ length: siteCount }, () => Site.start()));
    for (const site of sites) stack.use(site);
    const [first] = sites;
    if (first === undefined) throw new Error("no site");
    expect(await first.run(AbortSignal.timeout(oneMs))).toEqual(undisturbed);
    const { toTarget, toClient } = first.proxy.connections.at(-1) ?? { toTarget: 0, toClient: 0 };
    const cuts: Cut[] = [];
    for (const [direction, length] of [
      ["toTarget", toTarget],
      ["toClient", toClient],
    ] as const)
      for (let bytes = phase; bytes < length; bytes += step) cuts.push({ direction, bytes });
    expect(cuts.length).toBeGreaterThan(100);

    const waiting = [...cuts];
    const wrong: { readonly cut: Cut; readonly end: unknown }[] = [];
    const stop = new AbortController();
    await Promise.all(
      sites.map(async (site) => {
        for (let cut = waiting.shift(); cut !== undefined && !stop.signal.aborted; cut = waiting.shift()) {
          const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(oneMs)]);
          const end = await site.run(signal, cut).catch((cause: unknown) => String(cause));
          if (isDeepStrictEqual(end, undisturbed) || stop.signal.aborted) continue;
          wrong.push({ cut, end });
          stop.abort();
        }
      }),
    );
    expect(wrong).toEqual([]);
    // An exchange is not to the byte as long as the next: a few of the last cuts may come too late.
    const made = sites.reduce((sum, site) => sum + site.proxy.cuts, 0);
    process.stdout.write(
      `exchange: ${made} of ${cuts.length} cuts within ${toTarget} + ${toClient} bytes, seed ${seed}\n`,
    );
    expect(made).toBeGreaterThan(cuts.length * 0.9);
  },
);
