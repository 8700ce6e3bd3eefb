// What people see of a log, from a real script through agent, node and command line: order and times of both streams, a
// limit on its rate, progress bars and colours, long lines, and what was left out of the middle.
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Agent } from "../../agent/agent.ts";
import { main } from "../../cli/main.ts";
import { FakeShell } from "../fakes/shell.ts";
import { connected, enrol, startAgentOn } from "../harness/enrolled-agent.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";

const kibi = 1_024;
/** Little, so that a script soon writes more than is kept. */
const bounds = { headBytes: 64 * kibi, tailBytes: 64 * kibi, segmentBytes: 32 * kibi };

let node: TestNode;
let agent: Agent;

beforeAll(async () => {
  node = await startTestNode();
  agent = await startAgentOn(await enrol(node, { name: "web-01" }), {}, { bounds });
  await connected(node, "web-01");
});
afterAll(async () => {
  await agent.stop();
  await node.stop();
});

interface Started {
  readonly shell: FakeShell;
  readonly exitCode: Promise<number>;
}

/** `joined`: standard error and output are one, as on a terminal. */
function cli(command: string, flags: readonly string[], form: "apart" | "joined" | "terminal" = "apart"): Started {
  const shell = new FakeShell({ terminal: form === "terminal", environment: { NO_COLOR: "1" } });
  if (form !== "apart") Object.defineProperty(shell, "err", { value: shell.out });
  const place = ["--url", node.url, "--api-key", node.apiKey];
  return { shell, exitCode: main([...command.split(" "), ...place, ...flags], shell) };
}

async function textOf(command: string, flags: readonly string[], form?: "apart" | "joined" | "terminal") {
  const { shell, exitCode } = cli(command, flags, form);
  expect(await exitCode).toBe(0);
  return shell.out.text;
}

/** Runs a script to its end; answers the task's id. */
async function ran(script: string): Promise<string> {
  const handle = await node.client.run({ on: "web-01", script });
  expect((await handle.result()).state).toBe("succeeded");
  return handle.tasks[0]?.id ?? "";
}

interface JsonLine {
  readonly stream: string;
  readonly text: string;
  readonly at: string | null;
  readonly continues: boolean;
  readonly overwritten?: boolean;
  readonly omittedBytes?: number;
}

const linesOf = async (id: string): Promise<JsonLine[]> =>
  (await textOf("tasks logs", [id, "--json"]))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as JsonLine);

test("--timestamps shows both streams in the order in which they were written, each line at the time the agent saw it", async () => {
  const step = join(node.folder, "step");
  const streams = ["out", "err", "err", "out", "err", "out"];
  // Each line holds when it was written; the next is written when it was shown.
  const script = streams
    .map((stream, no) => {
      const line = `echo "${stream} ${no} $(date +%s%3N)"${stream === "err" ? " >&2" : ""}`;
      return `${line}; until [ -e '${step}-${no}' ] || [ ! -d '${node.folder}' ]; do sleep 0.05; done`;
    })
    .join("\n");
  const { shell, exitCode } = cli("run", ["--on", "web-01", "--timestamps", "--", script], "joined");
  for (const [no, stream] of streams.entries()) {
    await shell.out.until(`| ${stream} ${no} `);
    await writeFile(`${step}-${no}`, "");
  }
  expect(await exitCode).toBe(0);
  const shown = shell.out.text.trim().split("\n");
  const parsed = shown.map((line) => /^(\S+) \| (\w+) (\d) (\d+)$/.exec(line)?.slice(1) ?? [line]);
  expect(parsed.map(([, stream, no]) => `${stream} ${no}`)).toEqual(streams.map((stream, no) => `${stream} ${no}`));
  // Written, seen, written, seen, …; what is seen within a tenth of a second of something else has that one's time.
  const moments = parsed.map(([at = "", , , written]) => ({ written: Number(written), seen: Date.parse(at) }));
  for (const [no, { written, seen }] of moments.entries()) {
    expect(seen).toBeGreaterThan(written - 100);
    expect(seen).toBeLessThanOrEqual(moments[no + 1]?.written ?? Number.POSITIVE_INFINITY);
  }
  // The same afterwards, from what is stored.
  const [task] = (await node.client.tasks.list({ limit: 1 })).items;
  const id = task?.id ?? "";
  expect(await textOf("tasks logs", [id, "--timestamps"], "joined")).toBe(shell.out.text);
  expect((await linesOf(id)).map(({ at, stream, text }) => `${at} ${stream} ${text}`)).toEqual(
    parsed.map(([at, stream, no, written]) => `${at} ${stream} ${stream} ${no} ${written}`),
  );
});

