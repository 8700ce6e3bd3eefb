// Ground truth that scripts write themselves: each start appends a line to a file of its own, so that a second start
// cannot hide; numbered lines make a lost or repeated one visible.
import { readFileSync } from "node:fs";

/** Appends a line per start to `truthFile`, then prints `count` numbered lines, one each `pauseSeconds`. */
export function countingScript(
  truthFile: string,
  { count, pauseSeconds }: { readonly count: number; readonly pauseSeconds: number },
): string {
  return [
    `echo "start $HOLDFAST_ATTEMPT_ID $$" >> '${truthFile}'`,
    // Nobody writes into this pipe: bash itself waits, where a `sleep` for each line would cost a process.
    "exec 9<> <(:)",
    `for ((i = 1; i <= ${count}; i++)); do echo "line $i"; read -r -t ${pauseSeconds} -u 9; done`,
    `echo "end $HOLDFAST_ATTEMPT_ID" >> '${truthFile}'`,
  ].join("\n");
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
