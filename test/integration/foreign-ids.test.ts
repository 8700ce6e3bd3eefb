// I11 over the real door: an agent with a genuine certificate sends every message there is about what is another's, in its own
// session and in one greeted with the other's journal. Nothing stored of the other changes, and what the node answers is what it
// answers about an id that does not exist. The messages are the schema's own union: a new type cannot be forgotten.
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { dial, type DialEnd } from "../../agent/dial.ts";
import { loadIdentity } from "../../agent/identity.ts";
import { anyNodeName } from "../../certs/profile.ts";
import { systemClock } from "../../shared/clock.ts";
import { createIdSource } from "../../shared/ids.ts";
import { SystemRandom } from "../../shared/random.ts";
import { decodeFrame, encodeFrame } from "../../shared/wire/frame.ts";
import { fromAgentSchema } from "../../shared/wire/from-agent.ts";
import { ownProtocols } from "../../shared/wire/version.ts";
import { connected, enrol, TestSite } from "../harness/enrolled-agent.ts";
import { queryRows } from "../harness/query.ts";
import { fromAgentSamples } from "../surface/wire-messages.ts";

const ids = createIdSource({ clock: systemClock, random: new SystemRandom() });
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const secretWord = "the-victims-own-word";

let site: TestSite;
let strangerPath: string;
let hold: string;
let task: string;
/** Everything of the victim that has an id. */
let foreign: Record<string, string>;
let victim: { readonly boot: string; readonly journal: string };

const rows = (text: string, values: readonly unknown[] = []) => queryRows(site.node.databaseUrl, text, values);

beforeAll(async () => {
  site = await TestSite.start();
  const { node } = site;
  await site.startAgent(await site.enrol("victim"));
  await site.enrol("sleeper");
  strangerPath = await enrol(node, { name: "stranger" });
  await connected(node, "victim");
  const done = await node.client.run({ on: "victim", script: `echo ${secretWord}` });
  await done.results();
  hold = join(node.folder, "hold");
  await writeFile(hold, "");
  const running = await node.client.run({
    on: "victim",
    script: `echo ${secretWord}; while [ -e '${hold}' ]; do sleep 0.05; done; echo after`,
  });
  for await (const piece of running.bytes()) if ("bytes" in piece) break;
  task = running.tasks[0]?.id ?? "";
  await node.client.run({ on: "sleeper", script: `echo ${secretWord}` });
  foreign = {};
  for (const row of await rows(
    "select a.id, a.task_id, t.submission_id, a.state, g.id as agent, g.journal_id, g.boot_id from attempt a join task t on t.id = a.task_id join agent g on g.id = a.agent_id",
  )) {
    const state = String(row["state"]);
    foreign[`the attempt that is ${state}`] = String(row["id"]);
    foreign[`the task that is ${state}`] = String(row["task_id"]);
    foreign[`the submission of what is ${state}`] = String(row["submission_id"]);
    if (state === "running") {
      foreign["the agent"] = String(row["agent"]);
      victim = { boot: String(row["boot_id"]), journal: String(row["journal_id"]) };
    }
  }
});
afterAll(async () => {
  await rm(hold, { force: true });
  await site[Symbol.asyncDispose]();
});

/** Every row of every table that names something of the victim's. */
async function everything(): Promise<string> {
  const wanted = [...Object.values(foreign), victim.boot, victim.journal];
  const tables = await rows(
    "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition order by 1",
  );
  const found: string[] = [];
  for (const table of tables) {
    const name = String(table["relname"]);
    const matches = await rows(
      `select to_jsonb(t)::text as one from "${name}" t where to_jsonb(t)::text like any ($1) and not to_jsonb(t)::text like $2 order by 1`,
      [wanted.map((id) => `%${id}%`), `%${await strangerId()}%`],
    );
    found.push(...matches.map((row) => `${name} ${String(row["one"])}`));
  }
  expect(found.length).toBeGreaterThan(8);
  return found.join("\n");
}

async function strangerId(): Promise<string> {
  return (await loadIdentity(strangerPath))?.agentId ?? "";
}

let boots = 0;

class Session {
  readonly frames: unknown[] = [];
  end: DialEnd | undefined;
  #send: (message: object) => void = () => undefined;
  #arrival = Promise.withResolvers<undefined>();

  static async open(journalId: string, attempts: readonly object[]): Promise<Session> {
    const identity = await loadIdentity(strangerPath);
    if (identity === undefined) throw new Error("the stranger has no identity");
    const { key, certificate, nodesCa, cluster } = identity;
    const session = new Session();
    boots += 1;
    const socket = dial(
      {
        address: `127.0.0.1:${site.node.node.agentPort}`,
        identity: { key, cert: certificate, nodesCas: nodesCa, servername: anyNodeName(cluster) },
      },
      {
        onOpen: () =>
          session.send({
            ...fromAgentSamples.hello,
            protocols: ownProtocols,
            bootCounter: boots,
            bootId: ids.next(),
            journalId,
            attempts,
          }),
        onFrame: (frame) => {
          session.frames.push(decodeFrame(frame));
          session.#arrived();
        },
        onPong: () => undefined,
        onEnd: (end) => {
          session.end = end;
          session.#arrived();
        },
      },
    );
    session.#send = (message) => socket.send(encodeFrame(message), () => undefined);
    await session.until("a welcome", () => session.frames.length > 0);
    return session;
  }

  send(message: object): void {
    this.#send(message);
  }

