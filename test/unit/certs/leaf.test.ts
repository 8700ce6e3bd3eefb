// What the CAs and leaves of a cluster contain, as OpenSSL reads them, and which of them vouch for whom.
import { X509Certificate, generateKeyPairSync, randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createAuthority } from "../../../certs/authority.ts";
import { buildCertificate } from "../../../certs/builder.ts";
import { issueAgentLeaf, issueNodeLeaf } from "../../../certs/leaf.ts";
import { oids } from "../../../certs/profile.ts";
import { generateKeyPair, keyIdOf, readPublicKey } from "../../../certs/public-key.ts";
import { selfCheck } from "../../../certs/self-check.ts";
import { subjectOf } from "../../../certs/subject.ts";
import { issuerOf, pinOf, readTrustAnchor } from "../../../certs/trust.ts";
import { sha256Hex } from "../../../shared/thumbprint.ts";
import { createTestAuthorities } from "../../harness/certs.ts";

const nowMs = Date.UTC(2026, 10, 23, 12, 0, 0, 750);
const clock = { wallMs: () => nowMs };
const random = { bytes: (count: number) => randomBytes(count) };
const cluster = createTestAuthorities({ clock });
const at = (wallMs: number) => ({ clock: { wallMs: () => wallMs } });

describe("a CA", () => {
  test.each([
    ["agents", oids.clientAuth],
    ["nodes", oids.serverAuth],
  ] as const)("of %s is self-signed, bound to its one purpose and valid for ten years", (kind, purpose) => {
    const certificate = new X509Certificate(cluster[kind].certificatePem);
    expect(certificate.verify(certificate.publicKey)).toBe(true);
    expect(certificate.checkIssued(certificate)).toBe(true);
    expect({ ca: certificate.ca, purposes: certificate.keyUsage }).toEqual({ ca: true, purposes: [purpose] });
    expect(certificate.subject).toContain(`CN=Holdfast ${kind} CA ${cluster.cluster}`);
    expect(certificate.validFromDate.getTime()).toBe(Math.floor((nowMs - 3_600_000) / 1_000) * 1_000);
    expect(certificate.validToDate.getUTCFullYear()).toBe(2036);
  });

  test("has a name of its own, so that two of one kind never stand for each other", () => {
    const other = createAuthority({ kind: "agents", cluster: cluster.cluster, clock, random });
    expect(new X509Certificate(other.certificatePem).subject).not.toBe(
      new X509Certificate(cluster.agents.certificatePem).subject,
    );
  });

  test("is pinned by SHA-256 over its DER", () => {
    const anchor = readTrustAnchor(cluster.nodes);
    expect(pinOf(anchor)).toBe(anchor.certificate.fingerprint256.replaceAll(":", "").toLowerCase());
  });

  test("is not read as one when it is a leaf, of the other kind or no certificate", () => {
    const wrong = [cluster.agentLeaf().certificatePem, cluster.nodes.certificatePem, "nonsense"];
    for (const certificatePem of wrong) {
      expect(() => readTrustAnchor({ kind: "agents", certificatePem })).toThrow(
        expect.objectContaining({ code: "certificate.invalid" }),
      );
    }
  });
});

