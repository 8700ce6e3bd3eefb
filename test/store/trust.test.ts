// Tokens, certificates, agents, the cluster's trust and API keys: single use, positive list, revocation.
import { describe, expect, it } from "vitest";
import {
  agentIdSchema,
  apiKeyIdSchema,
  clusterIdSchema,
  newId,
  tokenIdSchema,
  type AgentId,
} from "../../shared/ids.ts";
import {
  countIssued,
  dropEndedCertificates,
  findCertificate,
  insertAgent,
  markCertificateUsed,
  replaceAgent,
  storeAgentCertificate,
} from "../../server/store/agent-certificates.ts";
import {
  agentNames,
  findAgent,
  listAgents,
  listTargets,
  namedTargets,
  readAdmission,
  revokeAgent,
} from "../../server/store/agents.ts";
import { pingDatabase } from "../../server/store/ping.ts";
import { readDistrusted } from "../../server/store/read-distrusted.ts";
import { createToken, listTokens, lockToken, readToken, revokeToken, useToken } from "../../server/store/tokens.ts";
import {
  createCluster,
  findApiKey,
  hasApiKeys,
  readAuthorities,
  readCluster,
  storeApiKey,
  storeAuthority,
} from "../../server/store/trust.ts";
import { first, ids, newBoot, useLab } from "./fixture.ts";

const lab = useLab();
const sql = () => lab.database.durable;
const by = { principal: "tester", address: "192.0.2.9" };

async function token(change: { readonly expiresMs?: number; readonly replaces?: string } = {}) {
  const id = newId(ids, tokenIdSchema);
  await createToken(sql(), {
    id,
    secretSha256: Buffer.alloc(32, 7),
    labels: { role: "web" },
    replaces: null,
    expiresMs: 60_000,
    ...by,
    ...change,
  });
  return id;
}

async function certificate(agent: AgentId, notAfterMs = 2_000_000_000_000) {
  const thumbprint = ids.next();
  await storeAgentCertificate(sql(), {
    thumbprint,
    agent,
    spkiSha256: `spki-${thumbprint}`,
    certificate: `pem-${thumbprint}`,
    notAfterMs,
  });
  return thumbprint;
}
const statusOf = async (thumbprint: string) => (await readAdmission(sql(), thumbprint))?.certificate;

describe("an enrolment token", () => {
  it("is created unused with its terms and an audit row that holds no secret", async () => {
    const id = await token({ replaces: "web-01" });
    expect(await readToken(sql(), id)).toMatchObject({
      id,
      state: "unused",
      labels: { role: "web" },
      replace: "web-01",
      createdBy: "tester",
      agent: null,
      usedAt: null,
    });
    const audit = await lab.sql(`select actor, address, action, detail::text from audit where target = $1`, [id]);
    expect(audit).toEqual([
      { actor: "tester", address: "192.0.2.9", action: "token-create", detail: `{"labels": {"role": "web"}}` },
    ]);
  });

  it("is used once: two exchanges at the same time see one unused token", async () => {
    const id = await token();
    const agents = [await lab.agent(), await lab.agent()];
    const seen = await Promise.all(
      agents.map((agent) =>
        lab.database.transaction(async (inside) => {
          const found = await lockToken(inside, id);
          if (found?.state === "unused") await useToken(inside, { id, spkiSha256: agent.id, agent: agent.id });
          return found?.state;
        }),
      ),
    );
    expect(new Set(seen)).toEqual(new Set(["unused", "used"]));
    const used = await lab.database.transaction((inside) => lockToken(inside, id));
    expect(used).toMatchObject({ state: "used", usedRecently: true });
    expect(agents.map((agent) => agent.id)).toContain(used?.agent);
    expect(used?.usedSpkiSha256).toBe(used?.agent);
  });

  it("is expired after its time and cannot be used then", async () => {
    const id = await token({ expiresMs: -1_000 });
    expect(await lab.database.transaction((inside) => lockToken(inside, id))).toMatchObject({ state: "expired" });
    expect(await readToken(sql(), id)).toMatchObject({ state: "expired" });
  });

  it("stops counting as recently used after ten minutes", async () => {
    const id = await token();
    await useToken(sql(), { id, spkiSha256: "a", agent: (await lab.agent()).id });
    await lab.sql(`update enrolment_token set used_at = used_at - interval '11 minutes' where id = $1`, [id]);
    expect(await lab.database.transaction((inside) => lockToken(inside, id))).toMatchObject({
      state: "used",
      usedRecently: false,
    });
  });

  it("can be revoked while unused, with an audit row, and not afterwards", async () => {
    const [unused, used] = [await token(), await token()];
    await useToken(sql(), { id: used, spkiSha256: "a", agent: (await lab.agent()).id });
    for (const id of [unused, used, unused]) await revokeToken(sql(), { id, ...by });
    expect([(await readToken(sql(), unused))?.state, (await readToken(sql(), used))?.state]).toEqual([
      "revoked",
      "used",
    ]);
    expect(
      await lab.sql(`select 1 from audit where action = 'token-revoke' and target = any($1)`, [[unused, used]]),
    ).toHaveLength(1);
    await useToken(sql(), { id: unused, spkiSha256: "b", agent: (await lab.agent()).id });
    expect((await readToken(sql(), unused))?.state).toBe("revoked");
  });

  it("is listed newest first, page by page", async () => {
    const made = [await token(), await token(), await token()].toReversed();
    const top = await listTokens(sql(), { limit: 2, before: null });
    expect(top.map(({ id }) => id)).toEqual(made.slice(0, 2));
    expect(first(await listTokens(sql(), { limit: 1, before: made[1] ?? null })).id).toBe(made[2]);
  });

  it("that was never made is not found", async () => {
    expect(await readToken(sql(), newId(ids, tokenIdSchema))).toBeUndefined();
  });
});

