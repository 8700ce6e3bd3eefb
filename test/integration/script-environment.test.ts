// What a real script finds around it and hands back, on a real agent that speaks to a fake node.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { AttemptId } from "../../shared/ids.ts";
import type { ResultRecord } from "../../shared/wire/result.ts";
import { AgentBench } from "../fakes/node-cluster.ts";

let bench: AgentBench;

beforeEach(async () => {
  bench = new AgentBench();
  // Commands are programs: memory may be mounted noexec.
  await bench.start(1, { parent: tmpdir() });
});

afterEach(() => bench.stop());

async function resultOf(attempt: AttemptId): Promise<ResultRecord> {
  return bench.store.until(`the result of ${attempt}`, () => bench.store.rows.get(attempt)?.result);
}

const stderrOf = (attempt: AttemptId): string => bench.store.row(attempt).err.bytes.toString();
const stdoutOf = (attempt: AttemptId): string => bench.store.row(attempt).out.bytes.toString();

test("arguments of the interpreter come before the script, its own behind it", async () => {
  await bench.agent();
  const options = { interpreter: "python3", interpreterArgs: ["-X", "utf8", "-u"], args: ["-u", "a b"] };
  const attempt = await bench.node.run("import sys; print(sys.flags.utf8_mode, sys.argv[1:])", options);
  await resultOf(attempt);
  expect(stdoutOf(attempt)).toBe("1 ['-u', 'a b']\n");
});

test("a trace of the task's reaches the script, that of the agent does not", async () => {
  await bench.agent({ environment: { ...process.env, TRACEPARENT: "the agent's", TRACESTATE: "the agent's" } });
  const script = 'echo "[$TRACEPARENT][$TRACESTATE]"';
  const [none, own] = [await bench.node.run(script), await bench.node.run(script, { env: { TRACEPARENT: "given" } })];
  await Promise.all([resultOf(none), resultOf(own)]);
  expect([stdoutOf(none), stdoutOf(own)]).toEqual(["[][]\n", "[given][]\n"]);
});

describe("attached files", () => {
  const binary = Uint8Array.from({ length: 256 }, (_, index) => index);
  const files = [
    { name: "data.bin", base64: Buffer.from(binary).toString("base64") },
    { name: ".tool", base64: Buffer.from("#!/bin/sh\necho tool ran\n").toString("base64"), executable: true },
    { name: "empty", base64: "" },
  ];

  test("lie in the work folder, byte for byte and for nobody else, when the script starts", async () => {
    await bench.agent();
    const attempt = await bench.node.run("./.tool; stat -c '%n %a %h %s' * .tool; cat data.bin", { files });
    await resultOf(attempt);
    const expected = "tool ran\ndata.bin 600 1 256\nempty 600 1 0\n.tool 700 1 24\n";
    expect(bench.store.row(attempt).out.bytes.equals(Buffer.concat([Buffer.from(expected), binary]))).toBe(true);
  });

  test("are found where the script runs in another folder", async () => {
    await bench.agent();
    const attempt = await bench.node.run('pwd; "$HOLDFAST_WORK/.tool"', { files, cwd: "/usr" });
    await resultOf(attempt);
    expect(stdoutOf(attempt)).toBe("/usr\ntool ran\n");
  });
});

test("after a failure the work folder is kept, after a success and without the option it is not", async () => {
  const roster = { keepAcknowledgedMs: 0 };
  const first = await bench.agent({ keepFailedMs: 3_600_000, roster });
  const failed = await bench.node.run("echo why > reason; exit 1");
  const killed = await bench.node.run("echo why > reason; kill -9 $$");
  const succeeded = await bench.node.run("echo why > reason");
  await Promise.all([failed, killed, succeeded].map(resultOf));
  const folders = (parent: string): string[] => (existsSync(bench.path(parent)) ? readdirSync(bench.path(parent)) : []);
  await bench.store.until("the attempts' folders to go", () => folders("attempts").length === 0);
  expect(folders("kept").toSorted()).toEqual([failed, killed].toSorted());
  expect(readFileSync(bench.path("kept", failed, "work", "reason"), "utf8")).toBe("why\n");
  await first.stop();
  await bench.agent({ roster });
  await bench.store.until("what was kept to go", () => folders("kept").length === 0);
  const again = await bench.node.run("echo why > reason; exit 1");
  await resultOf(again);
  await bench.store.until("its folder to go", () => folders("attempts").length === 0);
  expect(folders("kept")).toEqual([]);
});

