// The node's HTTP edge: one listener, its headers, limits and metrics. What the routes do is Backend's. Stopping takes no
// new request, ends followed streams (readers resume elsewhere) and lets running requests finish within a bound.
import { createServer } from "node:net";
import { fastify } from "fastify";
import { serializerCompiler, type ZodTypeProvider } from "fastify-type-provider-zod";
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { Background } from "../../shared/background.ts";
import type { Clock } from "../../shared/clock.ts";
import { AppError, describeError } from "../../shared/errors.ts";
import type { IdSource } from "../../shared/ids.ts";
import { outliveErrors } from "../../shared/listener-errors.ts";
import type { Logger } from "../../shared/logger.ts";
import type { Service } from "../../shared/service.ts";
import { limits } from "../../shared/task.ts";
import { addAgentRoutes } from "./agent-routes.ts";
import { addAgentUpdateRoutes } from "./agent-update-routes.ts";
import { installAuthorization } from "./authorize.ts";
import type { Backend, EnrolmentBackend } from "./backend.ts";
import { BodyBudget, installBodyBudget, type BodyBudgetOptions } from "./body-budget.ts";
import { parseTrustedProxies } from "./client-address.ts";
import { ApiConnections, type ApiConnectionsOptions } from "./connections.ts";
import { installCrossOrigin, parseOrigins } from "./cross-origin.ts";
import { addDownloadRoutes, type Downloads } from "./download-routes.ts";
import { addEnrolmentRoutes } from "./enrolment-routes.ts";
import { addHealthRoutes } from "./health-routes.ts";
import { addNodeRoutes } from "./node-routes.ts";
import { addDocsRoutes, installOpenApi } from "./openapi.ts";
import { installProblemReplies, refuseBytes, sendFrameworkError } from "./problem-reply.ts";
import type { ApiInstance } from "./route.ts";
import { addSubmissionRoutes } from "./submission-routes.ts";
import { addTaskRoutes } from "./task-routes.ts";
import { TaskStreams, taskStreamsDefaults, type TaskStreamsOptions } from "./task-stream.ts";
import { addTokenRoutes } from "./token-routes.ts";
import { validatorCompiler } from "./validate.ts";

export interface ApiServerDeps {
  readonly backend: Backend;
  readonly enrolment: EnrolmentBackend;
  readonly downloads: Downloads;
  readonly clock: Clock;
  readonly ids: IdSource;
  readonly logger: Logger;
  readonly registry: Registry;
}

export interface ApiServerOptions {
  readonly host: string;
  /** 0 takes any free port; `address` tells which. */
  readonly port: number;
  /** Addresses and ranges whose X-Forwarded-For is believed. */
  readonly trustedProxies: readonly string[];
  /** Origins whose pages may call the API from a browser; default none. */
  readonly allowOrigins?: readonly string[];
  /** Holdfast's version, shown by /healthz and in the OpenAPI document. */
  readonly version: string;
  readonly streams?: Partial<TaskStreamsOptions>;
  readonly connections?: ApiConnectionsOptions;
  readonly bodies?: BodyBudgetOptions;
  /** How long running requests may take to finish at stop; default 5 s. */
  readonly stopMs?: number;
  /** Within which a request's head has to come; default 10 s. */
  readonly headMs?: number;
}

export interface ApiRoute {
  readonly method: string;
  readonly url: string;
  readonly permission: string;
}

const bodyBytes = 1024 * 1024;
const headerBytes = 8 * 1024;
const requestIdForm = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

interface Running {
  readonly app: ApiInstance;
  readonly streams: TaskStreams;
  readonly background: Background;
  readonly address: { readonly host: string; readonly port: number };
  readonly routes: readonly ApiRoute[];
}

export class ApiServer implements Service {
  readonly bodies: BodyBudget;
  readonly #deps: ApiServerDeps;
  readonly #options: ApiServerOptions;
  readonly #seconds: Histogram;
  readonly #openStreams: Gauge;
  readonly #closed: Counter;
  #running: Running | null = null;