it("keeps what ended lately of an agent's certificates, forgets what ended long ago, and counts what was issued", async () => {
  const [mine, other] = [(await lab.agent()).id, (await lab.agent()).id];
  const daysAgo = (days: number): number => Date.now() - days * 86_400_000;
  const [ended, lately, valid] = [
    await certificate(mine, daysAgo(91)),
    await certificate(mine, daysAgo(89)),
    await certificate(mine),
  ];
  const others = await certificate(other, daysAgo(91));
  const before = await countIssued(sql(), mine, 3_600_000);
  await dropEndedCertificates(sql(), mine);
  const left = await Promise.all([ended, lately, valid, others].map(statusOf));
  expect(left.map((status) => status !== undefined)).toEqual([false, true, true, true]);
  expect(await countIssued(sql(), mine, 3_600_000)).toBe(before - 1);
  await lab.sql(`update agent_certificate set created_at = created_at - interval '1 hour' where thumbprint = $1`, [
    lately,
  ]);
  expect(await countIssued(sql(), mine, 3_600_000)).toBe(before - 2);
});

describe("an agent's name", () => {
  it("is given once", async () => {
    const agent = await lab.agent();
    expect(await insertAgent(sql(), { id: newId(ids, agentIdSchema), name: agent.name, labels: {} })).toBeUndefined();
  });

  it("is free again when its agent was removed", async () => {
    const agent = await lab.agent();
    await lab.sql(`update agent set status = 'removed' where id = $1`, [agent.id]);
    const id = newId(ids, agentIdSchema);
    expect(await insertAgent(sql(), { id, name: agent.name, labels: {} })).toBe(id);
    expect(await findAgent(sql(), agent.name)).toMatchObject({ id });
  });

  it("is kept by a replacement, with new labels, no quarantine and none of the old certificates", async () => {
    const agent = await lab.agent();
    const old = await certificate(agent.id);
    await lab.sql(`update agent set status = 'quarantined', status_reason = 'clone' where id = $1`, [agent.id]);
    expect(await replaceAgent(sql(), { name: agent.name, labels: { a: "b" } })).toBe(agent.id);
    expect(await findAgent(sql(), agent.id)).toMatchObject({ status: "active", labels: { a: "b" } });
    expect(await statusOf(old)).toBe("revoked");
    expect(await replaceAgent(sql(), { name: "nobody", labels: {} })).toBeUndefined();
  });
});

