// The client's requests: idempotency over retries, errors by code, what is never repeated.
import { expect, test } from "vitest";
import { Holdfast } from "../../../sdk/holdfast.ts";
import type { RunProgress } from "../../../sdk/run-handle.ts";
import { systemClock, type Clock } from "../../../shared/clock.ts";
import { AppError } from "../../../shared/errors.ts";
import { attemptView, startApi } from "../../fakes/api-backend.ts";

/** Back-off costs no time. */
const hastyClock: Clock = { ...systemClock, sleep: (_delayMs, signal) => systemClock.sleep(0, signal) };

test("a submission that is answered 503 or not at all is sent again under the same key", async () => {
  await using api = await startApi();
  api.backend.add();
  const { onSubmit } = api.backend;
  let failures = 2;
  api.backend.onSubmit = async (submit) => {
    failures -= 1;
    if (failures >= 0) throw new AppError("submission.outcome-unknown", "the database did not say");
    return onSubmit(submit);
  };
  let lost = 1;
  const flaky = async (url: string, init: RequestInit): Promise<Response> => {
    const response = await fetch(url, init);
    lost -= 1;
    if (lost >= 0) throw new TypeError("fetch failed", { cause: new Error("socket hang up") });
    return response;
  };
  const retried: string[] = [];
  const holdfast = new Holdfast({
    url: api.url,
    apiKey: api.apiKey,
    clock: hastyClock,
    fetch: flaky,
    onRetry: (error) => retried.push(error.code),
  });
  const handle = await holdfast.run({ on: "web-01", script: "true" });
  expect(handle.tasks).toHaveLength(1);
  expect(retried).toEqual(["cluster.unreachable", "submission.outcome-unknown"]);
  const keys = api.backend.submits.map(({ submit }) => submit.key);
  expect(keys).toHaveLength(3);
  expect(new Set(keys).size).toBe(1);
});

test("who does not want to wait for an agent hears at once that it is offline", async () => {
  await using api = await startApi();
  api.backend.onSubmit = async () => {
    throw new AppError("agent.offline", "no live node has a session with web-01; nothing was stored");
  };
  const holdfast = new Holdfast({ url: api.url, apiKey: api.apiKey, clock: hastyClock });
  await expect(holdfast.run({ on: "web-01", script: "true", ifOffline: "refuse" })).rejects.toMatchObject({
    code: "agent.offline",
  });
  expect(api.backend.submits).toHaveLength(1);
});

test("two runs have two keys", async () => {
  await using api = await startApi();
  const holdfast = new Holdfast({ url: api.url, apiKey: api.apiKey });
  await holdfast.run({ on: "web-01", script: "true" });
  await holdfast.run({ on: "web-01", script: "true" });
  expect(new Set(api.backend.submits.map(({ submit }) => submit.key)).size).toBe(2);
});

test("what the server says is an AppError with its code, message and mend", async () => {
  await using api = await startApi();
  const holdfast = new Holdfast({ url: api.url, apiKey: api.apiKey });
  await expect(holdfast.agents.show("nobody")).rejects.toMatchObject({
    code: "agent.unknown",
    message: 'there is no agent "nobody"',
    retryable: false,
  });
  await expect(holdfast.run({ on: "a b", script: "true" })).rejects.toMatchObject({ code: "request.invalid" });
  await expect(new Holdfast({ url: api.url, apiKey: "hfk_x" }).tasks.list()).rejects.toMatchObject({
    code: "auth.invalid",
  });
});

test("a server that is not there is cluster.unreachable once the retry time is over", async () => {
  const api = await startApi();
  await api[Symbol.asyncDispose]();
  const holdfast = new Holdfast({ url: api.url, apiKey: api.apiKey, retryForMs: 0 });
  await expect(holdfast.tasks.list()).rejects.toMatchObject({
    code: "cluster.unreachable",
    message: expect.stringContaining("ECONNREFUSED"),
  });
});

test("a page of something else on that URL is not mistaken for an answer", async () => {
  const html = async (): Promise<Response> =>
    new Response("<html>", { status: 200, headers: { "content-type": "text/html" } });
  const bad = async (): Promise<Response> => new Response("<html>", { status: 502 });
  await expect(
    new Holdfast({ url: "http://x", apiKey: "k", fetch: html, retryForMs: 0 }).tasks.list(),
  ).rejects.toMatchObject({ code: "cluster.unreachable", message: "http://x answered something that is no JSON" });
  await expect(
    new Holdfast({ url: "http://x", apiKey: "k", fetch: bad, retryForMs: 0 }).tasks.list(),
  ).rejects.toMatchObject({ code: "cluster.unreachable" });
});

test("https to a port without TLS is said in words a person can act on", async () => {
  await using api = await startApi();
  const url = api.url.replace("http:", "https:");
  await expect(new Holdfast({ url, apiKey: api.apiKey, retryForMs: 0 }).tasks.list()).rejects.toMatchObject({
    message: `${url}: there is no TLS on this port`,
    mend: expect.stringContaining("http://"),
  });
});

