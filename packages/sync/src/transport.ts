/**
 * A connection of the tunnel as both hosts see it: whole binary messages, in order. The WebSocket shells implement it,
 * and so does the simulated network.
 */
export interface Connection {
  /** Queues one message. Ignored after the close. */
  send(message: Buffer): void
  /** Closes with a WebSocket status code (RFC 6455 §7.4) and a reason; `onClose` follows. */
  close(code: number, reason: string): void
  /** Bytes received so far, whole messages or not: the sign of life. */
  readonly bytesReceived: number
}

export interface ConnectionEvents {
  onMessage(message: Buffer): void
  /** Once, and nothing follows. */
  onClose(reason: string): void
}

/** The edge's way out. `onOpen` or `onClose` follows. */
export interface Dialer {
  dial(events: ConnectionEvents & { onOpen(): void }): Connection
}

/** WebSocket status codes that the tunnel uses (RFC 6455 §7.4.1). */
export const closeCodes = { normal: 1000, goingAway: 1001, protocolError: 1002, policy: 1008, internalError: 1011 } as const
