// Joins the HTTP edge's narrow interfaces to the verbs: parses nothing, decides nothing.
import type { Clock } from "../shared/clock.ts";
import { AppError } from "../shared/errors.ts";
import { apiKeyIdSchema, type AgentId, type IdSource, type NodeId, type TaskId } from "../shared/ids.ts";
import { Recent } from "../shared/recent.ts";
import { grantSchema } from "../shared/api/scope.ts";
import { selects } from "../shared/api/selector.ts";
import type { TokenView } from "../shared/api/tokens.ts";
import { isFinal } from "../shared/task.ts";
import type { Random } from "../shared/random.ts";
import type { ApiKeyRow, Backend } from "./api/backend.ts";
import type { Downloads } from "./api/download-routes.ts";
import { updateAgents } from "./agent-updates.ts";
import { createAdministration, type AdministrationDeps } from "./administration.ts";
import { issueToken } from "./enrolment/issue-token.ts";
import { findAgent, listAgents, revokeAgent } from "./store/agents.ts";
import { abandonTask } from "./store/abandon-task.ts";
import { cancelTasks } from "./store/cancel-tasks.ts";
import type { Database, Sql } from "./store/connection.ts";
import { pingDatabase } from "./store/ping.ts";
import { listTasks } from "./store/list-tasks.ts";
import { readSubmission, readTask } from "./store/read-tasks.ts";
import { removeAgent } from "./store/remove-agent.ts";
import { listTokens, readToken, revokeToken, type TokenRow } from "./store/tokens.ts";
import { findApiKey } from "./store/trust.ts";
import { readTaskLog } from "./tasks/read-task-log.ts";
import { answerEarlier, submit, type SubmitDeps } from "./tasks/submit.ts";
import { agentView, taskView } from "./tasks/task-view.ts";
import type { Followers } from "./tasks/followers.ts";

export interface BackendDeps {
  readonly database: Database;
  readonly submitting: SubmitDeps;
  readonly followers: Followers;
  readonly ids: IdSource;
  readonly clock: Clock;
  readonly random: Random;
  readonly nodesCaPin: () => string;
  readonly downloads: Pick<Downloads, "list">;
  readonly admitOne: AdministrationDeps["admitOne"];
  readonly isDraining: () => boolean;
  /** Tells every node: cancels to send, agents to close. */
  readonly announce: (what: "cancel" | "trust", agent: AgentId) => void;
  /** To every node, this one included. */
  readonly tell: AdministrationDeps["tell"];
}

export interface BackendOptions {
  readonly node: NodeId;
  readonly nodeName: string;
  readonly version: string;
}

/** A revoked key works this much longer at most. */
const recentKeys = { freshMs: 2_000, capacity: 10_000 } as const;

const moment = (ms: number): string => new Date(ms).toISOString();

