// The line that `tokens create` prints for targets without Node.
import { expect, test } from "vitest";
import { installLine } from "../../../cli/install-line.ts";

const sum = "ab".repeat(32);
const line = (url: string) => installLine({ url, token: "hft_T.00", installerSha256: sum });

test("over https it pipes the script into a shell", () => {
  expect(line("https://holdfast.example/")).toBe(
    "curl -fsSL https://holdfast.example/install.sh | sh -s -- --server https://holdfast.example --token hft_T.00",
  );
});

test("over http no shell reads the script before its sum was checked", () => {
  const [fetched, checked, run] = line("http://10.0.0.7:8080").split(" && ");
  expect(fetched).toBe("curl -fsSLO http://10.0.0.7:8080/downloads/install.sh");
  expect(checked).toBe(`echo "${sum}  install.sh" | sha256sum -c -`);
  expect(run).toBe("sh install.sh --server http://10.0.0.7:8080 --token hft_T.00");
});

test("what a shell would take apart is quoted", () => {
  expect(line("https://h/a;rm'x")).toContain(String.raw`'https://h/a;rm'\''x'`);
});
