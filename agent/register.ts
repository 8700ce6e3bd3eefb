// Enrols this machine: greeting verified under the token's pin, request without the secret, answer verified, identity
// stored; then dials every advertised node address and says of each whether it can be reached.
// Invariant: until the pin is verified nothing that depends on the token's secret leaves this machine; a repetition
// keeps journal and identity.
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { buildRequest, verifyAnswer, verifyGreeting } from "../certs/enrolment-proof.ts";
import { anyNodeName, nodeName } from "../certs/profile.ts";
import { generateKeyPair } from "../certs/public-key.ts";
import { createPrivateKey, createPublicKey } from "node:crypto";
import { readBundle } from "../certs/bundle.ts";
import type { Clock } from "../shared/clock.ts";
import { systemClock } from "../shared/clock.ts";
import { decodeToken } from "../shared/enrolment-token.ts";
import type { EnrolmentToken } from "../shared/enrolment-token.ts";
import type { EnrolmentAnswer } from "../shared/enrolment.ts";
import { enrolmentAnswerSchema, enrolmentGreetingSchema } from "../shared/enrolment.ts";
import { AppError, describeError, errnoOf, isErrorCode } from "../shared/errors.ts";
import type { Labels } from "../shared/task.ts";
import type { ListedNode, NodeList } from "../shared/wire/nodes.ts";
import type { Dial } from "./dial.ts";
import { dial } from "./dial.ts";
import { replaceFile } from "./durable-file.ts";
import type { Identity } from "./identity.ts";
import { loadIdentity, storeIdentity } from "./identity.ts";
import { loadNodeList, newerList, storeNodeList } from "./node-addresses.ts";
import { probe } from "./probe.ts";

export interface RegisterOptions {
  /** Base URL of any node's API or of the load balancer before them, such as `https://holdfast.example:8080`. */
  readonly server: string;
  readonly token: string;
  readonly name: string;
  readonly labels?: Labels;
  readonly dataPath: string;
  /** Milliseconds for each HTTP exchange. Default 15,000. */
  readonly timeoutMs?: number;
}

export interface RegisterDeps {
  readonly clock?: Clock;
  readonly dial?: Dial;
  readonly fetch?: typeof fetch;
}

export interface NodeRow {
  readonly name: string;
  readonly address: string;
  readonly ok: boolean;
  readonly reason: string;
  readonly mend: string;
  readonly roundTripMs: number | undefined;
}

export interface Registration {
  readonly agentId: Identity["agentId"];
  readonly name: string;
  readonly cluster: Identity["cluster"];
  /** `kept`: this data directory was registered with the cluster before; the token was not used. */
  readonly enrolment: "new" | "kept";
  readonly nodes: readonly NodeRow[];
}

/**
 * Throws AppError: `token.refused`, `enrolment.untrusted` (wrong pin or foreign server), `agent.name-taken`,
 * `cluster.unreachable`. Nodes that cannot be reached are rows, not errors.
 */
export async function registerAgent(options: RegisterOptions, deps: RegisterDeps = {}): Promise<Registration> {
  const clock = deps.clock ?? systemClock;
  const token = decodeToken(options.token);
  await mkdir(options.dataPath, { recursive: true, mode: 0o700 });
  const api = new EnrolmentApi({
    server: options.server,
    timeoutMs: options.timeoutMs ?? 15_000,
    fetch: deps.fetch ?? fetch,
  });
  const greeting = parsed(enrolmentGreetingSchema.safeParse(await api.call("GET")), options.server);
  const greeted = verifyGreeting(greeting, token, { clock });
  const known = await loadIdentity(options.dataPath);
  if (known !== undefined && known.cluster !== greeted.cluster) {
    const mend = "Give another --data-dir, or remove this one if the old cluster is gone.";
    throw new AppError(
      "config.invalid",
      `${options.dataPath} belongs to cluster ${known.cluster}, the token to ${greeted.cluster}`,
      { mend },
    );
  }
  const listPath = join(options.dataPath, "nodes.json");
  let identity = known;
  let list = await loadNodeList(listPath);
  if (identity === undefined) {
    const answer = await enrol({ options, token, api, greeted, clock });
    identity = answer.identity;
    list = newerList(list, answer.list);
    await storeNodeList(listPath, list);
  }
  const nodes = await dialAll(identity, list, { dial: deps.dial ?? dial, clock });
  const { agentId, name, cluster } = identity;
  return { agentId, name, cluster, enrolment: known === undefined ? "new" : "kept", nodes };
}

