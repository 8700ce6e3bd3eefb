// Every bench there is, by the name of its file and of its results, in the order they are run; and how docs/performance.md
// introduces each. A file of bench/ that reports results and is not here fails test/surface/performance-doc.test.ts.

export const benches: Readonly<Record<string, string>> = {
  "dispatch-latency": "From the submit to the first byte of a script's output, idle cluster, one node, one agent",
  "task-rate": "Durable no-op tasks through one node and 20 agents",
  "start-rate": "Scripts started and finished on one agent, ten at a time",
  "log-throughput": "From scripts into the database, one script and ten",
  "agent-footprint": "What an agent costs its machine",
  failover: "The node a log flows through is killed with -9; a line each 200 ms",
  "reconnect-storm": "A node is ended and started; its agents return",
  "idle-fleet": "What an idle agent costs a node, of 1,000",
  "claim-rate": "Claims beside a backlog, most of it for agents that are offline",
  "history-depth": "Submit, claim, lists and retention beside years of finished attempts",
  "write-cost":
    "What one attempt, from submit to result, has PostgreSQL write to its log, and what of it is for indexes",
};