describe("the positive list", () => {
  it("answers the agent behind a thumbprint, and nothing for one this cluster never issued", async () => {
    const agent = await lab.agent();
    const thumbprint = await certificate(agent.id);
    expect(await readAdmission(sql(), thumbprint)).toEqual({
      agent: agent.id,
      name: agent.name,
      status: "active",
      certificate: "valid",
      notAfterMs: 2_000_000_000_000,
      used: false,
    });
    await markCertificateUsed(sql(), thumbprint);
    expect(await readAdmission(sql(), thumbprint)).toMatchObject({ certificate: "valid", used: true });
    expect(await readAdmission(sql(), "0".repeat(64))).toBeUndefined();
  });

  it("keeps the old certificate valid until the new one was used, and retires it then", async () => {
    const agent = await lab.agent();
    const old = await certificate(agent.id);
    const renewed = await certificate(agent.id);
    expect([await statusOf(old), await statusOf(renewed)]).toEqual(["valid", "valid"]);
    await markCertificateUsed(sql(), old);
    expect([await statusOf(old), await statusOf(renewed)]).toEqual(["valid", "valid"]);
    await markCertificateUsed(sql(), renewed);
    expect([await statusOf(old), await statusOf(renewed)]).toEqual(["superseded", "valid"]);
    await markCertificateUsed(sql(), renewed);
    expect(await statusOf(renewed)).toBe("valid");
  });

  it("does not touch other agents' certificates, nor revive a revoked one", async () => {
    const [mine, theirs] = [await lab.agent(), await lab.agent()];
    const other = await certificate(theirs.id);
    const revoked = await certificate(mine.id);
    await lab.sql(`update agent_certificate set status = 'revoked' where thumbprint = $1`, [revoked]);
    await markCertificateUsed(sql(), await certificate(mine.id));
    expect([await statusOf(other), await statusOf(revoked)]).toEqual(["valid", "revoked"]);
  });

  it("finds the certificate already issued for a key, for this agent only", async () => {
    const [agent, other] = [await lab.agent(), await lab.agent()];
    const thumbprint = await certificate(agent.id);
    expect(await findCertificate(sql(), agent.id, `spki-${thumbprint}`)).toBe(`pem-${thumbprint}`);
    expect(await findCertificate(sql(), other.id, `spki-${thumbprint}`)).toBeUndefined();
  });
});

describe("revoking an agent", () => {
  it("revokes the agent and every certificate, once, with an audit row", async () => {
    const agent = await lab.agent();
    const held = [await certificate(agent.id), await certificate(agent.id)];
    expect(await revokeAgent(sql(), { nameOrId: agent.name, ...by })).toBe(agent.id);
    expect(await revokeAgent(sql(), { nameOrId: agent.id, ...by })).toBeUndefined();
    expect(await Promise.all(held.map(statusOf))).toEqual(["revoked", "revoked"]);
    expect(
      await lab.sql(`select actor, detail from audit where target = $1 and action = 'agent-revoke'`, [agent.id]),
    ).toEqual([{ actor: "tester", detail: { name: agent.name } }]);
  });

  it("shows among the distrusted of those asked about, and leaves it out of the targets", async () => {
    const [revoked, active] = [await lab.agent(), await lab.agent()];
    await revokeAgent(sql(), { nameOrId: revoked.id, ...by });
    expect(
      await readDistrusted(
        sql(),
        [revoked, active].map(({ id, bootId }) => ({ agent: id, thumbprint: "unknown", bootId })),
      ),
    ).toEqual([{ agent: revoked.id, status: "revoked", reason: "revoked by tester", bootId: revoked.bootId }]);
    expect((await namedTargets(sql(), [revoked.name, active.name, active.id])).map(({ id }) => id)).toEqual([
      active.id,
    ]);
    const targets = (await listTargets(sql())).map(({ id }) => id);
    expect([targets.includes(active.id), targets.includes(revoked.id)]).toEqual([true, false]);
  });
});

