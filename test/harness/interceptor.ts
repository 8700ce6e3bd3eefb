// What a company's inspecting proxy shows instead of a node: a leaf made for the name that was asked for, under a CA of its
// own. Made by openssl, for our own writer makes no such certificates.
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestLeaf } from "./certs.ts";

export async function interceptor(): Promise<Pick<TestLeaf, "privateKeyPem" | "certificatePem">> {
  const folder = await mkdtemp(join(tmpdir(), "holdfast-interceptor-"));
  const openssl = (...words: string[]) => execFileSync("openssl", words, { cwd: folder, stdio: "pipe" });
  const request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
  const signed = ["-CA", "ca.pem", "-CAkey", "ca.key"];
  try {
    openssl(...request, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/O=Corp/CN=Corp Inspection CA");
    openssl(...request, "-keyout", "leaf.key", "-out", "leaf.pem", "-subj", "/CN=node.internal", ...signed);
    return {
      privateKeyPem: await readFile(join(folder, "leaf.key"), "utf8"),
      certificatePem: await readFile(join(folder, "leaf.pem"), "utf8"),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
