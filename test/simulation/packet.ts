// What travels over a simulated connection: whole messages, or the bytes of their frames.

/** What one end of a WebSocket connection says to the other. */
export type Message =
  | { readonly kind: "frame"; readonly frame: Uint8Array }
  | { readonly kind: "ping" }
  | { readonly kind: "pong" }
  | { readonly kind: "close"; readonly code: number; readonly reason: string };

export type Packet = Message | { readonly kind: "bytes"; readonly bytes: Uint8Array } | { readonly kind: "reset" };

/** What of it counts against the kernel's buffer. */
export function sizeOf(packet: Packet): number {
  if (packet.kind === "bytes") return packet.bytes.length;
  return packet.kind === "frame" ? packet.frame.length : 0;
}
