// The token that a new cluster's first start prints, so that a first agent can be registered at once.
import type { ExecutableFolder } from "./executables/folder.ts";
import type { ClusterTrust } from "./enrolment/cluster-trust.ts";
import { issueToken, type IssueTokenDeps } from "./enrolment/issue-token.ts";

/** Valid for an hour, once; undefined where the cluster was there before. */
export async function firstToken(
  deps: Omit<IssueTokenDeps, "listDigest">,
  { origin, downloads }: { readonly origin: ClusterTrust["origin"]; readonly downloads: ExecutableFolder },
): Promise<string | undefined> {
  if (origin === "found") return undefined;
  const listDigest = (await downloads.list())?.digest;
  const terms = { labels: {}, expiresMs: 3_600_000, replace: undefined, principal: "first start", address: "" };
  return (await issueToken({ ...deps, listDigest }, terms)).text;
}
