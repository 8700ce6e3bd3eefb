// Enrolment end to end without HTTP: token, greeting, request, answer; and every way in which a stranger in the middle
// or a changed byte is found out.
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { pinOf, readTrustAnchor } from "../../certs/trust.ts";
import {
  buildAnswer,
  buildGreeting,
  buildRequest,
  verifyAnswer,
  verifyGreeting,
  verifyRequest,
} from "../../certs/enrolment-proof.ts";
import { issueAgentLeaf } from "../../certs/leaf.ts";
import { generateKeyPair } from "../../certs/public-key.ts";
import { enrolmentAnswerSchema, enrolmentGreetingSchema, enrolmentRequestSchema } from "../../shared/enrolment.ts";
import { decodeToken, encodeToken, tokenSecretDigest } from "../../shared/enrolment-token.ts";
import { AppError } from "../../shared/errors.ts";
import { tokenIdSchema } from "../../shared/ids.ts";
import { transcriptOf } from "../../shared/transcript.ts";
import type { TranscriptField } from "../../shared/transcript.ts";
import { createNonces } from "../../server/enrolment/nonce.ts";
import { createTestAuthorities } from "../harness/certs.ts";
import type { TestAuthorities } from "../harness/certs.ts";

const nowMs = Date.UTC(2026, 10, 23, 12);
const clock = { wallMs: () => nowMs };
const random = { bytes: (count: number) => randomBytes(count) };
const tokenId = tokenIdSchema.parse("019aa000-0000-7000-8000-00000000000a");
const untrusted = expect.objectContaining({ code: "enrolment.untrusted" });
const unproven = expect.objectContaining({ code: "enrolment.proof-invalid" });

const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const tokens = fc.record({
  tokenId: fc.uuid().map((text) => tokenIdSchema.parse(text)),
  secret: bytesOf(32),
  nodesCaPin: bytesOf(32).map((bytes) => Buffer.from(bytes).toString("hex")),
});
const listDigests = bytesOf(16).map((bytes) => Buffer.from(bytes).toString("hex"));

describe("the token", () => {
  test("comes back from its text as it was", () => {
    fc.assert(
      fc.property(tokens, (token) => {
        expect(decodeToken(encodeToken(token))).toEqual(token);
      }),
    );
  });

  test("carries the digest of the executables behind a point, where a shell takes it off", () => {
    fc.assert(
      fc.property(tokens, listDigests, (token, listDigest) => {
        const text = encodeToken({ ...token, listDigest });
        expect(text).toBe(`${encodeToken(token)}.${listDigest}`);
        expect(decodeToken(text)).toEqual({ ...token, listDigest });
        expect(() => decodeToken(text.slice(0, -1))).toThrow(expect.objectContaining({ code: "token.refused" }));
        expect(() => decodeToken(`${text}0`)).toThrow(expect.objectContaining({ code: "token.refused" }));
      }),
    );
  });

  test("is one word that begins with hft_ and may be pasted with blanks around it", () => {
    fc.assert(
      fc.property(tokens, (token) => {
        const text = encodeToken(token);
        expect(text).toMatch(/^hft_[A-Za-z0-9_-]{107}$/);
        expect(decodeToken(`  ${text}\n`)).toEqual(token);
      }),
    );
  });

  test("is refused when cut, extended, mistyped or written in another way, and never repeated in the error", () => {
    const edits = fc.oneof(
      fc.nat(110).map((length) => (text: string) => text.slice(0, length)),
      fc
        .string({ minLength: 1 })
        .filter((tail) => tail.trim() !== "")
        .map((tail) => (text: string) => text + tail),
      fc.constantFrom("+", "/", "=", " ", "ü").map((odd) => (text: string) => text.slice(0, 20) + odd + text.slice(21)),
      fc.constant((text: string) => text.toUpperCase()),
      fc.constant((text: string) => text.slice(4)),
    );
    fc.assert(
      fc.property(tokens, edits, (token, edit) => {
        const text = encodeToken(token);
        let refusal: unknown;
        try {
          decodeToken(edit(text));
        } catch (cause) {
          refusal = cause;
        }
        expect(refusal).toBeInstanceOf(AppError);
        expect(refusal).toMatchObject({ code: "token.refused" });
        const said = JSON.stringify(refusal) + (refusal instanceof AppError ? refusal.message + refusal.mend : "");
        expect(said).not.toContain(text.slice(30, 46));
      }),
    );
  });
});