test.each<[string, (holdfast: Holdfast) => Promise<unknown>]>([
  ["creating a token", (holdfast) => holdfast.tokens.create()],
  ["removing an agent", (holdfast) => holdfast.agents.remove("web-01")],
])("%s is not sent twice", async (_what, act) => {
  let sent = 0;
  const dead = async (): Promise<Response> => {
    sent += 1;
    throw new TypeError("fetch failed");
  };
  await expect(
    act(new Holdfast({ url: "http://x", apiKey: "k", clock: hastyClock, fetch: dead })),
  ).rejects.toMatchObject({ code: "cluster.unreachable" });
  expect(sent).toBe(1);
});

test("a wait is stopped by its signal", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  const handle = await new Holdfast({ url: api.url, apiKey: api.apiKey }).tasks.follow(task.view.id);
  const stop = new AbortController();
  const waiting = handle.result({ signal: stop.signal });
  stop.abort();
  await expect(waiting).rejects.toMatchObject({ code: "aborted" });
});

test("cancel asks for every open task and takes a finished one for done", async () => {
  await using api = await startApi();
  const [running, finished] = [api.backend.add(), api.backend.add()];
  finished.finish("succeeded", { exitCode: 0 });
  const handle = await new Holdfast({ url: api.url, apiKey: api.apiKey }).run({ on: "*", script: "true" });
  await handle.cancel();
  expect(api.backend.cancelled).toEqual([running.view.id]);
});

test("a URL that is none is refused before anything is sent", () => {
  expect(() => new Holdfast({ url: "holdfast:8080", apiKey: "k" })).toThrowError(
    expect.objectContaining({ code: "config.invalid" }),
  );
});

test("a run's trace and the arguments of its interpreter go along, and its output variables come back", async () => {
  await using api = await startApi();
  const traceParent = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;
  const task = api.backend.add();
  const holdfast = new Holdfast({ url: api.url, apiKey: api.apiKey });
  const handle = await holdfast.run({ on: "web-01", script: "x", interpreterArgs: ["-u"], traceParent });
  expect(api.backend.submits[0]?.submit.work).toMatchObject({
    spec: { interpreterArgs: ["-u"], env: { TRACEPARENT: traceParent } },
  });
  const earlier = attemptView({ outputs: { VERSION: "1" } });
  const latest = attemptView({ number: 2, outputs: { VERSION: "2" } });
  task.finish("succeeded", { exitCode: 0, attempts: [earlier, latest] });
  expect((await handle.result()).outputs).toEqual({ VERSION: "2" });
});

test("a trace of another form is refused before anything is sent", async () => {
  await using api = await startApi();
  const holdfast = new Holdfast({ url: api.url, apiKey: api.apiKey });
  await expect(holdfast.run({ on: "web-01", script: "x", traceParent: "x" })).rejects.toMatchObject({
    code: "request.invalid",
  });
  expect(api.backend.submits).toEqual([]);
});

test("files go along byte for byte, whatever they hold and however large", async () => {
  await using api = await startApi();
  const holdfast = new Holdfast({ url: api.url, apiKey: api.apiKey });
  const large = Uint8Array.from({ length: 200_000 }, (_, index) => (index * 7) % 256);
  const files = [
    { name: "large", content: large },
    { name: "text", content: "gr\u00fc\u00dfe", executable: true },
  ];
  await holdfast.run({ on: "web-01", script: "x", files });
  const [got] = api.backend.submits;
  const spec = got !== undefined && "spec" in got.submit.work ? got.submit.work.spec : undefined;
  expect(spec?.kind === "script" ? spec.files : undefined).toEqual([
    { name: "large", base64: Buffer.from(large).toString("base64") },
    { name: "text", base64: Buffer.from("gr\u00fc\u00dfe").toString("base64"), executable: true },
  ]);
});

test("what a script says of its progress is told once each, and is part of the states", async () => {
  await using api = await startApi();
  const task = api.backend.add();
  const say = (percent: number | null, message: string, second: number): void => {
    const progress = { percent, message, at: new Date(Date.UTC(2026, 10, 23) + second * 1_000).toISOString() };
    task.enter("running", { attempts: [attemptView({ progress })] });
  };
  const handle = await new Holdfast({ url: api.url, apiKey: api.apiKey }).run({ on: "web-01", script: "true" });
  const told: RunProgress[] = [];
  const states: (number | null | undefined)[] = [];
  const steps = [
    () => say(40, "copying", 0),
    () => task.enter("running", { cancelRequested: true }),
    () => say(null, "checking", 1),
    () => task.finish("succeeded", { exitCode: 0 }),
  ];
  for await (const event of handle.events({ onProgress: (progress) => void told.push(progress) })) {
    if (event.kind !== "state") continue;
    states.push(event.state.progress?.percent);
    steps.shift()?.();
  }
  const origin = { agent: "web-01", taskId: task.view.id };
  expect(told).toEqual([
    { ...origin, percent: 40, message: "copying", at: "2026-11-23T00:00:00.000Z" },
    { ...origin, percent: null, message: "checking", at: "2026-11-23T00:00:01.000Z" },
  ]);
  expect(states).toEqual([undefined, 40, 40, null, null]);
});
