// Node's HTTP client for an agent. An import of `node:http` reads all that it exports, a browser's WebSocket among it, and
// loads the client behind that: 3 MB and 20 ms that an agent has no use for.

export const { request: requestHttp } = process.getBuiltinModule("node:http");
export const { request: requestHttps } = process.getBuiltinModule("node:https");
