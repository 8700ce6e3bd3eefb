// The figures this product is held to: those of the design (its section 11) and those its issues added. A target is bound
// to the row that answers it by the row's question; docs/performance.md says of each whether it is met.
// Bounds are in the row's unit; where the design says MB, the row says MiB and the bound is converted.

export interface Target {
  /** Of a row in results/. */
  readonly question: string;
  /** As people read it. */
  readonly text: string;
  /** What is judged: the row's figure, or its ratio to the floor. */
  readonly judged: "figure" | "ratio";
  readonly bound: { readonly most: number } | { readonly least: number };
  readonly from: "design" | "issue";
}

/** A target of the design for something the product does not have. */
export interface Absent {
  readonly text: string;
  readonly why: string;
}

const mib = (megabytes: number): number => (megabytes * 1e6) / 2 ** 20;
const design = { from: "design" } as const;
const issue = { from: "issue" } as const;

/** "Stays flat" as a number: half as much again is a plan that depends on what lies in the table, not the noise of a machine. */
const flat = { text: "flat: ≤ 1.5 × floor", judged: "ratio", bound: { most: 1.5 }, ...issue } as const;
/** "Flat memory" of a node as a number: its own bound on log bytes that are received and not yet stored (log-budget.ts). */
const logBudgetMiB = 64;

export const targets: readonly Target[] = [
  {
    question: "submit to the script's first byte at the SDK, p50",
    text: "≤ 1.6 × floor",
    judged: "ratio",
    bound: { most: 1.6 },
    ...design,
  },
  {
    question: "submit to the script's first byte at the SDK, p99",
    text: "≤ 25 ms",
    judged: "figure",
    bound: { most: 25 },
    ...design,
  },
  {
    question: "no-op tasks submitted one by one, finished",
    text: "≥ 3,000/s",
    judged: "figure",
    bound: { least: 3_000 },
    ...design,
  },
  {
    question: "no-op tasks submitted by the hundred, finished",
    text: "≥ 6,000/s",
    judged: "figure",
    bound: { least: 6_000 },
    ...design,
  },
  {
    question: "memory of the node per idle agent",
    text: "≤ 1.2 × floor",
    judged: "ratio",
    bound: { most: 1.2 },
    ...design,
  },
  {
    question: "CPU of the node for 10,000 idle agents",
    text: "< 4 % of a core",
    judged: "figure",
    bound: { most: 4 },
    ...design,
  },
  ...([1_000, 5_000] as const).flatMap((agents) =>
    (["SIGTERM", "SIGKILL"] as const).flatMap((signal): Target[] => {
      const storm = `${agents.toLocaleString("en")} agents return after ${signal}`;
      return [
        {
          question: `${storm}: connects a second until 95 %`,
          text: "≥ 80 % of the floor",
          judged: "ratio",
          bound: { least: 0.8 },
          ...design,
        },
        { question: `${storm}: errors`, text: "none", judged: "figure", bound: { most: 0 }, ...design },
        {
          question: `${storm}: event loop delay, p99`,
          text: "< 200 ms",
          judged: "figure",
          bound: { most: 200 },
          ...design,
        },
      ];
    }),
  ),
  ...(["one script", "ten scripts"] as const).flatMap((scripts): Target[] => [
    {
      question: `log of ${scripts} into the database`,
      text: "≥ 40 MB/s",
      judged: "figure",
      bound: { least: mib(40) },
      ...design,
    },
    {
      question: `log of ${scripts}: memory grown, node`,
      text: `flat: ≤ ${logBudgetMiB} MiB, its budget for logs`,
      judged: "figure",
      bound: { most: logBudgetMiB },
      ...design,
    },
  ]),
  { question: "idle agent, resident", text: "≤ 75 MB", judged: "figure", bound: { most: mib(75) }, ...design },
  {
    question: "agent's start to its first dial, p50",
    text: "≤ 250 ms",
    judged: "figure",
    bound: { most: 250 },
    ...design,
  },
  ...(["sh", "bash"] as const).map((shell): Target => ({
    question: `empty scripts on one agent, ${shell}`,
    text: "≥ 0.6 of the floor",
    judged: "ratio",
    bound: { least: 0.6 },
    ...issue,
  })),
  {
    question: "pause of a log when its node is killed, p99",
    text: "< 1 s",
    judged: "figure",
    bound: { most: 1_000 },
    ...issue,
  },
  ...["p50", "p99"].flatMap((which): Target[] =>
    ["1,000", "1,000,000"].map((depth) => ({ question: `claim with ${depth} queued, ${which}`, ...flat })),
  ),
  ...[
    "submit of one task",
    "claim of one task",
    "tasks listed: newest",
    "tasks listed: older page",
    "tasks listed: of one agent",
    "tasks listed: succeeded",
    "tasks listed: failed",
    "tasks listed: queued",
    "tasks listed: running",
    "tasks listed: failed, of one agent",
  ].map((what): Target => ({ question: `${what}, beside a long history`, ...flat })),
];

export const absent: readonly Absent[] = [
  {
    text: "Service calls on one session: p50 ≤ 1.5 × a WebSocket echo, ≥ 30,000 calls/s",
    why: "the names of their messages are reserved, the calls are not built",
  },
  { text: "File transfer: ≥ 80 % of raw TLS, flat memory", why: "there is no transfer of files" },
];

export function targetOf(question: string): Target | undefined {
  return targets.find((target) => target.question === question);
}

/** Undefined when the row lacks what the target judges. */
export function isMet(
  target: Target,
  row: { readonly figure: { readonly median: number }; readonly ratio?: number | undefined },
): boolean | undefined {
  const seen = target.judged === "figure" ? row.figure.median : row.ratio;
  if (seen === undefined) return undefined;
  return "most" in target.bound ? seen <= target.bound.most : seen >= target.bound.least;
}