describe("an agent's leaf", () => {
  test("names the agent in one URI, may only be a client, and starts an hour before its issue", () => {
    const leaf = cluster.agentLeaf({ lifetimeMs: 60_000 });
    const certificate = new X509Certificate(leaf.certificatePem);
    expect(certificate.subjectAltName).toBe(`URI:holdfast://${cluster.cluster}/agent/${leaf.agentId}`);
    expect({ ca: certificate.ca, purposes: certificate.keyUsage }).toEqual({ ca: false, purposes: [oids.clientAuth] });
    const second = Math.floor(nowMs / 1_000) * 1_000;
    expect([leaf.notBeforeMs, leaf.notAfterMs]).toEqual([second - 3_600_000, second + 60_000]);
    expect([certificate.validFromDate.getTime(), certificate.validToDate.getTime()]).toEqual([
      leaf.notBeforeMs,
      leaf.notAfterMs,
    ]);
    expect(leaf.thumbprint).toBe(sha256Hex(certificate.raw));
    expect(certificate.raw.byteLength).toBeLessThan(1_024);
    expect(subjectOf(certificate)).toEqual({ kind: "agent", cluster: cluster.cluster, id: leaf.agentId });
  });

  test("lives no longer than its CA, and at least a second", () => {
    const ca = new X509Certificate(cluster.agents.certificatePem);
    expect(cluster.agentLeaf({ lifetimeMs: Number.MAX_SAFE_INTEGER }).notAfterMs).toBe(ca.validToDate.getTime());
    expect(cluster.agentLeaf({ lifetimeMs: 1 }).notAfterMs - Math.floor(nowMs / 1_000) * 1_000).toBe(1_000);
  });

  test("is never issued by the nodes CA, by a CA of another cluster, or for a key that is not P-256", () => {
    const { agentId, publicKeySpki } = cluster.agentLeaf();
    const options = { authority: cluster.agents, cluster: cluster.cluster, agentId, publicKeySpki, lifetimeMs: 60_000 };
    const other = createTestAuthorities({ clock });
    expect(() => issueAgentLeaf({ ...options, authority: cluster.nodes }, { clock, random })).toThrow(
      "expected the agents CA",
    );
    expect(() => issueAgentLeaf({ ...options, authority: other.agents }, { clock, random })).toThrow(
      /CA is not of cluster/,
    );
    const rsa = generateKeyPairSync("rsa", { modulusLength: 1_024 }).publicKey.export({ type: "spki", format: "der" });
    const p384 = generateKeyPairSync("ec", { namedCurve: "secp384r1" }).publicKey.export({
      type: "spki",
      format: "der",
    });
    const ed25519 = generateKeyPairSync("ed25519").publicKey.export({ type: "spki", format: "der" });
    const trailing = Buffer.concat([publicKeySpki, Buffer.from([0])]);
    const compressed = Buffer.concat([
      Buffer.from("3039301306072a8648ce3d020106082a8648ce3d030107032200", "hex"),
      Buffer.from([0x02 | ((publicKeySpki.at(-1) ?? 0) & 1)]),
      publicKeySpki.subarray(27, 59),
    ]);
    for (const wrong of [rsa, p384, ed25519, trailing, compressed, Buffer.alloc(0), randomBytes(91)]) {
      const issue = () => issueAgentLeaf({ ...options, publicKeySpki: wrong }, { clock, random });
      expect(issue).toThrow(expect.objectContaining({ code: "enrolment.proof-invalid" }));
    }
  });

  test("carries any 128-bit serial as it was drawn, also small and negative-looking ones", () => {
    const { agentId, publicKeySpki } = cluster.agentLeaf();
    const options = { authority: cluster.agents, cluster: cluster.cluster, agentId, publicKeySpki, lifetimeMs: 60_000 };
    const edges = [[0x00, 0x80], [0x80], [0xff, 0xff], [0x00, 0x00, 0x01], [0x7f]].map((start) =>
      Uint8Array.from({ length: 16 }, (_, index) => start[index] ?? 0),
    );
    const serials = fc.oneof(fc.constantFrom(...edges), fc.uint8Array({ minLength: 16, maxLength: 16 }));
    fc.assert(
      fc.property(serials, (serial) => {
        fc.pre(serial.some((byte) => byte !== 0));
        const leaf = issueAgentLeaf(options, { clock, random: { bytes: () => serial } });
        const seen = new X509Certificate(leaf.certificatePem).serialNumber.toLowerCase().padStart(32, "0");
        expect([leaf.serial, seen]).toEqual([Buffer.from(serial).toString("hex"), Buffer.from(serial).toString("hex")]);
      }),
      { numRuns: 50 },
    );
  });
});

describe("a node's leaf", () => {
  test("names the node in a URI and by the names that agents call, may only be a server", () => {
    const leaf = cluster.nodeLeaf({ publicNames: ["a.example.com"] });
    const certificate = new X509Certificate(leaf.certificatePem);
    const names = [
      `node.${cluster.cluster}.internal`,
      `${leaf.nodeId}.node.${cluster.cluster}.internal`,
      "a.example.com",
    ];
    expect(certificate.subjectAltName).toBe(
      [`URI:holdfast://${cluster.cluster}/node/${leaf.nodeId}`, ...names.map((name) => `DNS:${name}`)].join(", "),
    );
    expect(certificate.keyUsage).toEqual([oids.serverAuth]);
    for (const name of names) expect(certificate.checkHost(name)).toBe(name);
    expect(subjectOf(certificate)).toEqual({
      kind: "node",
      cluster: cluster.cluster,
      id: leaf.nodeId,
      dnsNames: names,
    });
  });

  test.each(["UPPER.example", "a b", "*.example.com", "a\0b", "-a.example", "a,DNS:evil", ""])(
    "takes no public name like %j",
    (name) => {
      expect(() => cluster.nodeLeaf({ publicNames: [name] })).toThrow(
        expect.objectContaining({ code: "config.invalid" }),
      );
    },
  );
});

