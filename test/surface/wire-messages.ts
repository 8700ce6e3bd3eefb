// One sample of every message of protocol 1, with every optional field and every variant of a field somewhere: what
// write-wire-samples.ts writes down as bytes and wire-samples.test.ts compares those bytes with. Never edited for a
// version that is still served: a change that makes these fail breaks agents in the field.
const id = (number: number): string => `01985f2e-7c00-7000-8000-${number.toString(16).padStart(12, "0")}`;
const digest = (digit: string): string => digit.repeat(64);
const script = {
  kind: "script",
  interpreter: "bash",
  script: "echo hello\nexit 3\n",
  args: ["one", "zwei"],
  env: { LANG: "C.UTF-8", EMPTY: "" },
  cwd: "/tmp",
  timeoutMs: 3_600_000,
  graceMs: 10_000,
};
const record = {
  outcome: "failed",
  reason: "exit-code",
  exitCode: 3,
  signal: null,
  startedAtMs: 1_795_000_000_000,
  finishedAtMs: 1_795_000_001_500,
  durationMs: 1_500,
  out: { length: 6, sha256: digest("a") },
  err: { length: 0, sha256: digest("e") },
};
const nodes = {
  version: 4_294_967_303,
  want: 0,
  nodes: [
    { id: id(1), name: "node-a", addresses: ["10.0.0.1:10943", "node-a.example.com:443"] },
    { id: id(2), name: "node-b", addresses: ["[2001:db8::2]:10943"] },
  ],
};

export const fromAgentSamples = {
  hello: {
    type: "hello",
    protocols: { min: 1, max: 1 },
    version: "0.1.0",
    bootCounter: 7,
    bootId: id(3),
    journalId: id(4),
    attempts: [
      { attempt: id(10), state: "accepted", homeNo: 1, homeHere: false },
      { attempt: id(11), state: "running", homeNo: 2, homeHere: false },
      { attempt: id(12), state: "finished", homeNo: 1, homeHere: false },
    ],
    capabilities: ["script", "no-op"],
    host: { hostname: "web-01", os: "linux", arch: "x64", slots: 10 },
  },
  "hello-probe": {
    type: "hello",
    protocols: { min: 1, max: 1 },
    version: "0.1.0",
    bootCounter: 0,
    bootId: id(3),
    journalId: id(4),
    attempts: [],
    capabilities: [],
    host: { hostname: "web-01", os: "linux", arch: "arm64", slots: 1 },
    probe: true,
  },
  "hello-executable": {
    type: "hello",
    protocols: { min: 1, max: 1 },
    version: "0.1.0",
    bootCounter: 3,
    bootId: id(3),
    journalId: id(4),
    lineage: [id(5), id(6), id(3)],
    attempts: [],
    capabilities: ["script", "update"],
    host: { hostname: "web-01", os: "linux", arch: "x64", slots: 10, executable: "0.1.0-3b6fbea9b5be" },
  },
  ready: { type: "ready", work: 12, system: 2 },
  accept: {
    type: "accept",
    items: [
      { attempt: id(10), offerNo: 1, homeNo: 1 },
      { attempt: id(11), offerNo: 3, homeNo: 1 },
    ],
  },
  refuse: {
    type: "refuse",
    items: [
      { attempt: id(10), offerNo: 1, class: "later", reason: "disk-full", detail: "/var: 0 bytes left" },
      { attempt: id(11), offerNo: 2, class: "never", reason: "interpreter-missing" },
    ],
  },
  state: {
    type: "state",
    items: [
      { attempt: id(10), state: "running", homeNo: 2, homeHere: true },
      { attempt: id(11), state: "collected", homeNo: 1, homeHere: false },
      { attempt: id(12), state: "unknown", homeNo: 0, homeHere: false },
    ],
  },
  started: { type: "started", items: [{ attempt: id(10), homeNo: 1, startedAtMs: 1_795_000_000_000 }] },
  progress: {
    type: "progress",
    items: [
      { attempt: id(10), homeNo: 1, percent: 40, message: "copying \u00e9" },
      { attempt: id(11), homeNo: 2, percent: null, message: "waiting" },
      { attempt: id(12), homeNo: 1, percent: 100, message: "" },
    ],
  },
  "log-bytes": {
    type: "log",
    attempt: id(10),
    stream: "out",
    offset: 5_000_000_000,
    homeNo: 1,
    content: { bytes: Uint8Array.of(0, 104, 105, 10, 255) },
  },
  "log-timed": {
    type: "log",
    attempt: id(10),
    stream: "err",
    offset: 7,
    homeNo: 1,
    content: { bytes: Uint8Array.of(104, 105), atMs: 1_795_000_000_000 },
  },
  "log-omitted": { type: "log", attempt: id(10), stream: "err", offset: 0, homeNo: 2, content: { omitted: 70_000 } },
  result: {
    type: "result",
    items: [
      { attempt: id(10), homeNo: 1, record },
      {
        attempt: id(11),
        homeNo: 2,
        record: { ...record, outcome: "cancelled", reason: "", exitCode: null, signal: "SIGTERM", startedAtMs: null },
      },
    ],
  },
  "result-outputs": {
    type: "result",
    items: [
      {
        attempt: id(10),
        homeNo: 1,
        record: {
          ...record,
          outputs: [
            { name: "VERSION", value: "1.2.3" },
            { name: "constructor", value: "line\nline\u00e9" },
          ],
        },
      },
    ],
  },
  resume: { type: "resume", items: [{ attempt: id(10), homeNo: 2 }] },
  renew: {
    type: "renew",
    spki: Uint8Array.from({ length: 91 }, (_, index) => index),
    proof: Uint8Array.of(0x30, 0x06, 2, 1, 1, 2, 1, 1),
  },
};

