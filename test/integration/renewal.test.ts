// Certificates that end within seconds, on a real node with real agents: renewed over the session while scripts run.
import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import { connect } from "node:tls";
import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { dial, type Dial, type DialEnd } from "../../agent/dial.ts";
import { loadIdentity, type Identity } from "../../agent/identity.ts";
import { probe, type ProbeResult } from "../../agent/probe.ts";
import { anyNodeName } from "../../certs/profile.ts";
import { systemClock } from "../../shared/clock.ts";
import { decodeFrame } from "../../shared/wire/frame.ts";
import { connected, TestSite } from "../harness/enrolled-agent.ts";
import { eventually } from "../harness/eventually.ts";
import type { TestNode } from "../harness/node.ts";
import { queryRows } from "../harness/query.ts";
import { countedLines, countingScript, startsIn } from "../harness/script-truth.ts";

async function identityOf(dataPath: string): Promise<Identity> {
  const identity = await loadIdentity(dataPath);
  if (identity === undefined) throw new Error(`${dataPath} holds no identity`);
  return identity;
}

/** Dials as the holder of that identity and greets without changing anything. */
function tryIdentity({ node: at }: TestNode, identity: Identity): Promise<ProbeResult> {
  const { key, certificate, nodesCa, cluster } = identity;
  const tls = { key, cert: certificate, nodesCas: nodesCa, servername: anyNodeName(cluster) };
  return probe({ address: `127.0.0.1:${at.agentPort}`, identity: tls }, { dial, clock: systemClock });
}

const certificates = (at: TestNode) =>
  queryRows(
    at.databaseUrl,
    "select thumbprint, status, used_at is not null as used from agent_certificate order by created_at",
  );

/** An agent's line that loses every `renew`, and tells how sessions ended. */
function withoutRenewal(ends: DialEnd[]): Dial {
  return (target, handlers) => {
    const socket = dial(target, { ...handlers, onEnd: (end) => (ends.push(end), handlers.onEnd(end)) });
    return {
      get bufferedAmount() {
        return socket.bufferedAmount;
      },
      send(frame, done) {
        const message = decodeFrame(frame);
        const isRenewal =
          typeof message === "object" && message !== null && "type" in message && message.type === "renew";
        if (isRenewal) done();
        else socket.send(frame, done);
      },
      ping: () => socket.ping(),
      close: (code, reason) => socket.close(code, reason),
      terminate: () => socket.terminate(),
    };
  };
}

/** The leaf that a node shows to whoever connects now. */
async function shownLeaf({ node: at }: TestNode, identity: Identity): Promise<X509Certificate> {
  const { key, certificate, nodesCa, cluster } = identity;
  const socket = connect({
    host: "127.0.0.1",
    port: at.agentPort,
    key,
    cert: certificate,
    ca: [...nodesCa],
    servername: anyNodeName(cluster),
  });
  await once(socket, "secureConnect");
  const leaf = socket.getPeerX509Certificate();
  socket.destroy();
  if (leaf === undefined) throw new Error("the node showed no certificate");
  return leaf;
}

