// Sums the runner's JSON reports into the one closing line of CI. A step that failed without a failed test (a lint
// error, a missing report) counts as one failure, so that the line never looks better than the run was. What failed is named
// once more right before it, for of a long run often only the end is kept.
import { readFileSync } from "node:fs";

const [stepFailed, ...reports] = process.argv.slice(2);
let passed = 0;
let failed = 0;
for (const path of reports) {
  try {
    const report = JSON.parse(readFileSync(path, "utf8"));
    passed += report.numPassedTests;
    failed += report.numFailedTests;
    if (!report.success && report.numFailedTests === 0) {
      failed += 1;
      console.log(`failed: ${path}: no test, but an error beside the tests or a file that could not be read`);
    }
    for (const file of report.testResults ?? []) nameFailures(file);
  } catch (cause) {
    console.log(`${path}: no report (${cause.message})`);
    failed += 1;
  }
}
if (stepFailed !== "0" && failed === 0) failed = 1;
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

/** One line for a test that failed, or for a file that could not even be read. */
function nameFailures({ name, status, message, assertionResults = [] }) {
  const failures = assertionResults.filter((test) => test.status === "failed");
  if (failures.length === 0 && (status === "failed" || message)) console.log(`failed: ${name}: ${firstLine(message)}`);
  for (const { fullName, failureMessages = [] } of failures)
    console.log(`failed: ${name}: ${fullName}: ${firstLine(failureMessages[0])}`);
}

function firstLine(text = "") {
  return text.split("\n")[0].slice(0, 300);
}