  close(): void {
    // A second greeting is no part of the protocol: the node closes.
    this.send({ ...fromAgentSamples.hello, bootId: ids.next(), journalId: ids.next() });
  }

  /** Looked at whenever something arrives. */
  async until(what: string, isDone: () => boolean): Promise<void> {
    const limit = Date.now() + 30_000;
    while (!isDone()) {
      const last = JSON.stringify(this.frames.slice(-5));
      if (this.end !== undefined) throw new Error(`${what}: closed ${JSON.stringify(this.end)} behind ${last}`);
      if (Date.now() > limit) throw new Error(`${what}: ${last}`);
      this.#arrival = Promise.withResolvers<undefined>();
      const timer = setTimeout(this.#arrival.resolve, 30_000, undefined);
      await this.#arrival.promise;
      clearTimeout(timer);
    }
  }

  #arrived(): void {
    this.#arrival.resolve(undefined);
  }
}

/** A message with every id in it replaced. */
function about(message: unknown, id: string): unknown {
  if (typeof message === "string") return uuid.test(message) ? id : message;
  if (message instanceof Uint8Array) return message;
  if (Array.isArray(message)) return message.slice(0, 1).map((item) => about(item, id));
  if (typeof message !== "object" || message === null) return message;
  return Object.fromEntries(Object.entries(message).map(([key, value]) => [key, about(value, id)]));
}

const acknowledgements = (session: Session, id: string): number =>
  JSON.stringify(session.frames.filter((frame) => (frame as { type: string }).type === "result-ack")).split(id).length -
  1;

const reaching: ReadonlySet<string> = new Set(["accept", "started", "state"]);

/**
 * All the node says about an id, the id itself left out. Each message has one acknowledgement at most and each question behind
 * has one, in the order of the attempt's writes: of so many questions the last answers can be missing, and no message's.
 */
async function answersTo(session: Session, id: string): Promise<readonly string[]> {
  const from = session.frames.length;
  const before = acknowledgements(session, id);
  // A renewal names nobody: it is about the connection's own certificate, and one that proves nothing ends the session.
  const samples = Object.values(fromAgentSamples).filter(({ type }) => type !== "hello" && type !== "renew");
  // Each by itself first: a result takes the place of what was reached before, when both wait to be written.
  const alone = samples.filter(({ type }) => reaching.has(type));
  for (const [no, sample] of alone.entries()) {
    session.send(about(sample, id) as object);
    session.send({ type: "resume", items: [{ attempt: id, homeNo: 50 + no }] });
    await session.until(`${sample.type} of ${id} is judged`, () => acknowledgements(session, id) > before + no);
  }
  const asked = before + alone.length;
  for (const sample of samples) session.send(about(sample, id) as object);
  const questions = samples.length + 5;
  for (let no = 0; no < questions; no += 1) session.send({ type: "resume", items: [{ attempt: id, homeNo: 99 + no }] });
  await session.until(`all about ${id} is judged`, () => acknowledgements(session, id) >= asked + questions);
  const said = session.frames.slice(from).flatMap((frame) => {
    const { type, items, ...rest } = frame as { type: string; items?: unknown[] };
    return (items ?? [rest]).map((item) => `${type} ${JSON.stringify(item)}`.replaceAll(id, "it"));
  });
  // Of another id there may still come what the questions behind it were answered.
  return [...new Set(said)].filter((text) => text.includes('"it"')).toSorted();
}

describe("an agent that speaks of what is another's", () => {
  it("has a sample of every message there is", () => {
    const sampled = new Set(Object.values(fromAgentSamples).map(({ type }) => type));
    expect([...sampled].toSorted()).toEqual(
      fromAgentSchema.options.map((option) => option.shape.type.value).toSorted(),
    );
  });

  it.each(["its own journal", "the victim's journal"])(
    "changes nothing and learns nothing, greeted with %s",
    async (whose) => {
      const journal = whose === "its own journal" ? ids.next() : victim.journal;
      const before = await everything();
      const unknown = ids.next();
      const listed = [...Object.values(foreign), unknown].map((attempt) => ({
        attempt,
        state: "running",
        homeNo: 99,
        homeHere: true,
      }));
      const session = await Session.open(journal, listed);
      const { verdicts } = session.frames[0] as { verdicts: { attempt: string; verdict: string }[] };
      expect(new Set(verdicts.map(({ verdict }) => verdict))).toEqual(new Set(["unknown"]));
      const expected = await answersTo(session, unknown);
      for (const [what, id] of Object.entries(foreign))
        expect({ what, said: await answersTo(session, id) }).toEqual({ what, said: expected });
      const heard = JSON.stringify(session.frames);
      const words = [
        secretWord,
        "victim",
        "sleeper",
        victim.boot,
        ...(journal === victim.journal ? [] : [victim.journal]),
      ];
      expect(words.filter((word) => heard.includes(word))).toEqual([]);
      expect(await everything()).toBe(before);
      session.close();
      await session.until("the end", () => session.end !== undefined);
    },
  );

  it("leaves the victim's session and script as they were", async () => {
    await rm(hold);
    const handle = await site.node.client.tasks.follow(task);
    let output = "";
    for await (const piece of handle.bytes()) if ("bytes" in piece) output += Buffer.from(piece.bytes).toString();
    expect(output).toBe(`${secretWord}\nafter\n`);
    expect(await handle.results()).toMatchObject([{ state: "succeeded" }]);
  });
});