export function createBackend(deps: BackendDeps, options: BackendOptions): Backend {
  const { followers } = deps;
  const sql = deps.database.durable;
  const waiting = async (id: TaskId): Promise<string | null> => {
    const row = await readTask(sql, id);
    return row === undefined ? null : taskView(row).waiting;
  };
  const keys = new Recent<ApiKeyRow | null>({ clock: deps.clock, load: (id) => loadKey(sql, id) }, recentKeys);
  const submitted: Backend["submit"] = (request, principal) =>
    submit(deps.submitting, options.node, request, principal);
  return {
    ...createAdministration({
      sql,
      ids: deps.ids,
      clock: deps.clock,
      admitOne: deps.admitOne,
      tell: deps.tell,
      wake: (task) => followers.wake(task),
    }),
    submit: submitted,
    updateAgents: (asked, principal) =>
      updateAgents(
        {
          sql,
          targets: deps.submitting.targets,
          downloads: deps.downloads,
          submit: submitted,
          earlier: (request, by) => answerEarlier(deps.submitting, request, by),
        },
        asked,
        principal,
      ),
    async readSubmission(id) {
      const row = await readSubmission(sql, id);
      return row === undefined
        ? null
        : {
            id: row.id,
            createdAt: moment(row.createdAt),
            createdBy: row.principal,
            address: row.address,
            tasks: row.tasks,
          };
    },
    async readTask(id) {
      const row = await readTask(sql, id);
      return row === undefined ? null : taskView(row);
    },
    listTasks: async (query) => (await listTasks(sql, query)).map((row) => taskView(row, "listed")),
    async cancelTask(id, principal) {
      const [cancelled] = await cancelTasks(sql, [id], { principal: principal.id, address: principal.address });
      if (cancelled === undefined) return null;
      // A cancel whose answer was lost is sent again: one that has come true already is no error.
      if (!cancelled.changed && isFinal(cancelled.state) && cancelled.state !== "cancelled")
        throw new AppError("task.finished", `task ${id} is ${cancelled.state} already`);
      if (!isFinal(cancelled.state)) deps.announce("cancel", cancelled.agent);
      followers.wake(id);
      const row = await readTask(sql, id);
      return row === undefined ? null : taskView(row);
    },
    async abandonTask(id, principal) {
      const abandoned = await abandonTask(sql, id, { principal: principal.id, address: principal.address });
      if (abandoned === undefined) return null;
      const { agent, state, changed, letGo } = abandoned;
      if (!changed && !letGo && state !== "abandoned" && state !== "cancelled")
        throw new AppError("task.finished", `task ${id} is ${state} already`);
      // Final here, but the agent may still run it.
      if ((changed && state === "abandoned") || letGo) deps.announce("cancel", agent);
      followers.wake(id);
      const row = await readTask(sql, id);
      return row === undefined ? null : taskView(row);
    },
    async readLog(query) {
      const found = await readTaskLog({ sql, waiting }, query);
      if (found === null) return null;
      followers.learn(found.head);
      return found;
    },
    waitForChange: (task, signal) => followers.wait(task, signal),
    async listAgents({ selector, ...page }) {
      if (selector === undefined) return (await listAgents(sql, { ...page, ids: undefined })).map(agentView);
      const ids = (await deps.submitting.targets.all())
        .filter((target) => selects(selector, target))
        .map((target) => target.id);
      return (await listAgents(sql, { ...page, ids })).map(agentView);
    },
    async findAgent(nameOrId) {
      const row = await findAgent(sql, nameOrId);
      return row === undefined ? null : agentView(row);
    },
    async revokeAgent(nameOrId, principal) {
      const agent = await revokeAgent(sql, { nameOrId, principal: principal.id, address: principal.address });
      if (agent !== undefined) deps.announce("trust", agent);
      const row = await findAgent(sql, agent ?? nameOrId);
      return row === undefined ? null : agentView(row);
    },
    async removeAgent(nameOrId, principal) {
      const removed = await removeAgent(sql, { nameOrId, principal: principal.id, address: principal.address });
      const row = await findAgent(sql, removed?.id ?? nameOrId);
      if (row === undefined) return null;
      if (removed === undefined)
        throw new AppError("agent.unknown", `agent ${row.name} (${row.id}) was removed already`);
      deps.announce("trust", removed.id);
      for (const task of removed.tasks) followers.wake(task);
      return agentView(row);
    },
    async createToken(request, principal) {
      const { labels, expiresMs, replace } = request;
      const list = await deps.downloads.list();
      const { id, text } = await issueToken(
        { sql, ...deps, listDigest: list?.digest },
        { labels, expiresMs, replace, principal: principal.id, address: principal.address },
      );
      const row = await readToken(sql, id);
      if (row === undefined) throw new AppError("internal", "the token just created is not there");
      return { ...tokenView(row), token: text, installerSha256: list?.installerSha256 ?? null };
    },
    listTokens: async (query) => (await listTokens(sql, query)).map(tokenView),
    async revokeToken(id, principal) {
      await revokeToken(sql, { id, principal: principal.id, address: principal.address });
      const row = await readToken(sql, id);
      return row === undefined ? null : tokenView(row);
    },
    findApiKey: (id) => keys.get(id),
    async readiness() {
      const draining = deps.isDraining();
      const database = await pingDatabase(sql);
      return {
        ready: !draining && database === "reachable",
        draining,
        database,
        node: options.nodeName,
        version: options.version,
      };
    },
  };
}

async function loadKey(sql: Sql, text: string): Promise<ApiKeyRow | null> {
  const row = await findApiKey(sql, apiKeyIdSchema.parse(text));
  if (row === undefined) return null;
  const scopes = row.scopes.map((scope) => grantSchema.parse(scope));
  return { id: row.id, name: row.name, scopes, secretDigest: row.secretSha256, valid: row.valid };
}

function tokenView(row: TokenRow): TokenView {
  return {
    ...row,
    createdAt: moment(row.createdAt),
    expiresAt: moment(row.expiresAt),
    usedAt: row.usedAt === null ? null : moment(row.usedAt),
  };
}