test("with --log-rate a log arrives whole and in order, in as many pieces as its rate makes", async () => {
  const ended = join(node.folder, "ended");
  const script = `seq -f '%015.0f' 0 1279; seq -f '%015.0f' 0 63 >&2; touch '${ended}'`;
  const handle = await node.client.run({ on: "web-01", script, logBytesPerSecond: 4 * kibi });
  const pieces = { out: [] as Buffer[], err: [] as Buffer[] };
  let seenAtEnd: number | undefined;
  for await (const piece of handle.bytes()) {
    if (!("bytes" in piece)) throw new Error(`${piece.omitted} bytes were omitted`);
    if (existsSync(ended)) seenAtEnd ??= pieces.out.length;
    pieces[piece.stream].push(Buffer.from(piece.bytes));
  }
  expect(Buffer.concat(pieces.out).toString()).toBe(numbered(0, 1_280));
  expect(Buffer.concat(pieces.err).toString()).toBe(numbered(0, 64));
  // 20 KiB at 4 KiB a second: at once they are one piece, or two. A slow database may join some.
  expect(pieces.out.length).toBeGreaterThanOrEqual(4);
  expect(Math.max(...pieces.out.map(({ length }) => length))).toBeLessThanOrEqual(3 * 4 * kibi);
  // The script was not slowed down: it had ended when most of its log was still to come.
  expect(seenAtEnd).toBeLessThan(pieces.out.length / 2);
  expect((await handle.result()).state).toBe("succeeded");
});

const bar = String.raw`printf ' 10%%\r 50%%\r100%%\n\033[31mred\033[0m\033[2J\033]0;title\a done\r\n'`;

test("a progress bar and colours reach a pipe byte for byte", async () => {
  expect(await textOf("run", ["--on", "web-01", "--", bar])).toBe(
    " 10%\r 50%\r100%\n\x1b[31mred\x1b[0m\x1b[2J\x1b]0;title\x07 done\r\n",
  );
});

test("on a terminal colours pass, a bar's steps stand below each other, and nothing else commands it", async () => {
  const shown = " 10%\n 50%\n100%\n\x1b[31mred\x1b[0m done\n";
  expect(await textOf("run", ["--on", "web-01", "--", bar], "terminal")).toBe(shown);
  expect(await textOf("tasks logs", [await ran(bar)], "terminal")).toBe(shown);
});

test("as lines, the steps of a bar are lines that were overwritten", async () => {
  const id = await ran(bar);
  expect((await linesOf(id)).map(({ text, overwritten }) => [text, overwritten === true])).toEqual([
    [" 10%", true],
    [" 50%", true],
    ["100%", false],
    ["\x1b[31mred\x1b[0m\x1b[2J\x1b]0;title\x07 done", false],
  ]);
  const timed = await textOf("tasks logs", [id, "--timestamps"], "terminal");
  expect(timed.replaceAll(/^\S+Z \| /gm, "")).toBe(" 10%\n 50%\n100%\n\x1b[31mred\x1b[0m done\n");
});

