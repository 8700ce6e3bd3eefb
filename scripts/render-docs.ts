// Renders the documents that repeat what the code says: docs/errors.md and docs/configuration.md. Tests hold them equal.
// Run it after a change: node scripts/render-docs.ts
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { format } from "prettier";
import { processShell } from "../cli/process-shell.ts";
import { createProgram } from "../cli/program.ts";
import { renderReference } from "../cli/reference.ts";
import { errorRows, type ErrorRow } from "../shared/errors.ts";

const docs = join(import.meta.dirname, "..", "docs");

export function renderErrors(): Promise<string> {
  const rows: [string, ErrorRow][] = Object.entries(errorRows);
  const lines = rows.map(
    ([code, row]) =>
      `| \`${code}\` | ${row.status} | ${row.exitCode} | ${row.retryable ? "yes" : "no"} | ${row.mend} |`,
  );
  return asMarkdown(`# Errors

Every failure has one of these codes, in the HTTP API's answers (\`{code, message, mend, requestId}\`), in the SDK (\`AppError\`) and on
standard error of the command line. Branch on the code, never on the text. The last column is what to do when the message says nothing
more exact.

Rendered from \`shared/errors.ts\` by \`node scripts/render-docs.ts\`.

| Code | HTTP status | Exit code | Try again | What to do |
| --- | --- | --- | --- | --- |
${lines.join("\n")}

## Exit codes of the command line

| Code | Meaning | Restart or retry |
| --- | --- | --- |
| 0 | done | – |
| 1–255 of \`holdfast run\` on one agent | the script's own code | – |
| 1 | failed; the message says why | no |
| 2 | wrong usage or configuration | no |
| 69 | cluster or agent not reachable, or only partly (\`agent register\`: some nodes or none) | yes |
| 75 | temporary: busy, draining, rate limited | yes |
| 77 | refused: no permission, revoked, quarantined | no |
| 78 | identity or journal needs a person | no |
| 124 | timed out | – |
| 130 / 143 | interrupted / terminated | – |
| 128+n of \`holdfast run\` | the script ended by signal n | – |
| 200 | lost or abandoned: the outcome is unknown, the script may still run | look at \`--json\` |
| 201 | expired in the queue, never started | look at \`--json\` |
| 202 | cancelled | look at \`--json\` |
| 203 | interrupted, such as by a reboot of its host | look at \`--json\` |
| 204 | refused by the agent | look at \`--json\` |

\`run\` on several agents exits 0 when all succeeded, else 1. 69, 75, 77 and 78 come from \`run\` only when no script was handed over. A
script may itself exit with one of the codes above: \`--json\` always parts \`outcome\` from \`exitCode\`.
`);
}

export function renderConfiguration(): Promise<string> {
  const program = createProgram({ shell: processShell(), finish: () => undefined });
  return asMarkdown(`# Configuration

A flag wins over its environment variable, that over the file of \`holdfast login\` (client commands: URL and key), that over the default.
An empty variable counts as not set; a switch's variable may say \`0\`, \`false\`, \`no\` or \`off\`. A variable of a repeatable flag holds several
values parted by commas. Flags without a variable say what one act is about.

Secrets (\`--api-key\`, \`--token\`, \`--database-url\`) may be given as \`file://PATH\`, \`env://NAME\` or \`fd://N\`, so that they stand in no process
listing. Durations are written \`500ms\`, \`10s\`, \`1h30m\`, \`2d\`; labels \`k=v\`; agents as \`web-01,web-02\`, \`role=web,env in (prod,stage),!canary\`
or \`*\`. \`NO_COLOR\` takes colours away, \`XDG_CONFIG_HOME\` and \`XDG_STATE_HOME\` move the login file and the state.

Rendered from the commands by \`node scripts/render-docs.ts\`.

${renderReference(program)}`);
}

function asMarkdown(text: string): Promise<string> {
  return format(text, { parser: "markdown", printWidth: 120 });
}

if (import.meta.main) {
  writeFileSync(join(docs, "errors.md"), await renderErrors());
  writeFileSync(join(docs, "configuration.md"), await renderConfiguration());
}