describe("output variables", () => {
  test.each(["bash", "sh"])(
    "set by command, from standard input and by hand come with the result (%s)",
    async (interpreter) => {
      await bench.agent();
      const script = `
      holdfast-set VERSION 1.2.3
      holdfast-set TEXT "two
lines = 2"
      printf 'from\\nstdin\\n\\n' | holdfast-set PIPED -
      echo "PLAIN=by hand" >> "$HOLDFAST_OUTPUTS"
      holdfast-set VERSION 1.2.4
      holdfast-set EMPTY ''
      exit 3`;
      const result = await resultOf(await bench.node.run(script, { interpreter }));
      expect(result).toMatchObject({ outcome: "failed", reason: "exit-code", exitCode: 3 });
      expect(result.outputs).toEqual([
        { name: "VERSION", value: "1.2.4" },
        { name: "TEXT", value: "two\nlines = 2" },
        { name: "PIPED", value: "from\nstdin" },
        { name: "PLAIN", value: "by hand" },
        { name: "EMPTY", value: "" },
      ]);
    },
  );

  test("are no field of the result when the script set none", async () => {
    await bench.agent();
    expect(await resultOf(await bench.node.run("true"))).not.toHaveProperty("outputs");
  });

  test("are the same in a resend by a successor of the agent", async () => {
    bench.store.acknowledges = false;
    const first = await bench.agent();
    const attempt = await bench.node.run("holdfast-set A 1");
    await bench.store.until("a first result", () => bench.store.row(attempt).resultsSeen > 0);
    await first.stop();
    bench.store.acknowledges = true;
    await bench.agent();
    expect((await resultOf(attempt)).outputs).toEqual([{ name: "A", value: "1" }]);
  });

  test("that hold a secret of the task are masked before they leave", async () => {
    await bench.agent();
    const secrets = [{ name: "TOKEN", value: "correct-horse", as: "variable" as const }];
    const script = 'holdfast-set AUTH "Bearer $TOKEN"; echo "RAW=$TOKEN" >> $HOLDFAST_OUTPUTS';
    const { outputs } = await resultOf(await bench.node.run(script, {}, { secrets }));
    expect(outputs).toEqual([
      { name: "AUTH", value: "Bearer *************" },
      { name: "RAW", value: "*************" },
    ]);
  });

  test("beyond the bounds fail in the command and are told of in the result", async () => {
    await bench.agent();
    const script = `
      head -c 65536 /dev/zero | tr '\\0' x | holdfast-set BIG -
      echo "code $?"
      holdfast-set 'no name' 1
      echo "code $?"
      { printf BY_HAND=; head -c 65536 /dev/zero | tr '\\0' x; echo; } >> $HOLDFAST_OUTPUTS
      holdfast-set SMALL 1`;
    const attempt = await bench.node.run(script, { interpreter: "sh" });
    const result = await resultOf(attempt);
    expect(result).toMatchObject({ outcome: "succeeded", reason: "outputs-dropped: BY_HAND (over 65536 bytes)" });
    expect(result.outputs).toEqual([{ name: "SMALL", value: "1" }]);
    expect(stdoutOf(attempt)).toBe("code 1\ncode 2\n");
    expect(stderrOf(attempt)).toContain("holdfast-set: BIG: more than 65536 bytes");
  });
});
