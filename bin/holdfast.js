#!/usr/bin/env node
// The `holdfast` command of the published package. Written so that any Node since 14 can at least say what is missing.
const [major, minor] = process.versions.node.split(".").map(Number);
if (major > 24 || (major === 24 && minor >= 12)) {
  await import("../dist/cli/holdfast.js");
} else {
  console.error(
    `holdfast: Node ${process.version} is too old; 24.12 or later is needed. Install a newer Node and run it again.`,
  );
  process.exitCode = 2;
}