describe("the issuer check", () => {
  const anchors = [readTrustAnchor(cluster.agents)];

  test("finds the CA that issued a leaf, among current and next", () => {
    const next = createTestAuthorities({ cluster: cluster.cluster, clock });
    const both = [...anchors, readTrustAnchor(next.agents)];
    for (const [of, index] of [
      [cluster, 0],
      [next, 1],
    ] as const) {
      expect(issuerOf(new X509Certificate(of.agentLeaf().certificatePem), both, at(nowMs))).toBe(both[index]);
    }
  });

  test("refuses leaves of the other CA, of a retired one and the CA itself", () => {
    const retired = createTestAuthorities({ cluster: cluster.cluster, clock });
    const strangers = [cluster.nodeLeaf(), retired.agentLeaf(), cluster.agents, cluster.nodes];
    for (const { certificatePem } of strangers)
      expect(issuerOf(new X509Certificate(certificatePem), anchors, at(nowMs))).toBe(undefined);
  });

  test("refuses a leaf before its start and after its end, at any age of the CA", () => {
    const leaf = cluster.agentLeaf({ lifetimeMs: 60_000 });
    const certificate = new X509Certificate(leaf.certificatePem);
    const valid = [leaf.notBeforeMs, nowMs, leaf.notAfterMs];
    const invalid = [leaf.notBeforeMs - 1_000, leaf.notAfterMs + 1];
    expect(valid.map((wallMs) => issuerOf(certificate, anchors, at(wallMs)) !== undefined)).toEqual([true, true, true]);
    expect(invalid.map((wallMs) => issuerOf(certificate, anchors, at(wallMs)) !== undefined)).toEqual([false, false]);
  });

  test("refuses a leaf whose signature was changed", () => {
    const der = Buffer.from(new X509Certificate(cluster.agentLeaf().certificatePem).raw);
    der.writeUInt8(der.readUInt8(der.byteLength - 1) ^ 1, der.byteLength - 1);
    expect(issuerOf(new X509Certificate(der), anchors, at(nowMs))).toBe(undefined);
  });
});

describe("the self-check", () => {
  const { publicKeySpki } = generateKeyPair();
  const publicKey = readPublicKey(publicKeySpki);
  const { publicKeySpki: issuerSpki, privateKeyPem } = generateKeyPair();
  const issuerKey = readPublicKey(issuerSpki);
  const plan = {
    serial: randomBytes(16),
    issuer: { commonName: "CA", serialNumber: "1" },
    subject: { commonName: "leaf" },
    notBeforeMs: nowMs,
    notAfterMs: nowMs + 60_000,
    publicKey,
    issuerKeyId: keyIdOf(issuerKey),
    role: "leaf",
    purpose: oids.clientAuth,
    altNames: [{ uri: "holdfast://x/agent/y" }],
  } as const;

  test("accepts what was built to plan", () => {
    expect(selfCheck(buildCertificate(plan, privateKeyPem), plan, issuerKey).subject).toBe("CN=leaf");
  });

  test.each([
    ["serial number", { serial: randomBytes(16) }],
    ["issuer", { issuer: { commonName: "Other" } }],
    ["subject", { subject: { commonName: "other" } }],
    ["start", { notBeforeMs: nowMs - 1_000 }],
    ["end", { notAfterMs: nowMs + 61_000 }],
    ["public key", { publicKey: issuerKey }],
    ["CA flag", { role: "authority" as const }],
    ["purposes", { purpose: oids.serverAuth }],
    ["alternative names", { altNames: [{ uri: "holdfast://x/agent/z" }] }],
    ["issuer's key id", { issuerKeyId: keyIdOf(publicKey) }],
  ])("finds a wrong %s", (field, change) => {
    const built = buildCertificate({ ...plan, ...change }, privateKeyPem);
    expect(() => selfCheck(built, plan, issuerKey)).toThrow(field);
  });

  test("finds a signature by another key", () => {
    expect(() => selfCheck(buildCertificate(plan, generateKeyPair().privateKeyPem), plan, issuerKey)).toThrow(
      "signature",
    );
  });
});

describe("who a certificate speaks for", () => {
  const { publicKeySpki } = generateKeyPair();
  const build = (
    altNames: readonly ({ readonly uri: string } | { readonly dns: string })[],
    purpose: string = oids.clientAuth,
  ) => {
    const plan = {
      serial: randomBytes(16),
      issuer: { commonName: "x" },
      subject: { commonName: "x" },
      notBeforeMs: nowMs,
      notAfterMs: nowMs + 60_000,
    };
    const publicKey = readPublicKey(publicKeySpki);
    const der = buildCertificate(
      { ...plan, publicKey, issuerKeyId: keyIdOf(publicKey), role: "leaf", purpose, altNames },
      generateKeyPair().privateKeyPem,
    );
    return new X509Certificate(der);
  };
  const { agentId } = cluster.agentLeaf();
  const uri = `holdfast://${cluster.cluster}/agent/${agentId}`;

  test("is nobody when names are missing, doubled, dressed up or do not fit the purpose", () => {
    const wrong = [
      build([]),
      build([{ uri }, { uri }]),
      build([{ uri }, { dns: "a.example" }]),
      build([{ uri: `${uri}, DNS:a.example` }]),
      build([{ uri: uri.toUpperCase() }]),
      build([{ uri: `${uri}/more` }]),
      build([{ uri: uri.replace("agent", "node") }], oids.serverAuth),
      build([{ uri }], oids.serverAuth),
    ];
    expect(wrong.map(subjectOf)).toEqual(wrong.map(() => undefined));
    expect(subjectOf(build([{ uri }]))).toMatchObject({ kind: "agent", id: agentId });
  });

  test("a node's leaf is never issued by the agents CA", () => {
    const { nodeId } = cluster.nodeLeaf();
    const options = { authority: cluster.agents, cluster: cluster.cluster, nodeId, publicKeySpki, lifetimeMs: 60_000 };
    expect(() => issueNodeLeaf(options, { clock, random })).toThrow("expected the nodes CA");
  });
});
