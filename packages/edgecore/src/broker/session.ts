import type { StoredMessage } from './persistence-format.ts'

/** A subscription as aedes hands it over; the last four are MQTT 5's and kept as they come. */
export interface Subscription {
  readonly topic: string
  readonly qos: 0 | 1 | 2
  readonly rh?: number
  readonly rap?: boolean
  readonly nl?: boolean
  readonly subscriptionIdentifier?: number
}

/** A message waiting for the acknowledgement of its subscriber. */
export interface QueuedMessage {
  /** Place in the queue, and in the key. */
  readonly sequence: number
  /** aedes' identity of the publish: broker id and counter. */
  readonly origin: string
  readonly brokerId: string
  readonly brokerCounter: number
  readonly message: Omit<StoredMessage, 'payload' | 'messageId' | 'released'> & { readonly payload: Buffer | string }
  readonly bytes: number
  /** Packet identifier; undefined: not sent so far. */
  messageId: number | undefined
  /** PUBREC was received. */
  released: boolean
  /** In the store. Before that it is not sent. */
  durable: boolean
  /** Sent over the present connection. */
  sent: boolean
  /** Sent before, perhaps over an earlier connection: it goes out with DUP [MQTT-3.3.1-1]. */
  attempted: boolean
}

export function originOf(brokerId: string, brokerCounter: number): string { return `${brokerId}/${brokerCounter}` }

/** What a persistent session holds in memory; all of it is in the store as well. */
export class Session {
  readonly clientId: string
  /** False for one made by the subscriptions of a client that never opened it. */
  stored = false
  /** The connection that holds it; undefined while the client is away. */
  owner: object | undefined
  /** The queue is being sent after CONNECT: live messages stay in the queue, so that order is kept. */
  replaying = false
  /** Uptime at which the client was last seen going away. */
  awaySinceUptimeMs = 0
  readonly subscriptions = new Map<string, Omit<Subscription, 'topic'>>()
  /** In order. */
  readonly queue = new Map<number, QueuedMessage>()
  queuedBytes = 0
  nextSequence = 1
  readonly #byOrigin = new Map<string, QueuedMessage>()
  /** By the payload, the one thing that aedes hands through unchanged from the publish to the delivery. */
  readonly #byPayload = new WeakMap<object, QueuedMessage>()
  readonly #byMessageId = new Map<number, QueuedMessage>()
  #lastMessageId = 0
  #onProgress: (() => void) | undefined

  constructor(clientId: string) { this.clientId = clientId }

  /** `payload` is that of the publish. */
  add(message: QueuedMessage, payload: Uint8Array | string): void {
    this.queue.set(message.sequence, message)
    this.#byOrigin.set(message.origin, message)
    if (typeof payload !== 'string') this.#byPayload.set(payload, message)
    if (typeof message.message.payload !== 'string') this.#byPayload.set(message.message.payload, message)
    if (message.messageId !== undefined) this.#byMessageId.set(message.messageId, message)
    this.queuedBytes += message.bytes
    this.nextSequence = Math.max(this.nextSequence, message.sequence + 1)
  }

  remove(message: QueuedMessage): void {
    this.queue.delete(message.sequence)
    if (this.#byOrigin.get(message.origin) === message) this.#byOrigin.delete(message.origin)
    this.#forgetMessageId(message)
    this.queuedBytes -= message.bytes
  }

  byOrigin(brokerId: string, brokerCounter: number): QueuedMessage | undefined {
    return this.#byOrigin.get(originOf(brokerId, brokerCounter))
  }

  /** Undefined as well where it has left the queue. */
  byPayload(payload: Uint8Array | string): QueuedMessage | undefined {
    const message = typeof payload === 'string' ? undefined : this.#byPayload.get(payload)
    return message !== undefined && this.queue.get(message.sequence) === message ? message : undefined
  }

  byMessageId(messageId: number): QueuedMessage | undefined { return this.#byMessageId.get(messageId) }

  setMessageId(message: QueuedMessage, messageId: number): void {
    this.#forgetMessageId(message)
    message.messageId = messageId
    this.#byMessageId.set(messageId, message)
  }

  /** About to be written. */
  markSent(message: QueuedMessage): void {
    message.sent = message.attempted = true
    this.#onProgress?.()
  }

  /** Resolves when a message is marked as sent, or the replay ends. */
  progress(): Promise<void> { return new Promise(resolve => { this.#onProgress = resolve }) }

  endReplay(): void {
    this.replaying = false
    this.#onProgress?.()
  }

  /** A packet identifier that no queued message uses [MQTT-2.3.1-2]; undefined where all are in use. */
  freeMessageId(): number | undefined {
    for (let tries = 0; tries < 65_535; tries++) {
      this.#lastMessageId = this.#lastMessageId % 65_535 + 1
      if (!this.#byMessageId.has(this.#lastMessageId)) return this.#lastMessageId
    }
    return undefined
  }

  #forgetMessageId(message: QueuedMessage): void {
    const { messageId } = message
    if (messageId !== undefined && this.#byMessageId.get(messageId) === message) this.#byMessageId.delete(messageId)
  }
}