describe("transcripts", () => {
  const { field } = fc.letrec<{ field: TranscriptField }>((tie) => ({
    field: fc.oneof(
      { maxDepth: 3 },
      fc.string({ unit: "grapheme" }),
      fc.nat(),
      fc.uint8Array({ maxLength: 8 }),
      fc.array(tie("field"), { maxLength: 3 }),
    ),
  }));
  const fields = fc.array(field, { maxLength: 4 });
  const plain = (value: TranscriptField): unknown =>
    value instanceof Uint8Array ? { bytes: [...value] } : Array.isArray(value) ? value.map(plain) : value;

  test("are equal exactly when domain and fields are", () => {
    fc.assert(
      fc.property(fc.string(), fields, fc.string(), fields, (domain, left, otherDomain, right) => {
        const areSame = domain === otherDomain && JSON.stringify(plain(left)) === JSON.stringify(plain(right));
        expect(transcriptOf(domain, left).equals(transcriptOf(otherDomain, right))).toBe(areSame);
        expect(transcriptOf(domain, left).equals(transcriptOf(domain, structuredClone(left)))).toBe(true);
      }),
    );
  });

  test("keep fields apart however their text is cut", () => {
    fc.assert(
      fc.property(fc.string(), fc.nat(20), fc.nat(20), (text, first, second) => {
        const cut = (at: number): string[] => [text.slice(0, at), text.slice(at)];
        fc.pre(cut(first).join("|") !== cut(second).join("|") && text.isWellFormed());
        fc.pre([...cut(first), ...cut(second)].every((part) => part.isWellFormed()));
        expect(transcriptOf("d", cut(first)).equals(transcriptOf("d", cut(second)))).toBe(false);
      }),
    );
  });

  test("take no text that UTF-8 cannot carry and no number that is not a count", () => {
    for (const odd of ["\ud800", -1, 0.5, Number.NaN, 2 ** 53])
      expect(() => transcriptOf("d", [odd])).toThrow(RangeError);
  });
});

describe("the nonce", () => {
  const key = randomBytes(32);
  const nonces = (wallMs: number, nonceKey: Uint8Array = key) =>
    createNonces({ clock: { wallMs: () => wallMs }, random }, { key: nonceKey });

  test("issued by one node is good on another for five minutes, also when its clock is behind", () => {
    const nonce = nonces(nowMs).issue();
    for (const wallMs of [nowMs, nowMs + 300_000, nowMs - 300_000])
      expect(() => nonces(wallMs).check(nonce)).not.toThrow();
    for (const wallMs of [nowMs + 300_001, nowMs - 300_001])
      expect(() => nonces(wallMs).check(nonce)).toThrow(unproven);
  });

  test("of another key, changed, cut or empty is refused", () => {
    const nonce = nonces(nowMs).issue();
    expect(() => nonces(nowMs, randomBytes(32)).check(nonce)).toThrow(unproven);
    fc.assert(
      fc.property(fc.nat(55), fc.integer({ min: 1, max: 255 }), (index, change) => {
        const bytes = Buffer.from(nonce, "base64url");
        bytes.writeUInt8(bytes.readUInt8(index) ^ change, index);
        expect(() => nonces(nowMs).check(bytes.toString("base64url"))).toThrow(unproven);
      }),
    );
    for (const odd of ["", "AAAA", nonce.slice(4), nonce + nonce])
      expect(() => nonces(nowMs).check(odd)).toThrow(unproven);
  });

  test("is another one each time", () => {
    const issuer = nonces(nowMs);
    expect(issuer.issue()).not.toBe(issuer.issue());
  });
});