  constructor(deps: ApiServerDeps, options: ApiServerOptions) {
    this.#deps = deps;
    this.#options = options;
    this.bodies = new BodyBudget(options.bodies);
    const registers = [deps.registry];
    this.#seconds = new Histogram({
      name: "holdfast_api_request_seconds",
      help: "Duration of HTTP requests by route; followed streams are not counted",
      labelNames: ["method", "route", "status"],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10],
      registers,
    });
    this.#openStreams = new Gauge({ name: "holdfast_api_streams", help: "Followed tasks on this node", registers });
    this.#closed = new Counter({
      name: "holdfast_api_connections_closed_total",
      help: "Connections to the API that were ended because there were too many",
      labelNames: ["reason"],
      registers,
    });
  }

  /** Where it listens. Throws when it is not started. */
  get address(): { readonly host: string; readonly port: number } {
    return this.#started().address;
  }

  /** Every route with its permission, for the test that calls them all anonymously. */
  get routes(): readonly ApiRoute[] {
    return this.#started().routes;
  }

  /** Throws as {@link start} would when its address cannot be had; to be asked before others are told of this node. */
  async judgeAddress(): Promise<void> {
    const { host, port } = this.#options;
    const probe = createServer();
    try {
      await new Promise<void>((resolve, reject) => {
        probe.once("error", reject);
        probe.listen(port, host, resolve);
      });
    } catch (cause) {
      throw listenError(cause, this.#options);
    }
    await new Promise<void>((resolve) => void probe.close(() => resolve()));
  }

  async start(): Promise<void> {
    if (this.#running !== null) throw new AppError("internal", "the API server is started already");
    const { logger, clock, backend } = this.#deps;
    const background = new Background({ logger });
    const streams = new TaskStreams(
      { tasks: backend, clock, background, open: this.#openStreams },
      { ...taskStreamsDefaults, ...this.#options.streams },
    );
    const app = this.#createApp();
    const connections = new ApiConnections(
      { onClosed: (reason) => this.#closed.inc({ reason }) },
      this.#options.connections,
    );
    connections.watch(app.server);
    const routes: ApiRoute[] = [];
    try {
      await this.#install(app, { streams, routes, connections });
      await app.listen({ host: this.#options.host, port: this.#options.port });
      outliveErrors(app.server, this.#deps, "API");
    } catch (cause) {
      await app.close();
      throw listenError(cause, this.#options);
    }
    const bound = app.server.address();
    const port = typeof bound === "object" && bound !== null ? bound.port : this.#options.port;
    this.#running = { app, streams, background, routes, address: { host: this.#options.host, port } };
    logger.info({ host: this.#options.host, port }, "API listens");
  }

  async stop(): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    this.#running = null;
    running.streams.stop();
    const late = this.#deps.clock.after(this.#options.stopMs ?? 5_000, () => running.app.server.closeAllConnections());
    try {
      await running.background.settle();
      await running.app.close();
    } finally {
      late.cancel();
    }
  }

  #started(): Running {
    if (this.#running === null) throw new AppError("internal", "the API server is not started");
    return this.#running;
  }

  #createApp(): ApiInstance {
    // A head that is not there after 10 s will not come (fault 100); Node looks every 30 s by default, and gives it a minute.
    const headersTimeout = this.#options.headMs ?? 10_000;
    const app: ApiInstance = fastify({
      logger: false,
      bodyLimit: bodyBytes,
      // Following a stream by HEAD would open one; the health routes ask for theirs.
      exposeHeadRoutes: false,
      http: { maxHeaderSize: headerBytes, headersTimeout, connectionsCheckingInterval: headersTimeout / 5 },
      // As long as a name may be: Fastify's own 100 would answer 404 for agents and nodes with longer ones.
      routerOptions: { maxParamLength: limits.nameChars },
      frameworkErrors: sendFrameworkError,
      clientErrorHandler: (cause, socket) => refuseBytes(cause, socket, this.#deps.ids),
      requestIdHeader: false,
      genReqId: (request) => {
        const given = request.headers["x-request-id"];
        return typeof given === "string" && requestIdForm.test(given) ? given : this.#deps.ids.next();
      },
      return503OnClosing: true,
      // Slow senders hold a socket, not a worker; this bounds how long (SECURITY S23).
      requestTimeout: 60_000,
    }).withTypeProvider<ZodTypeProvider>();
    app.setValidatorCompiler(validatorCompiler);
    app.setSerializerCompiler(serializerCompiler);
    return app;
  }

  async #install(
    app: ApiInstance,
    parts: { streams: TaskStreams; routes: ApiRoute[]; connections: ApiConnections },
  ): Promise<void> {
    const { backend, enrolment, downloads, clock, logger, registry } = this.#deps;
    const { version } = this.#options;
    installProblemReplies(app, { logger });
    app.addHook("onRequest", async (request, reply) => {
      reply
        .header("x-request-id", request.id)
        .header("x-content-type-options", "nosniff")
        .header("cache-control", "no-store");
    });
    installCrossOrigin(app, parseOrigins(this.#options.allowOrigins ?? []));
    installAuthorization(app, { keys: backend, proxies: parseTrustedProxies(this.#options.trustedProxies) });
    installBodyBudget(app, this.bodies);
    // Whose key was checked may send a body slowly.
    app.addHook("onRequest", async ({ principal, raw }) => {
      if (principal !== null) parts.connections.answer(raw);
    });
    app.addHook("onRoute", (route) => {
      parts.routes.push({ method: String(route.method), url: route.url, permission: String(route.config?.permission) });
    });
    app.addHook("onResponse", async (request, reply) => {
      const route = request.routeOptions.url ?? "unknown";
      this.#seconds.observe(
        { method: request.method, route, status: String(reply.statusCode) },
        reply.elapsedTime / 1_000,
      );
      logger.debug({ requestId: request.id, method: request.method, route, status: reply.statusCode }, "request");
    });
    await installOpenApi(app, { version });
    addSubmissionRoutes(app, backend);
    addTaskRoutes(app, { tasks: backend, streams: parts.streams });
    addAgentRoutes(app, backend);
    addAgentUpdateRoutes(app, backend);
    addNodeRoutes(app, backend);
    addTokenRoutes(app, backend);
    addEnrolmentRoutes(app, enrolment);
    addDownloadRoutes(app, { downloads, clock });
    addHealthRoutes(app, { health: backend, registry, version });
    addDocsRoutes(app);
  }
}

function listenError(cause: unknown, options: ApiServerOptions): AppError {
  if (cause instanceof AppError) return cause;
  return new AppError(
    "config.invalid",
    `the API cannot listen on ${options.host}:${options.port}: ${describeError(cause)}`,
    {
      cause,
      mend: "Choose another address with --api-listen, or stop what uses this one.",
    },
  );
}