test("a bar that never ends its line is shown while it runs", async () => {
  const step = join(node.folder, "bar");
  const script = `printf '10%%\\r'; printf '20%%\\r'; until [ -e '${step}' ] || [ ! -d '${node.folder}' ]; do sleep 0.05; done; printf 'done'`;
  const { shell, exitCode } = cli("run", ["--on", "web-01", "--", script], "terminal");
  await shell.out.until("10%\n20%");
  await writeFile(step, "");
  expect(await exitCode).toBe(0);
  expect(shell.out.text).toBe("10%\n20%\ndone");
});

test("a line over 16 KiB is shown in pieces of 16 KiB, none of which cuts a character; its bytes stay one line", async () => {
  const script = `head -c 40000 /dev/zero | tr '\\0' x; echo; i=0; while [ $i -lt 6000 ]; do printf '\\342\\202\\254'; i=$((i + 1)); done; echo; echo end`;
  const id = await ran(script);
  const lines = (await linesOf(id)).map(({ text, continues }) => [text[0], text.length, continues]);
  const longest = 16 * kibi;
  const euros = Math.floor(longest / 3);
  expect(lines).toEqual([
    ["x", longest, true],
    ["x", longest, true],
    ["x", 40_000 - 2 * longest, false],
    ["€", euros, true],
    ["€", 6_000 - euros, false],
    ["e", 3, false],
  ]);
  expect(await textOf("tasks logs", [id])).toBe(`${"x".repeat(40_000)}\n${"€".repeat(6_000)}\nend\n`);
  const timed = await textOf("tasks logs", [id, "--timestamps"]);
  expect(timed.split("\n").map((line) => line.replace(/^\S+Z \| /, "").length)).toEqual([
    ...lines.map(([, length]) => length),
    0,
  ]);
});

test("of a log that is too long head and tail arrive, and where something is left out it is said exactly how much", async () => {
  const whole = numbered(0, 65_536);
  // Written faster than it may be sent, so that what is between head and tail goes before it could leave.
  const script = `seq -f '%015.0f' 0 65535`;
  const { shell, exitCode } = cli("run", ["--on", "web-01", "--log-rate", "64KiB", "--", script]);
  expect(await exitCode).toBe(0);
  const [task] = (await node.client.tasks.list({ limit: 1 })).items;
  const id = task?.id ?? "";
  // What the log says of itself: where it goes on without a gap, and where it has one.
  const kept: string[] = [];
  const gaps: number[] = [];
  let at = 0;
  for await (const piece of (await node.client.tasks.follow(id)).bytes()) {
    expect(piece.offset).toBe(at);
    if ("omitted" in piece) gaps.push(piece.omitted);
    else kept.push(whole.slice(at, at + piece.bytes.length));
    at += "omitted" in piece ? piece.omitted : piece.bytes.length;
  }
  expect(at).toBe(whole.length);
  expect(gaps.length).toBeGreaterThan(0);
  // What people were shown live, and are shown afterwards.
  expect(shell.out.text).toBe(kept.join(""));
  expect(shell.out.text.startsWith(whole.slice(0, bounds.headBytes))).toBe(true);
  expect(shell.out.text.endsWith(whole.slice(-bounds.tailBytes))).toBe(true);
  const notes = gaps.map((omitted) => `holdfast: ${omitted} bytes of standard output omitted by the agent\n`);
  expect(shell.err.text).toBe(notes.join(""));
  const lines = await linesOf(id);
  const notices = lines.filter(({ omittedBytes }) => omittedBytes !== undefined);
  expect(notices.map(({ text, omittedBytes }) => [text, omittedBytes])).toEqual(
    gaps.map((omitted) => [`[${omitted} bytes omitted]`, omitted]),
  );
  expect((await node.client.tasks.show(id)).attempts[0]?.outBytes).toBe(whole.length);
});

/** As `seq -f '%015.0f'` writes them: 16 bytes each. */
function numbered(from: number, to: number): string {
  return Array.from({ length: to - from }, (_, no) => `${String(from + no).padStart(15, "0")}\n`).join("");
}