/** Both sides up to the point a test is about. */
function enrol(server: TestAuthorities = createTestAuthorities({ clock })) {
  const node = server.nodeLeaf();
  const nodesCaPin = pinOf(readTrustAnchor(server.nodes));
  const token = { tokenId, secret: new Uint8Array(randomBytes(32)), nodesCaPin };
  const nonce = createNonces({ clock, random }, { key: randomBytes(32) }).issue();
  const greeting = buildGreeting({ cluster: server.cluster, nodesCa: server.nodes.certificatePem, nonce }, node);
  const keys = generateKeyPair();
  const requestOf = () =>
    buildRequest(
      {
        token,
        greeted: verifyGreeting(greeting, token, { clock }),
        name: "web-1",
        labels: { role: "web", env: "prod" },
        publicKeySpki: keys.publicKeySpki,
      },
      keys,
    );
  const expected = { cluster: server.cluster, nodesCaPin, secretDigest: tokenSecretDigest(token.secret) };
  const answerTo = (request: ReturnType<typeof requestOf>) => {
    const { agentId } = server.agentLeaf();
    const leaf = issueAgentLeaf(
      {
        authority: server.agents,
        cluster: server.cluster,
        agentId,
        publicKeySpki: keys.publicKeySpki,
        lifetimeMs: 60_000,
      },
      { clock, random },
    );
    return buildAnswer(
      {
        agentId,
        name: "web-1",
        cluster: server.cluster,
        certificate: leaf.certificatePem,
        agentsCa: server.agents.certificatePem,
        nodesCa: server.nodes.certificatePem,
        nodes: [{ id: node.nodeId, name: "a", addresses: ["a.example:10943"] }],
        nodesVersion: 2 ** 32 + 1,
      },
      request,
      node,
    );
  };
  return { server, node, token, nonce, greeting, keys, requestOf, expected, answerTo };
}