describe("a session whose boot is not the agent's", () => {
  it("is among the distrusted, by the boot it greeted with", async () => {
    const [old, same] = [await lab.agent(), await lab.agent()];
    await lab.greet({ ...old, ...newBoot(2), journalId: old.journalId });
    const asked = [old, same].map(({ id, bootId }) => ({ agent: id, thumbprint: "unknown", bootId }));
    expect(await readDistrusted(sql(), asked)).toEqual([
      {
        agent: old.id,
        bootId: old.bootId,
        status: "other-boot",
        reason: "the cluster knows another boot of this agent",
      },
    ]);
  });

  it("is so too when a failover lost the greeting", async () => {
    const agent = await lab.agent();
    await lab.sql(`update agent set boot_id = null, boot_counter = null where id = $1`, [agent.id]);
    const found = await readDistrusted(sql(), [{ agent: agent.id, thumbprint: "unknown", bootId: agent.bootId }]);
    expect(found).toMatchObject([{ agent: agent.id, status: "other-boot" }]);
  });
});

describe("listing agents", () => {
  it("pages newest first, among those asked for, without removed ones", async () => {
    const agents = [await lab.agent(), await lab.agent(), await lab.agent()].toReversed();
    const wanted = agents.map(({ id }) => id);
    const top = await listAgents(sql(), { limit: 2, before: null, ids: wanted });
    expect(top.map(({ id }) => id)).toEqual(wanted.slice(0, 2));
    await lab.sql(`update agent set status = 'removed' where id = $1`, [wanted[2]]);
    expect(await listAgents(sql(), { limit: 2, before: wanted[1] ?? null, ids: wanted })).toEqual([]);
  });

  it("shows each joined node, and since when the agent has a session there", async () => {
    const agent = await lab.agent();
    await lab.store.presence({ agent: agent.id, node: lab.node.id, nodeBootId: lab.node.bootId, change: "connected" });
    const missing = await lab.otherNode("node-without");
    const found = await findAgent(sql(), agent.name);
    expect(found?.nodes).toMatchObject([
      { name: "node-a", live: true, since: expect.any(String) },
      { name: missing.name, live: true, since: null },
    ]);
  });

  it("names agents by id", async () => {
    const agent = await lab.agent();
    expect(await agentNames(sql(), [agent.id, newId(ids, agentIdSchema)])).toEqual(new Map([[agent.id, agent.name]]));
  });
});

describe("the cluster's trust", () => {
  it("is created by whichever node comes first", async () => {
    const other = { id: newId(ids, clusterIdSchema), name: "second", keyCheck: Buffer.from("x") };
    expect(await createCluster(sql(), other)).toBeUndefined();
    expect(await readCluster(sql())).toMatchObject({ name: "test" });
  });

  it("has one current authority of a kind and answers no retired one", async () => {
    const authority = { kind: "agents" as const, certificate: "pem", keyCiphertext: Buffer.from("sealed") };
    await storeAuthority(sql(), { id: ids.next(), ...authority });
    await expect(storeAuthority(sql(), { id: ids.next(), ...authority })).rejects.toMatchObject({ code: "internal" });
    expect(await readAuthorities(sql())).toMatchObject([{ kind: "agents", state: "current", certificate: "pem" }]);
    await lab.sql(`update authority set state = 'retired'`);
    expect(await readAuthorities(sql())).toEqual([]);
  });

  it("finds API keys with their scopes and whether they still count", async () => {
    const id = newId(ids, apiKeyIdSchema);
    expect(await hasApiKeys(sql())).toBe(false);
    await storeApiKey(sql(), { id, name: "ci", secretSha256: Buffer.alloc(32), scopes: ["tasks:write"] });
    expect(await hasApiKeys(sql())).toBe(true);
    expect(await findApiKey(sql(), id)).toMatchObject({ name: "ci", scopes: ["tasks:write"], valid: true });
    await lab.sql(`update api_key set expires_at = clock_timestamp() - interval '1 second' where id = $1`, [id]);
    expect(await findApiKey(sql(), id)).toMatchObject({ valid: false });
    await lab.sql(`update api_key set expires_at = null, revoked_at = clock_timestamp() where id = $1`, [id]);
    expect(await findApiKey(sql(), id)).toMatchObject({ valid: false });
    expect(await hasApiKeys(sql())).toBe(false);
  });

  it("is read from a database that answers a ping", async () => {
    expect(await pingDatabase(sql())).toBe("reachable");
  });
});
