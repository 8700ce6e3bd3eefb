// Enrolment as the agent does it: greeting verified under the token's pin, request without the secret, answer verified,
// identity stored. Invariant: until the pin is verified nothing that depends on the token's secret leaves this machine.
import { createPrivateKey, createPublicKey } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { readBundle } from "../certs/bundle.ts";
import { buildRequest, verifyAnswer, verifyGreeting } from "../certs/enrolment-proof.ts";
import type { GreetedCluster } from "../certs/enrolment-proof.ts";
import { generateKeyPair } from "../certs/public-key.ts";
import type { Clock } from "../shared/clock.ts";
import type { EnrolmentToken } from "../shared/enrolment-token.ts";
import { enrolmentAnswerSchema, enrolmentGreetingSchema } from "../shared/enrolment.ts";
import { AppError, errnoOf } from "../shared/errors.ts";
import type { Labels } from "../shared/task.ts";
import type { NodeList } from "../shared/wire/nodes.ts";
import { describeOffset, isNoticeable } from "./clock-offset.ts";
import { replaceFile } from "./durable-file.ts";
import type { EnrolmentApi } from "./enrolment-api.ts";
import type { Identity } from "./identity.ts";
import { storeIdentity } from "./identity.ts";
import { seedsOf } from "./reach.ts";

export interface EnrolDeps {
  readonly api: EnrolmentApi;
  readonly clock: Clock;
}

export interface EnrolOptions {
  readonly server: string;
  readonly token: EnrolmentToken;
  readonly name: string;
  readonly labels: Labels;
  readonly dataPath: string;
}

/** Throws AppError `enrolment.untrusted` unless the server holds the pinned CA; says so when the clock is to blame. */
export async function greet(
  { api, clock }: EnrolDeps,
  { server, token }: Pick<EnrolOptions, "server" | "token">,
): Promise<GreetedCluster> {
  const greeting = parsed(enrolmentGreetingSchema.safeParse(await api.call("GET")), server);
  try {
    return verifyGreeting(greeting, token, { clock });
  } catch (cause) {
    const error = AppError.from(cause);
    const { serverAheadMs } = api;
    if (!isNoticeable(serverAheadMs)) throw error;
    throw new AppError(error.code, `${error.message}; this clock is ${describeOffset(serverAheadMs)}`, {
      mend: "Set this machine's clock (NTP), or the server's, then register again.",
      cause: error,
    });
  }
}

export async function enrol(
  { api, clock }: EnrolDeps,
  options: EnrolOptions,
  greeted: GreetedCluster,
): Promise<{ readonly identity: Identity; readonly list: NodeList }> {
  const { server, token, name, labels, dataPath } = options;
  const keyPath = join(dataPath, "enrolling-key.pem");
  const { privateKeyPem, publicKeySpki } = await enrolmentKey(keyPath);
  const request = buildRequest({ token, greeted, name, labels, publicKeySpki }, { privateKeyPem });
  const shown = parsed(enrolmentAnswerSchema.safeParse(await api.call("POST", request)), server);
  const answer = verifyAnswer(shown, { greeted, request }, { clock });
  const identity: Identity = {
    cluster: answer.cluster,
    agentId: answer.agentId,
    name: answer.name,
    labels,
    agentsCa: pemsOf(answer.agentsCa),
    nodesCa: pemsOf(answer.nodesCa),
    seeds: seedsOf(answer.nodes.flatMap((node) => node.addresses)),
    key: privateKeyPem,
    certificate: answer.certificate,
  };
  await storeIdentity(dataPath, identity);
  await rm(keyPath, { force: true });
  return { identity, list: { version: answer.nodesVersion, want: 0, nodes: answer.nodes } };
}

/** Kept on disk until the answer is stored: the server gives the same key the same certificate when a reply was lost. */
async function enrolmentKey(path: string): Promise<{ readonly privateKeyPem: string; readonly publicKeySpki: Buffer }> {
  const earlier = await readFile(path, "utf8").catch((cause: unknown) => {
    if (errnoOf(cause) === "ENOENT") return undefined;
    throw cause;
  });
  if (earlier !== undefined) {
    const publicKeySpki = createPublicKey(createPrivateKey(earlier)).export({ type: "spki", format: "der" });
    return { privateKeyPem: earlier, publicKeySpki };
  }
  const pair = generateKeyPair();
  await replaceFile(path, pair.privateKeyPem);
  return pair;
}

function pemsOf(bundle: string): string[] {
  return readBundle(bundle).map((certificate) => certificate.toString());
}

function parsed<T>(result: { success: true; data: T } | { success: false; error: Error }, server: string): T {
  if (result.success) return result.data;
  const mend = "Check that the URL names a Holdfast server's API, not its agent listener or another program.";
  throw new AppError("enrolment.untrusted", `${server} answered something that is no enrolment message`, {
    mend,
    cause: result.error,
  });
}
