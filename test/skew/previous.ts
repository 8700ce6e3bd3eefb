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
  /** The newest migration it knows. */
  readonly schema: number;
}

export const previousVersions: readonly PreviousVersion[] = [
  {
    title: "before locks and secrets",
    commit: "d3265563580ccd7f0bea7283d9d41c92d7c7cfde",
    lacks: features,
    schema: 4,
  },
  {
    title: "before the cheap end of a script",
    commit: "7e60dbbe5cf7909fc867b5a582c6a32eaf98052b",
    lacks: ["user", "update"],
    schema: 7,
  },
];
