// Ground truth that scripts write themselves: each start appends a line to a file of its own, so that a second start
// cannot hide; numbered lines make a lost or repeated one visible.
import { readFileSync } from "node:fs";

export interface CountingPlan {
  readonly count: number;
  /** After each line. 0: all of them at once. */
  readonly pauseSeconds: number;
  /** Its last act. Default: none, and what is written behind it goes on. */
  readonly exitCode?: number;
  /** Writes down each line's moment too, so that one that runs on after its end is seen. */
  readonly beats?: "none" | "written";
}

/** Appends a line per start to `truthFile`, then prints `count` numbered lines, one each `pauseSeconds`. */
export function countingScript(
  truthFile: string,
  { count, pauseSeconds, exitCode, beats = "none" }: CountingPlan,
): string {
  const say = (word: string): string => `echo "${word} $HOLDFAST_ATTEMPT_ID $$ $EPOCHREALTIME" >> '${truthFile}'`;
  return [
    say("start"),
    // Nobody writes into this pipe: bash itself waits, where a `sleep` for each line would cost a process.
    ...(pauseSeconds > 0 ? ["exec 9<> <(:)"] : []),
    `for ((i = 1; i <= ${count}; i++)); do`,
    ...(beats === "written" ? [say("beat")] : []),
    `echo "line $i"${pauseSeconds > 0 ? `; read -r -t ${pauseSeconds} -u 9` : ""}`,
    "done",
    say("end"),
    ...(exitCode === undefined ? [] : [`exit ${exitCode}`]),
  ].join("\n");
}

/** A line of a script's own truth. */
export interface TruthLine {
  readonly word: "start" | "beat" | "end";
  readonly attempt: string;
  readonly pid: number;
  /** By the machine's calendar. */
  readonly atMs: number;
}

export function truthLines(text: string): readonly TruthLine[] {
  // The decimal mark is that of the script's locale.
  return [...text.matchAll(/^(start|beat|end) (\S+) (\d+) (\d+)[.,](\d{6})$/gm)].map(
    ([, word, attempt = "", pid, seconds, micros]) => ({
      word: word === "start" || word === "end" ? word : "beat",
      attempt,
      pid: Number(pid),
      atMs: Number(seconds) * 1_000 + Number(micros) / 1_000,
    }),
  );
}

export function countedLines(count: number): string {
  return Array.from({ length: count }, (_, index) => `line ${index + 1}\n`).join("");
}

/** Whether the script came to its end, whoever has heard of it. */
export function hasEnded(truthFile: string): boolean {
  try {
    return readFileSync(truthFile, "utf8").includes("\nend ");
  } catch {
    return false;
  }
}

export function startsIn(truthFile: string): number {
  try {
    return readFileSync(truthFile, "utf8")
      .split("\n")
      .filter((line) => line.startsWith("start ")).length;
  } catch {
    return 0;
  }
}
