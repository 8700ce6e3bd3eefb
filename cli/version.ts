// What `holdfast --version` says: version, commit when known, protocol, Node.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { packedFile } from "../shared/packed.ts";
import { ownVersion } from "../shared/version.ts";
import { newestProtocol } from "../shared/wire/version.ts";

const packageSchema = z.object({ name: z.literal("holdfast") });
const buildSchema = z.object({ commit: z.string() });

export function versionText(): string {
  const root = packageRoot();
  const commit = commitIn(packedFile("build.json")) ?? builtCommit(root) ?? checkedOutCommit(root);
  const words = [
    commit === undefined ? undefined : `commit ${commit}`,
    `protocol ${newestProtocol}`,
    `Node ${process.version}`,
  ];
  return `holdfast ${ownVersion()} (${words.filter((word) => word !== undefined).join(", ")})`;
}

function packageRoot(): string {
  const candidates = [join(import.meta.dirname, ".."), join(import.meta.dirname, "..", "..")];
  return candidates.find((folder) => packageIn(folder) !== undefined) ?? import.meta.dirname;
}

function packageIn(folder: string): z.infer<typeof packageSchema> | undefined {
  return packageSchema.safeParse(parseJson(textOf(join(folder, "package.json")))).data;
}

/** Written by `npm run build`. */
function builtCommit(root: string): string | undefined {
  return commitIn(textOf(join(root, "dist", "build.json")));
}

function commitIn(text: string | undefined): string | undefined {
  return buildSchema.safeParse(parseJson(text)).data?.commit;
}

/** Read from .git itself: starting git would cost more than the command. */
function checkedOutCommit(root: string): string | undefined {
  const head = textOf(join(root, ".git", "HEAD"))?.trim();
  const reference = /^ref: (refs\/[\w./-]+)$/.exec(head ?? "")?.[1];
  const commit = reference === undefined ? head : textOf(join(root, ".git", reference))?.trim();
  return commit !== undefined && /^[0-9a-f]{40}$/.test(commit) ? commit.slice(0, 12) : undefined;
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

function parseJson(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return undefined;
  }
}
