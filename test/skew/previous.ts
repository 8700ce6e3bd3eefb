// The earlier versions that today's code is run against, and what each does not know yet. Both speak protocol 1. One is named
// anew when a version is released, or when something changes that lives across two processes: a message, a spec field,
// the journal, the shim's files, the schema.

/** Each with the capability of a `hello` and the field or part of a submission that it stands for. */
export const features = ["isolation", "secrets", "interpreter-args", "attachments", "user", "update"] as const;
export type Feature = (typeof features)[number];

export interface PreviousVersion {
  readonly title: string;
  /** Whole, so that no other begins alike. */
  readonly commit: string;
  readonly lacks: readonly Feature[];
  /** A fault since mended: a node that was stopped while a heartbeat was under way could stay. */
  readonly stop: "ends" | "may-hang";
  /** The newest migration it knows. */
  readonly schema: number;
  /**
   * Of today's samples, what its code leaves out, by fields, or refuses, with a close code. Each is either harmless or not
   * sent to whoever has not named the capability.
   */
  readonly samples: Readonly<Record<string, readonly string[] | number>>;
}

const unknownType = 1002;
const invalidFrame = 1007;

export const previousVersions: readonly PreviousVersion[] = [
  {
    title: "before locks and secrets",
    commit: "d3265563580ccd7f0bea7283d9d41c92d7c7cfde",
    lacks: features,
    stop: "may-hang",
    schema: 4,
    samples: {
      "agent.hello-executable": ["host.executable"],
      "agent.log-timed": ["content.atMs"],
      "agent.progress": unknownType,
      "agent.result-outputs": ["items.0.record.outputs"],
      "node.cancel-abandoned": ["items.0.abandoned"],
      "node.offer-isolated": ["items.0.spec.isolation", "items.1.spec.isolation"],
      "node.offer-limits": ["items.0.spec.logBytesPerSecond"],
      "node.offer-secrets": ["items.0.secrets"],
      "node.offer-surroundings": ["items.0.spec.interpreterArgs", "items.0.spec.files"],
      "node.offer-update": invalidFrame,
      "node.offer-user": ["items.0.spec.user"],
      "node.settings": unknownType,
      "node.settings-own": unknownType,
      "node.welcome-capabilities": ["slots", "capabilities"],
      "node.welcome-slots": ["slots"],
    },
  },
  {
    title: "before the cheap end of a script",
    commit: "7e60dbbe5cf7909fc867b5a582c6a32eaf98052b",
    lacks: ["user", "update"],
    stop: "may-hang",
    schema: 7,
    samples: {
      "agent.hello-executable": ["host.executable"],
      "agent.progress": unknownType,
      "node.offer-update": invalidFrame,
      "node.offer-user": ["items.0.spec.user"],
      "node.welcome-capabilities": ["capabilities"],
    },
  },
];