describe.concurrent("an agent's certificate", () => {
  it.concurrent(
    "is renewed over the session while a script runs, and the old one stops counting once the new one was used",
    async () => {
      await using site = await TestSite.start({ agentLeafMs: 16_000 });
      const at = site.node;
      const dataPath = await site.enrol("web-01");
      const first = await identityOf(dataPath);
      await site.startAgent(dataPath);
      await connected(at, "web-01");
      const truth = join(at.folder, "truth");
      const handle = await at.client.run({
        on: "web-01",
        script: countingScript(truth, { count: 200, pauseSeconds: 0.1 }),
      });
      expect(await tryIdentity(at, first)).toMatchObject({ ok: true });

      await eventually("the second certificate is used", async () => {
        const state = await certificates(at);
        return { done: state.length >= 2 && state[1]?.["used"] === true, state };
      });
      const [old] = await certificates(at);
      expect(old).toMatchObject({ status: "superseded" });
      expect(Date.now()).toBeLessThan(new X509Certificate(first.certificate).validToDate.getTime());
      expect(await tryIdentity(at, first)).toMatchObject({
        ok: false,
        failure: { end: { kind: "rejected", status: 403, detail: expect.stringContaining("certificate superseded") } },
      });

      await eventually("the third certificate is used", async () => {
        const state = await certificates(at);
        return { done: state.length >= 3 && state[2]?.["used"] === true, state };
      });
      const lines: string[] = [];
      for await (const line of handle.log()) lines.push(`${line.text}\n`);
      expect(lines.join("")).toBe(countedLines(200));
      expect((await handle.results())[0]).toMatchObject({ state: "succeeded", attempts: [{ number: 1 }] });
      expect(startsIn(truth)).toBe(1);
      const renewed = await identityOf(dataPath);
      expect(renewed.key).not.toBe(first.key);
      expect(await tryIdentity(at, renewed)).toMatchObject({ ok: true });
      const trail = await queryRows(
        at.databaseUrl,
        "select count(*)::int as n from audit where action = 'agent-renew'",
      );
      expect(trail[0]?.["n"]).toBeGreaterThanOrEqual(2);
    },
  );

  it.concurrent("that runs out during a session ends it with a clear reason, and is refused from then on", async () => {
    await using site = await TestSite.start({ agentLeafMs: 5_000 });
    const at = site.node;
    const dataPath = await site.enrol("web-01");
    const ends: DialEnd[] = [];
    const agent = await site.startAgent(dataPath, { dial: withoutRenewal(ends) });
    await connected(at, "web-01");
    await eventually(
      "the session was ended and dialled again in vain",
      () => ({ done: ends.length >= 2, state: ends }),
      { limitMs: 40_000 },
    );
    expect(ends[0]).toMatchObject({
      kind: "closed",
      code: 4008,
      reason: expect.stringContaining("certificate has expired"),
    });
    expect(Date.now()).toBeGreaterThanOrEqual(
      new X509Certificate((await identityOf(dataPath)).certificate).validToDate.getTime(),
    );
    const [view] = agent.status().nodes;
    expect(view?.state).not.toBe("open");
    expect(view?.lastEnd).toMatch(/certificate.*expired|expired.*certificate/i);
    expect(await at.client.agents.show("web-01")).toMatchObject({ connection: "offline" });
  });

  it.concurrent("that ran out while the agent was off is refused with a reason that names it", async () => {
    await using site = await TestSite.start({ agentLeafMs: 4_000 });
    const dataPath = await site.enrol("web-01");
    const { certificate } = await identityOf(dataPath);
    const endMs = new X509Certificate(certificate).validToDate.getTime() + 1_000;
    await eventually("the certificate has run out", () => ({ done: Date.now() > endMs, state: Date.now() - endMs }));
    const agent = await site.startAgent(dataPath);
    await eventually(
      "the agent says why it cannot connect",
      () => {
        const [view] = agent.status().nodes;
        return {
          done: /certificate.*expired|expired.*certificate/i.test(view?.lastEnd ?? ""),
          state: agent.status().nodes,
        };
      },
      { limitMs: 8_000 },
    );
  });
});

describe.concurrent("a node's certificate", () => {
  it.concurrent("is renewed by the node itself without an end to any session", async () => {
    await using site = await TestSite.start({ nodeLeafMs: 4_000 });
    const at = site.node;
    const dataPath = await site.enrol("web-01");
    const agent = await site.startAgent(dataPath);
    await connected(at, "web-01");
    const identity = await identityOf(dataPath);
    const first = await shownLeaf(at, identity);
    const before = await queryRows(at.databaseUrl, "select since from presence");
    const truth = join(at.folder, "truth");
    const handle = await at.client.run({
      on: "web-01",
      script: countingScript(truth, { count: 70, pauseSeconds: 0.1 }),
    });
    await eventually("the first certificate has run out", () => ({
      done: Date.now() > first.validToDate.getTime() + 1_000,
      state: first.validTo,
    }));

    const now = await shownLeaf(at, identity);
    expect(now.fingerprint256).not.toBe(first.fingerprint256);
    expect(now.validToDate.getTime()).toBeGreaterThan(Date.now());
    expect(await tryIdentity(at, identity)).toMatchObject({ ok: true });
    expect((await handle.results())[0]).toMatchObject({ state: "succeeded" });
    expect(agent.status().nodes[0]).toMatchObject({ state: "open" });
    expect(await queryRows(at.databaseUrl, "select since from presence")).toEqual(before);
    const stored = await queryRows(at.databaseUrl, "select count(*)::int as n from node_certificate");
    expect(stored[0]?.["n"]).toBeGreaterThanOrEqual(3);
  });
});
