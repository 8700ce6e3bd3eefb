// WebSocket close codes of the protocol (4000–4999 are for applications, RFC 6455 7.4.2) and what the agent does about each.

export const closeCode = {
  /** The peer goes away in an orderly way: dial again. */
  goingAway: 1001,
  /** A frame of an unknown type or a violation of the protocol's order. */
  protocolError: 1002,
  /** Pre-scan or schema refused a frame. */
  invalidFrame: 1007,
  tooLarge: 1009,
  /** A newer session of the same pair took over: do not dial again for this one. */
  replaced: 4001,
  /** Boot pair or journal is superseded by a newer one (DESIGN 4.7). */
  superseded: 4002,
  quarantined: 4003,
  /** Revoked or removed. */
  refused: 4004,
  /** No common protocol version. */
  unsupported: 4005,
  /** No frame within the silence limit. */
  silent: 4006,
  /** The node cannot judge right now (database away): try another node or later. */
  unavailable: 4007,
  /** The agent's certificate ended during the session. */
  expired: 4008,
} as const;
export type CloseCode = (typeof closeCode)[keyof typeof closeCode];
