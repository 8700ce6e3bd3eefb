#!/usr/bin/env node
// The `holdfast` command of the published package. Written so that any Node since 14 can at least say what is missing.
// An agent takes its place under the flags of agent-flags, which only a new start of Node can set.
const [major, minor] = process.versions.node.split(".").map(Number);
if (major > 24 || (major === 24 && minor >= 12)) {
  const { readFileSync } = await import("node:fs");
  const flags = readFileSync(new URL("agent-flags", import.meta.url), "utf8")
    .trim()
    .split("\n");
  const [self, ...args] = process.argv.slice(1);
  const isAgent = args[0] === "agent" && args[1] === "run";
  if (isAgent && flags.some((flag) => !process.execArgv.includes(flag))) {
    process.execve(process.execPath, [process.execPath, ...flags, ...process.execArgv, self, ...args]);
  }
  await import("../dist/cli/holdfast.js");
} else {
  console.error(
    `holdfast: Node ${process.version} is too old; 24.12 or later is needed. Install a newer Node and run it again.`,
  );
  process.exitCode = 2;
}
