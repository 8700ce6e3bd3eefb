// What scripts inherit of the agent's environment: everything but the agent's own settings, secrets and supervisor links.

const ownVariables = new Set([
  "NOTIFY_SOCKET",
  "WATCHDOG_USEC",
  "WATCHDOG_PID",
  "LISTEN_FDS",
  "LISTEN_PID",
  "LISTEN_FDNAMES",
  "INVOCATION_ID",
  "JOURNAL_STREAM",
  "SYSTEMD_EXEC_PID",
  "MEMORY_PRESSURE_WATCH",
  "MEMORY_PRESSURE_WRITE",
  "TRACEPARENT",
  "TRACESTATE",
  "NODE_CHANNEL_FD",
  "NODE_OPTIONS",
  "NODE_COMPILE_CACHE",
]);

export function scriptEnvironment(
  environment: Readonly<Record<string, string | undefined>>,
): Record<string, string | undefined> {
  const kept = Object.entries(environment).filter(([name]) => !name.startsWith("HOLDFAST_") && !ownVariables.has(name));
  return Object.fromEntries(kept);
}
