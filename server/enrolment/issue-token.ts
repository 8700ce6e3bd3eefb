// Makes an enrolment token: the text is answered once, only the secret's digest is stored.
import { encodeToken } from "../../shared/enrolment-token.ts";
import { newId, tokenIdSchema, type IdSource, type TokenId } from "../../shared/ids.ts";
import type { Random } from "../../shared/random.ts";
import type { Labels } from "../../shared/task.ts";
import { sha256, type Sha256Hex } from "../../shared/thumbprint.ts";
import type { Sql } from "../store/connection.ts";
import { createToken } from "../store/tokens.ts";

export interface IssueTokenDeps {
  readonly sql: Sql;
  readonly ids: IdSource;
  readonly random: Random;
  readonly nodesCaPin: () => Sha256Hex;
  /** Of the executables this node serves; undefined when it serves none. */
  readonly listDigest: string | undefined;
}

export interface TokenTerms {
  readonly labels: Labels;
  readonly expiresMs: number;
  /** Name of an agent the token may replace. */
  readonly replace: string | undefined;
  readonly principal: string;
  readonly address: string;
}

const secretBytes = 32;

export async function issueToken(
  deps: IssueTokenDeps,
  terms: TokenTerms,
): Promise<{ readonly id: TokenId; readonly text: string }> {
  const id = newId(deps.ids, tokenIdSchema);
  const secret = deps.random.bytes(secretBytes);
  const { labels, expiresMs, replace, principal, address } = terms;
  await createToken(deps.sql, {
    id,
    secretSha256: sha256(secret),
    labels,
    replaces: replace ?? null,
    expiresMs,
    principal,
    address,
  });
  const { listDigest } = deps;
  return { id, text: encodeToken({ tokenId: id, secret, nodesCaPin: deps.nodesCaPin(), listDigest }) };
}
