import type { Commit } from '@holdfast/store'

/**
 * Somebody in the daemon who reads messages that devices publish, beside the routes: KubeEdge's device topics, the built-in
 * mapper for MQTT. Works alike over the node's own broker and over another one that edgecore is a client of.
 */
export interface MessageTaker {
  /**
   * It is not given what was retained before it listened: it takes requests, and these were met when they came; met again, they
   * would undo what came after them.
   */
  readonly ignoresRetained?: true
  /**
   * Called once per message, in the turn of the event loop in which the message's own commit is gathered. What it writes it
   * writes now. Returns what the acknowledgement waits for besides; undefined: nothing. Bad content is the taker's to answer,
   * never thrown. Throws HoldfastError `DISK_FULL`, `OUTBOX_FULL` or `STORE_FAILED` where nothing can be written now, having
   * written nothing: the message waits and is handed over again, or its connection ends without an acknowledgement.
   */
  take(topic: string, payload: Buffer): Commit | undefined
  /**
   * A subscriber asks for `filter`, or comes back with it in its session; `tell` sends to that subscriber alone, at QoS 0,
   * as long as it is there and reads.
   */
  subscribed?(filter: string, tell: (message: Pick<OutgoingMessage, 'topic' | 'payload'>) => void): void
}

export interface OutgoingMessage {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: 0 | 1
  readonly retain: boolean
}

/** The broker, as the parts of the daemon see it: the node's own one, or another. */
export interface MessageBus {
  /**
   * Hands messages of topics that match `filter` to `taker`, those that are retained now first, unless it ignores them. Returns
   * how to stop that.
   * Each taker gets a message once, whatever number of its filters match.
   */
  listen(filter: string, taker: MessageTaker): () => void
  /**
   * To all subscribers. At QoS 0 at most once, and nothing is stored unless it is retained. Topics are the caller's to check.
   * The node's own broker does not give it to takers; over another one it may come back.
   */
  publish(message: OutgoingMessage): void
}