async function enrol(given: {
  readonly options: RegisterOptions;
  readonly token: EnrolmentToken;
  readonly api: EnrolmentApi;
  readonly greeted: ReturnType<typeof verifyGreeting>;
  readonly clock: Clock;
}): Promise<{ readonly identity: Identity; readonly list: NodeList }> {
  const { options, token, api, greeted, clock } = given;
  const keyPath = join(options.dataPath, "enrolling-key.pem");
  const { privateKeyPem, publicKeySpki } = await enrolmentKey(keyPath);
  const labels = options.labels ?? {};
  const request = buildRequest({ token, greeted, name: options.name, labels, publicKeySpki }, { privateKeyPem });
  const shown = parsed(enrolmentAnswerSchema.safeParse(await api.call("POST", request)), options.server);
  const answer = verifyAnswer(shown, { greeted, request }, { clock });
  const identity: Identity = {
    cluster: answer.cluster,
    agentId: answer.agentId,
    name: answer.name,
    labels,
    agentsCa: pemsOf(answer.agentsCa),
    nodesCa: pemsOf(answer.nodesCa),
    seeds: seedsOf(answer),
    key: privateKeyPem,
    certificate: answer.certificate,
  };
  await storeIdentity(options.dataPath, identity);
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

async function dialAll(
  identity: Identity,
  list: NodeList,
  deps: { readonly dial: Dial; readonly clock: Clock },
): Promise<NodeRow[]> {
  const targets: { readonly name: string; readonly address: string; readonly node: ListedNode["id"] | undefined }[] =
    list.nodes.flatMap((node) => node.addresses.map((address) => ({ name: node.name, address, node: node.id })));
  if (targets.length === 0)
    targets.push(...identity.seeds.map((address) => ({ name: "seed", address, node: undefined })));
  return Promise.all(
    targets.map(async ({ name, address, node }): Promise<NodeRow> => {
      const servername = node === undefined ? anyNodeName(identity.cluster) : nodeName(identity.cluster, node);
      const tls = { key: identity.key, cert: identity.certificate, nodesCas: identity.nodesCa, servername };
      const result = await probe({ address, identity: tls }, deps);
      if (result.ok)
        return { name, address, ok: true, reason: "", mend: "", roundTripMs: Math.round(result.roundTripMs * 10) / 10 };
      const { error } = result;
      const mend =
        error.code === "cluster.unreachable" || error.code === "operation.timed-out"
          ? `Open outbound TCP from this machine to ${address}, or let the node advertise an address this machine reaches.`
          : error.mend;
      return { name, address, ok: false, reason: error.message, mend, roundTripMs: undefined };
    }),
  );
}

function pemsOf(bundle: string): string[] {
  return readBundle(bundle).map((certificate) => certificate.toString());
}

function seedsOf(answer: EnrolmentAnswer): string[] {
  return [...new Set(answer.nodes.flatMap((node) => node.addresses))].slice(0, 256);
}

function parsed<T>(result: { success: true; data: T } | { success: false; error: Error }, server: string): T {
  if (result.success) return result.data;
  const mend = "Check that the URL names a Holdfast server's API, not its agent listener or another program.";
  throw new AppError("enrolment.untrusted", `${server} answered something that is no enrolment message`, {
    mend,
    cause: result.error,
  });
}

class EnrolmentApi {
  readonly #url: string;
  readonly #timeoutMs: number;
  readonly #fetch: typeof fetch;

  constructor(options: { readonly server: string; readonly timeoutMs: number; readonly fetch: typeof fetch }) {
    if (!URL.canParse("/api/v1/enrolment", options.server))
      throw new AppError("config.invalid", `--server: ${options.server} is no URL`);
    this.#url = new URL("/api/v1/enrolment", options.server).href;
    this.#timeoutMs = options.timeoutMs;
    this.#fetch = options.fetch;
  }

  async call(method: "GET" | "POST", body?: object): Promise<unknown> {
    const headers = {
      accept: "application/json",
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    };
    const signal = AbortSignal.timeout(this.#timeoutMs);
    let response: Response;
    try {
      response = await this.#fetch(this.#url, {
        method,
        headers,
        signal,
        redirect: "error",
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch (cause) {
      const inner = cause instanceof Error && cause.cause !== undefined ? cause.cause : cause;
      throw new AppError("cluster.unreachable", `${this.#url}: ${describeError(inner)}`, { cause });
    }
    const text = await response.text();
    const value = jsonOf(text);
    if (response.ok) return value;
    throw problemOf(value, `${this.#url} answered ${response.status}`);
  }
}

function jsonOf(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return value;
  } catch {
    return undefined;
  }
}

/** The server's own words, when it sent some; before the pin is verified they are shown, never acted on. */
function problemOf(value: unknown, fallback: string): AppError {
  if (typeof value !== "object" || value === null || !("code" in value) || !("message" in value))
    return new AppError("cluster.unreachable", fallback);
  const { code, message } = value;
  const mend = "mend" in value && typeof value.mend === "string" ? value.mend : undefined;
  if (typeof code !== "string" || typeof message !== "string" || !isErrorCode(code))
    return new AppError("cluster.unreachable", fallback);
  return new AppError(code, message, mend === undefined ? {} : { mend });
}