describe("the greeting", () => {
  test("of the pinned cluster is trusted and keeps to its schema", () => {
    const { greeting, token, server, node, nonce } = enrol();
    expect(enrolmentGreetingSchema.parse(greeting)).toEqual(greeting);
    expect(verifyGreeting(greeting, token, { clock })).toEqual({
      cluster: server.cluster,
      nodesCaPin: token.nodesCaPin,
      nodeId: node.nodeId,
      nonce,
    });
  });

  test("holding two CAs during a rotation is trusted by the one the token pins", () => {
    const { server, token, node, nonce } = enrol();
    const next = createTestAuthorities({ cluster: server.cluster, clock });
    const nodesCa = next.nodes.certificatePem + server.nodes.certificatePem;
    const greeting = buildGreeting({ cluster: server.cluster, nodesCa, nonce }, node);
    expect(verifyGreeting(greeting, token, { clock }).nodeId).toBe(node.nodeId);
  });

  test("of a server in the middle is refused, whatever it shows", () => {
    const { server, token, greeting, nonce } = enrol();
    const rogue = createTestAuthorities({ cluster: server.cluster, clock });
    const rogueNode = rogue.nodeLeaf();
    const own = buildGreeting({ cluster: server.cluster, nodesCa: rogue.nodes.certificatePem, nonce }, rogueNode);
    const agent = server.agentLeaf();
    const forged = [
      own,
      { ...own, nodesCa: greeting.nodesCa },
      { ...own, nodesCa: rogue.nodes.certificatePem + server.nodes.certificatePem },
      { ...greeting, signature: own.signature },
      { ...greeting, chain: agent.certificatePem },
      { ...greeting, chain: server.nodes.certificatePem },
      { ...greeting, chain: server.nodeLeaf().certificatePem },
      { ...greeting, nonce: own.nonce.replace(/^./, (first) => (first === "A" ? "B" : "A")) },
      { ...greeting, cluster: createTestAuthorities({ clock }).cluster },
      { ...greeting, nodesCa: "nonsense" },
      { ...greeting, chain: "" },
    ];
    for (const shown of forged) expect(() => verifyGreeting(shown, token, { clock })).toThrow(untrusted);
  });

  test("with an expired certificate is refused in words that name this machine's clock", () => {
    const { greeting, token } = enrol();
    const late = { clock: { wallMs: () => nowMs + 86_400_000 } };
    expect(() => verifyGreeting(greeting, token, late)).toThrow(/this machine's clock says 2026-11-24T12:00:00.000Z/);
  });
});

describe("the request", () => {
  test("proves key and token to the node, keeps to its schema, and holds no part of the secret", () => {
    const { requestOf, expected, keys, token } = enrol();
    const request = requestOf();
    expect(enrolmentRequestSchema.parse(request)).toEqual(request);
    expect(verifyRequest(request, expected).publicKeySpki).toEqual(keys.publicKeySpki);
    const sent = JSON.stringify(request);
    for (const encoding of ["hex", "base64", "base64url"] as const) {
      expect(sent).not.toContain(Buffer.from(token.secret).toString(encoding).slice(0, 12));
      expect(sent).not.toContain(tokenSecretDigest(token.secret).toString(encoding).slice(0, 12));
    }
  });

  test("is refused when any field was changed on its way", () => {
    const { requestOf, expected } = enrol();
    const request = requestOf();
    const other = enrol().requestOf();
    const changed = [
      { ...request, tokenId: tokenIdSchema.parse("019aa000-0000-7000-8000-00000000000b") },
      { ...request, name: "web-2" },
      { ...request, labels: { role: "web" } },
      { ...request, labels: { role: "prod", env: "web" } },
      { ...request, spki: other.spki },
      { ...request, nonce: other.nonce },
      { ...request, proof: other.proof },
      { ...request, mac: other.mac },
      { ...request, mac: "AAAA" },
    ];
    for (const sent of changed) expect(() => verifyRequest(sent, expected)).toThrow(unproven);
  });

  test("is refused by another cluster, under another secret, and without the private key", () => {
    const { requestOf, expected, token, greeting } = enrol();
    const request = requestOf();
    const elsewhere = createTestAuthorities({ clock });
    expect(() => verifyRequest(request, { ...expected, cluster: elsewhere.cluster })).toThrow(unproven);
    expect(() => verifyRequest(request, { ...expected, nodesCaPin: pinOf(readTrustAnchor(elsewhere.nodes)) })).toThrow(
      unproven,
    );
    expect(() => verifyRequest(request, { ...expected, secretDigest: randomBytes(32) })).toThrow(unproven);
    const victim = generateKeyPair();
    const claimed = buildRequest(
      {
        token,
        greeted: verifyGreeting(greeting, token, { clock }),
        name: "web-1",
        labels: {},
        publicKeySpki: victim.publicKeySpki,
      },
      generateKeyPair(),
    );
    expect(() => verifyRequest(claimed, expected)).toThrow(/not signed by the key/);
  });

  test("does not depend on the order in which labels are written", () => {
    const { requestOf, expected } = enrol();
    const request = requestOf();
    const reordered = { ...request, labels: Object.fromEntries(Object.entries(request.labels).toReversed()) };
    expect(() => verifyRequest(reordered, expected)).not.toThrow();
  });
});

describe("the answer", () => {
  test("to this request is accepted and keeps to its schema", () => {
    const { requestOf, answerTo, server, token } = enrol();
    const request = requestOf();
    const answer = answerTo(request);
    expect(enrolmentAnswerSchema.parse(answer)).toEqual(answer);
    expect(
      verifyAnswer(answer, { greeted: { cluster: server.cluster, nodesCaPin: token.nodesCaPin }, request }, { clock }),
    ).toBe(answer);
  });

  test("is refused when it answers another request, was changed, or comes from a stranger", () => {
    const { requestOf, answerTo, server, token } = enrol();
    const request = requestOf();
    const answer = answerTo(request);
    const rogue = createTestAuthorities({ cluster: server.cluster, clock });
    const forged = [
      answerTo(requestOf()),
      { ...answer, name: "other" },
      { ...answer, nodes: [] },
      { ...answer, nodes: answer.nodes.map((node) => ({ ...node, addresses: ["evil.example:10943"] })) },
      { ...answer, nodesVersion: answer.nodesVersion + 1 },
      { ...answer, agentsCa: rogue.agents.certificatePem },
      { ...answer, nodesCa: answer.nodesCa + rogue.nodes.certificatePem },
      { ...answer, certificate: server.agentLeaf().certificatePem },
      { ...answer, agentId: server.agentLeaf().agentId },
      { ...answer, cluster: createTestAuthorities({ clock }).cluster },
      { ...buildAnswer({ ...answer, nodesCa: rogue.nodes.certificatePem }, request, rogue.nodeLeaf()) },
    ];
    const expected = { greeted: { cluster: server.cluster, nodesCaPin: token.nodesCaPin }, request };
    for (const shown of forged) expect(() => verifyAnswer(shown, expected, { clock })).toThrow(untrusted);
  });

  test("with a certificate for another key or agent is found out even when a node signed it", () => {
    const { requestOf, answerTo, server, token, node } = enrol();
    const request = requestOf();
    const answer = answerTo(request);
    const expected = { greeted: { cluster: server.cluster, nodesCaPin: token.nodesCaPin }, request };
    const other = server.agentLeaf();
    for (const defect of [
      { certificate: other.certificatePem, agentId: other.agentId },
      { agentId: other.agentId },
      { certificate: node.certificatePem },
    ]) {
      const signed = buildAnswer({ ...answer, ...defect }, request, node);
      expect(() => verifyAnswer(signed, expected, { clock })).toThrow(
        expect.objectContaining({ code: "certificate.invalid" }),
      );
    }
  });
});