export const fromNodeSamples = {
  welcome: {
    type: "welcome",
    protocol: 1,
    node: { id: id(1), name: "node-a" },
    timings: { pingMs: 10_000, silenceMs: 25_000 },
    verdicts: [
      { attempt: id(10), verdict: "keep" },
      { attempt: id(11), verdict: "cancel" },
      { attempt: id(12), verdict: "acknowledged" },
      { attempt: id(13), verdict: "unknown" },
    ],
    nodes,
  },
  offer: {
    type: "offer",
    items: [
      {
        attempt: id(10),
        task: id(20),
        attemptNumber: 1,
        offerNo: 1,
        journalId: id(4),
        lane: "work",
        startWindowMs: 60_000,
        spec: script,
      },
      {
        attempt: id(11),
        task: id(21),
        attemptNumber: 2,
        offerNo: 5,
        journalId: id(4),
        lane: "system",
        startWindowMs: 60_000,
        spec: { kind: "no-op" },
      },
    ],
  },
  "offer-surroundings": {
    type: "offer",
    items: [
      {
        attempt: id(10),
        task: id(20),
        attemptNumber: 1,
        offerNo: 1,
        journalId: id(4),
        lane: "work",
        startWindowMs: 60_000,
        spec: {
          ...script,
          interpreterArgs: ["-u", "-X dev"],
          files: [
            { name: "app.conf", base64: "AP8K" },
            { name: ".tool-v2", base64: "", executable: true },
          ],
        },
      },
    ],
  },
  "offer-user": {
    type: "offer",
    items: [
      {
        attempt: id(10),
        task: id(20),
        attemptNumber: 1,
        offerNo: 1,
        journalId: id(4),
        lane: "work",
        startWindowMs: 60_000,
        spec: { ...script, user: "web" },
      },
    ],
  },
  "offer-limits": {
    type: "offer",
    items: [
      {
        attempt: id(10),
        task: id(20),
        attemptNumber: 1,
        offerNo: 1,
        journalId: id(4),
        lane: "work",
        startWindowMs: 60_000,
        spec: { ...script, logBytesPerSecond: 65_536, memoryBytes: 5_368_709_120, pids: 64 },
      },
    ],
  },
  "offer-update": {
    type: "offer",
    items: [
      {
        attempt: id(10),
        task: id(20),
        attemptNumber: 1,
        offerNo: 1,
        journalId: id(4),
        lane: "system",
        startWindowMs: 60_000,
        spec: {
          kind: "update",
          sha256: digest("b"),
          servers: ["https://holdfast.example.com", "http://[2001:db8::2]:8080/base"],
          greetMs: 60_000,
          graceMs: 180_000,
        },
      },
    ],
  },
  "offer-secrets": {
    type: "offer",
    items: [
      {
        attempt: id(10),
        task: id(20),
        attemptNumber: 1,
        offerNo: 1,
        journalId: id(4),
        lane: "work",
        startWindowMs: 60_000,
        spec: script,
        secrets: [
          { name: "DB_PASSWORD", value: "correct horse", as: "variable" },
          { name: "LICENCE", value: "first line\nsecond line\n", as: "file" },
        ],
      },
    ],
  },
  cancel: { type: "cancel", items: [{ attempt: id(10), graceMs: 10_000 }] },
  inquire: { type: "inquire", items: [id(10), id(11)] },
  "log-ack": { type: "log-ack", attempt: id(10), stream: "out", offset: 5_000_000_005, window: 1_048_576 },
  "resume-from": { type: "resume-from", attempt: id(10), stream: "err", offset: 0, window: 65_536, homeNo: 2 },
  "result-ack": {
    type: "result-ack",
    items: [
      { attempt: id(10), verdict: "acknowledged" },
      { attempt: id(11), verdict: "unknown" },
    ],
  },
  renewed: {
    type: "renewed",
    certificate: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    agentsCa: ["agents CA"],
    nodesCa: ["nodes CA", "next nodes CA"],
  },
  nodes: { type: "nodes", ...nodes },
  "go-away": { type: "go-away", afterMs: 0, reason: "the node drains" },
  "welcome-slots": {
    type: "welcome",
    protocol: 1,
    node: { id: id(1), name: "node-a" },
    timings: { pingMs: 10_000, silenceMs: 25_000 },
    verdicts: [],
    nodes,
    slots: 4,
  },
  "welcome-probe": {
    type: "welcome",
    protocol: 1,
    node: { id: id(1), name: "node-a" },
    timings: { pingMs: 10_000, silenceMs: 25_000 },
    verdicts: [],
    nodes,
    wallMs: 1_795_000_000_000,
  },
  "welcome-capabilities": {
    type: "welcome",
    protocol: 1,
    node: { id: id(1), name: "node-a" },
    timings: { pingMs: 10_000, silenceMs: 25_000 },
    verdicts: [],
    nodes,
    slots: null,
    capabilities: ["progress"],
  },
  "offer-isolated": {
    type: "offer",
    items: (["full", "none"] as const).map((mode, at) => ({
      attempt: id(10 + at),
      task: id(20 + at),
      attemptNumber: 1,
      offerNo: 1,
      journalId: id(4),
      lane: "work",
      startWindowMs: 60_000,
      spec: { ...script, isolation: { name: "deploy", mode, waitMs: 300_000 } },
    })),
  },
  "cancel-abandoned": { type: "cancel", items: [{ attempt: id(10), graceMs: 10_000, abandoned: true }] },
  settings: { type: "settings", slots: 4 },
  "settings-own": { type: "settings", slots: null },
};
