import type { Duplex } from 'node:stream'
import { Aedes } from 'aedes'
import type { AedesOptions, AedesPublishPacket, Client } from 'aedes'
import { TwoGenerationCache, describeError, hasCode, inertFailpoint } from '@holdfast/runtime'
import type { Check, Clock, Failpoint, Log, Timer } from '@holdfast/runtime'
import { recordPayloadBytesMax } from '@holdfast/protos'
import type { Commit, Committer, OutboxLane, Store } from '@holdfast/store'
import type { RecordSink } from '../ingest.ts'
import type { MessageBus, MessageTaker, OutgoingMessage } from '../messages.ts'
import type { Resolution, Routes } from '../routes.ts'
import { AckQueue } from './ack-queue.ts'
import type { OnAcks, PublishDone } from './ack-queue.ts'
import { IngestBudget } from './ingest-budget.ts'
import { brokerLimits as limits } from './limits.ts'
import { PacketStream, closeReasons, tickMs } from './packet-stream.ts'
import type { CloseReason, PacketStreamHost, PacketStreamOptions } from './packet-stream.ts'
import { DurablePersistence } from './persistence.ts'
import type { DurableSubscription, PublishPacket } from './persistence.ts'
import { Takers } from './takers.ts'
import { clientIdIsValid, filterMatches, filterProblem, topicProblem } from './topic.ts'
import type { TopicProblem } from './topic.ts'

/** Values of the configuration's `mqtt` section; docs/limits.md says what happens at each. Defaults: limits.ts. */
export interface BrokerOptions {
  readonly packetBytesMax?: number
  readonly connectionsMax?: number
  readonly connectTimeoutMs?: number
  readonly pendingBytesMaxPerClient?: number
  readonly pendingBytesMax?: number
  readonly fullWaitMs?: number
  readonly keepaliveMaxMs?: number
  readonly subscriptionsMaxPerClient?: number
  readonly retainedCountMax?: number
  readonly retainedBytesMax?: number
  readonly sessionsMax?: number
  readonly sessionExpiryMs?: number
  readonly offlineQueueCountMax?: number
  readonly offlineQueueBytesMax?: number
  readonly outgoingBytesMaxPerClient?: number
}

export interface BrokerComponents {
  readonly store: Store
  readonly committer: Committer
  readonly sink: RecordSink
  readonly routes: Routes<OutboxLane>
  readonly clock: Clock
  readonly log: Log
  /** Milliseconds that the daemon has run, over all its starts. */
  readonly uptimeMs: () => number
  /** Told of acknowledgements: how many shared a commit, and how long the first of them waited. */
  readonly onAcks?: (count: number, latencyMs: number) => void
  /** Passes `puback:before` and `puback:after`. */
  readonly failpoint?: Failpoint
}

/** Plain numbers; whoever serves metrics reads them. */
export interface BrokerCounters {
  /** Publishes taken in, by QoS. */
  readonly publishes: [qos0: number, qos1: number, qos2: number]
  /** Publishes whose commit returned, QoS 0 included. */
  acknowledged: number
  /** QoS 2 publishes that repeated one that was there. */
  repeated: number
  /** No route, and nobody in the daemon who takes it; stayed local. */
  unrouted: number
  /** A route, but no device that could be named; stayed local. */
  badDevice: number
  /** Publishes and wills refused for their topic. */
  badTopic: number
  /** QoS 0 messages not sent to subscribers that did not read. */
  droppedToSlow: number
  /** Subscriptions answered with failure. */
  subscriptionsRefused: number
  /** Wills that could not be committed, and were not published. */
  willsLost: number
  connectionsAccepted: number
  readonly closed: Record<CloseReason, number>
}

/** The parts of aedes' client that are relied on; aedes is pinned, and broker.test.ts notices when they move. */
interface AedesClient extends Client {
  _parser: { parse(bytes: Buffer): void }
  _parsingBatch: number
  _nextBatch: (error?: Error | null) => void
  resume: () => void
}

interface HeldPublish {
  readonly clientId: string | undefined
  readonly packet: PublishPacket
  readonly bytes: number
  readonly done: PublishDone
}

/** Publishes of one client: a connection, or a will whose connection has gone. */
interface Publisher {
  readonly acks: AckQueue
  readonly stream: PacketStream | undefined
  /** Waiting for room in a full lane, in order. */
  readonly held: HeldPublish[]
  heldBytes: number
  heldSinceMs: number
  /** Acknowledgements on their way to the socket; counted for failpoints only. */
  unflushedAcks: number
}

interface Topic {
  readonly problem: TopicProblem | undefined
  readonly resolution: Resolution<OutboxLane>
  /** Durable filters that match, as of `version`. */
  subscriptions: readonly DurableSubscription[]
  version: number
  /** Those in the daemon who take its messages, as of `takersVersion`. */
  takers: readonly MessageTaker[]
  takersVersion: number
}

const retryMs = 100
const expiryTicks = Math.ceil(60_000 / tickMs)
/** 4 × this is the interval at which aedes looks for wills, and timers end at 2^31 ms; wills are published here. */
const heartbeatNeverMs = 500_000_000
const topicCache = { entriesMax: 8192, bytesMax: 4 * 1024 * 1024 }

/**
 * aedes whose `publish` only delivers to those who are connected. Its own stores the message first, by a chain of promises
 * for each; here that was done before, in the commit of `authorizePublish`.
 */
class DeliveringAedes extends Aedes {
  declare mq: { emit(packet: object, done: () => void): void }
  declare counter: number

  override publish(packet: Parameters<Aedes['publish']>[0], client: Client | null | DeliveryDone,
    done?: DeliveryDone): void {
    const { cmd, topic, payload, qos, retain, dup } = packet
    const from = typeof client === 'function' ? null : client
    const delivered = typeof client === 'function' ? client : done
    const message: DeliveredPacket = {
      cmd: cmd ?? 'publish', brokerId: this.id, brokerCounter: ++this.counter, topic, payload, qos: qos ?? 0,
      retain: retain ?? false, dup: dup ?? false
    }
    if (from !== null) message.clientId = from.id
    this.mq.emit(message, () => delivered?.())
  }
}

type DeliveryDone = (error?: Error) => void

interface DeliveredPacket {
  readonly cmd: 'publish'
  readonly brokerId: string
  readonly brokerCounter: number
  readonly topic: string
  readonly payload: string | Buffer
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
  readonly dup: boolean
  clientId?: string
}

/**
 * The MQTT broker of the node: aedes for the protocol, our own stream below it, our own persistence beside it.
 *
 * aedes acknowledges before it publishes and stores, so everything that must be durable happens in `authorizePublish`:
 * record, retained message, entries in the queues of persistent sessions and QoS 2 marker go into **one** commit, and aedes
 * hears of it when that commit is durable, in the order in which the client sent (L1, L4).
 */
export class Broker implements PacketStreamHost, MessageBus {
  readonly counters: BrokerCounters = {
    publishes: [0, 0, 0], acknowledged: 0, repeated: 0, unrouted: 0, badDevice: 0, badTopic: 0, droppedToSlow: 0,
    subscriptionsRefused: 0, willsLost: 0, connectionsAccepted: 0,
    closed: Object.fromEntries(closeReasons.map(reason => [reason, 0])) as Record<CloseReason, number>
  }
  readonly options: PacketStreamOptions
  readonly budget: IngestBudget
  readonly persistence: DurablePersistence
  outgoingBytes = 0
  readonly #aedes: DeliveringAedes
  readonly #components: BrokerComponents
  readonly #connectionsMax: number
  readonly #fullWaitMs: number
  readonly #subscriptionsMaxPerClient: number
  /** In the order of their arrival. */
  readonly #streams = new Map<PacketStream, Publisher>()
  /** Without a whole CONNECT packet, oldest first. */
  readonly #unopened = new Set<PacketStream>()
  readonly #lingering = new Set<PacketStream>()
  readonly #dirty: PacketStream[] = []
  #flushScheduled = false
  #endFlushScheduled = false
  #ownFlushed = false
  readonly #holding = new Set<Publisher>()
  #heldBytes = 0
  #retryTimer: Timer | undefined
  /** Wills of connections that have gone. */
  readonly #detached: Publisher
  #subscriptions = 0
  readonly #topics = new TwoGenerationCache<Topic>(topicCache)
  readonly #takers = new Takers()
  #willsPublished: Promise<void> | undefined
  #tickTimer: Timer | undefined
  #ticks = 0
  #stopping = false
  /** The store is being read again. */
  #suspended = false
  #closed = false
  readonly #onAcks: OnAcks
  readonly #nowMs: () => number
  /** Undefined where it is inert: nothing is paid for it then. */
  readonly #failpoint: Failpoint | undefined

  private constructor(options: BrokerOptions, components: BrokerComponents, persistence: DurablePersistence) {
    this.#components = components
    this.persistence = persistence
    this.#connectionsMax = options.connectionsMax ?? limits.connections.value
    this.#fullWaitMs = options.fullWaitMs ?? limits.fullWaitMs.value
    this.#subscriptionsMaxPerClient = options.subscriptionsMaxPerClient ?? limits.subscriptionsPerClient.value
    this.budget = new IngestBudget(options.pendingBytesMax ?? limits.pendingBytes.value)
    this.options = {
      packetBytesMax: options.packetBytesMax ?? limits.packetBytes.value,
      pendingBytesMaxPerClient: options.pendingBytesMaxPerClient ?? limits.pendingBytesPerClient.value,
      pendingPacketsMaxPerClient: limits.pendingPacketsPerClient.value,
      incompleteBytesMax: limits.incompleteBytes.value,
      keepaliveMaxMs: options.keepaliveMaxMs ?? limits.keepaliveMs.value,
      connectTimeoutMs: options.connectTimeoutMs ?? limits.connectTimeoutMs.value,
      packetTimeoutMs: limits.packetTimeoutMs.value,
      outgoingBytesMaxPerClient: options.outgoingBytesMaxPerClient ?? limits.outgoingBytesPerClient.value,
      outgoingBytesMax: limits.outgoingBytes.value,
      drainTimeoutMs: limits.drainTimeoutMs.value
    }
    this.#nowMs = () => components.clock.monotonicMs()
    this.#failpoint = components.failpoint === inertFailpoint ? undefined : components.failpoint
    this.#onAcks = (count, latencyMs, error) => {
      if (error !== undefined) return
      this.#flushAtEnd()
      this.counters.acknowledged += count
      components.onAcks?.(count, latencyMs)
    }
    this.#detached = {
      acks: new AckQueue(() => {}, () => {}), stream: undefined, held: [], heldBytes: 0, heldSinceMs: 0, unflushedAcks: 0
    }
    this.#aedes = new DeliveringAedes(this.#aedesOptions())
    // Set right after the event; what came behind CONNECT goes on from the microtask.
    this.#aedes.on('connackSent', (connack, client) => {
      if (connack.returnCode !== 0) return
      const stream = streamOf(client)
      const resumed = [...stream.subscriptions.keys()]
      queueMicrotask(() => {
        stream.accept()
        for (const filter of resumed) this.#subscribed(client, filter)
      })
    })
    this.#aedes.on('subscribe', (subscriptions, client) => {
      for (const { topic, qos } of subscriptions) if ((qos as number) !== subscriptionRefused) this.#subscribed(client, topic)
    })
    this.#aedes.on('unsubscribe', (filters, client) => {
      const stream = streamOf(client)
      for (const filter of filters) if (stream.subscriptions.delete(filter)) this.#subscriptions--
    })
    // One client's trouble is that client's; there is a counter for each reason.
    this.#aedes.on('clientError', () => {})
    this.#aedes.on('connectionError', () => {})
    // Untyped in aedes: trouble with what aedes does on its own.
    ;(this.#aedes as NodeJS.EventEmitter).on('error', (error: Error) => {
      components.log.error('broker: aedes reports an error', { error: error.message })
    })
  }

  /** Reads what is stored. Rejects with the store's errors. */
  static async open(options: BrokerOptions, components: BrokerComponents): Promise<Broker> {
    const persistence = await DurablePersistence.open({
      retainedCountMax: options.retainedCountMax ?? limits.retainedMessages.value,
      retainedBytesMax: options.retainedBytesMax ?? limits.retainedBytes.value,
      sessionsMax: options.sessionsMax ?? limits.sessions.value,
      sessionExpiryMs: options.sessionExpiryMs ?? limits.sessionExpiryMs.value,
      offlineQueueCountMax: options.offlineQueueCountMax ?? limits.offlineMessagesPerClient.value,
      offlineQueueBytesMax: options.offlineQueueBytesMax ?? limits.offlineBytesPerClient.value,
      offlineBytesMax: limits.offlineBytes.value,
      qos2MarkersMax: limits.qos2Markers.value
    }, components)
    const broker = new Broker(options, components, persistence)
    await broker.#aedes.listen()
    broker.#tick()
    return broker
  }

  get connections(): number { return this.#streams.size }
  get subscriptions(): number { return this.#subscriptions }

  /** Whether a new connection is taken, or the reason why not. */
  get ready(): ReturnType<Check> {
    if (this.#stopping) return { reason: 'the broker stops' }
    if (this.#suspended) return { reason: 'the database is being read again after a failed write' }
    if (this.#streams.size < this.#connectionsMax) return 'ok'
    return { reason: `${this.#streams.size} connections, as many as mqtt.connectionsMax allows` }
  }

  /**
   * Takes over a connection: TCP now, TLS or a WebSocket's stream alike. `transport` is owned by the broker from here on.
   */
  accept(transport: Duplex): void {
    if (this.#stopping || this.#suspended || this.#streams.size >= this.#connectionsMax) {
      this.counters.closed[this.#stopping ? 'stopping' : this.#suspended ? 'store-failed' : 'too-many-connections']++
      transport.on('error', () => {})
      transport.destroy()
      return
    }
    this.counters.connectionsAccepted++
    const stream = new PacketStream(transport, this)
    this.#streams.set(stream, { acks: stream.acks, stream, held: [], heldBytes: 0, heldSinceMs: 0, unflushedAcks: 0 })
    this.#unopened.add(stream)
    if (this.#unopened.size > limits.unopenedConnections.value) {
      const [oldest] = this.#unopened
      oldest!.closeFor('connect-timeout')
    }
  }

  /**
   * Publishes the wills of connections that ended with the last process: once, after those in the daemon who take them
   * listen, and before anybody can connect, so that no device is reported gone after it has come back.
   */
  publishWills(): Promise<void> {
    this.#willsPublished ??= this.#publishOrphanedWills()
    return this.#willsPublished
  }

  /** Retained messages are searched through at once where `filter` has wildcards. */
  listen(filter: string, taker: MessageTaker): () => void {
    const stop = this.#takers.add(filter, taker)
    if (taker.ignoresRetained === true) return stop
    for (const { topic } of this.persistence.retainedMatching(filter)) {
      if (!this.#giveRetained(taker, topic)) this.#takers.giveLater(taker, topic)
    }
    if (this.#takers.waiting.size > 0) this.#retryLater()
    return stop
  }

  /**
   * Publishes for the daemon itself, stored like a client's: retained messages and queues of persistent sessions are
   * durable when `done` is called. Not for those in the daemon who listen. Topics are the caller's to check.
   */
  publish(message: Omit<OutgoingMessage, 'qos'> & { readonly qos: 0 | 1 | 2 },
    done: (error?: Error | null) => void = () => {}): void {
    if (this.#closed) {
      done(new Error('the broker is closed'))
      return
    }
    const own = { ...message, payload: Buffer.from(message.payload), cmd: 'publish' as const, dup: false }
    const subscriptions = own.qos === 0 ? [] : this.persistence.match(own.topic)
    const commit = own.retain || subscriptions.length > 0 ? this.#gather(own) : undefined
    if (commit !== undefined) {
      if (own.retain && !this.persistence.putRetained(commit, own)) this.persistence.counters.retainedRefused++
      this.persistence.enqueue(commit, subscriptions, own)
    }
    const go = (error?: Error | null): void => {
      if (error) done(error)
      else {
        this.#aedes.publish(own, published => {
          this.#flushFirstOwn()
          done(published)
        })
      }
    }
    if (commit === undefined) go()
    else commit.onDurable(go)
  }

  /**
   * Goes on with a store that was opened anew after a failed write: what was in memory may be ahead of it. All
   * connections end, unacknowledged as they are, and new ones are taken when everything has been read again.
   */
  async reopen(store: Store): Promise<void> {
    this.#suspended = true
    for (const stream of this.#streams.keys()) stream.closeFor('store-failed')
    await this.persistence.reopen(store)
    this.#suspended = false
  }

  /** Stops reading, finishes what waits for a commit, publishes wills, closes all connections. */
  async close(): Promise<void> {
    this.#stopping = true
    for (const stream of this.#streams.keys()) stream.mute()
    await this.#settled()
    await this.#components.committer.flush()
    for (const stream of this.#streams.keys()) stream.closingFor('stopping')
    await new Promise<void>(resolve => { this.#aedes.close(resolve) })
    for (const stream of this.#streams.keys()) stream.closeFor('stopping')
    // Wills, ends of sessions and deletions that ride in commits of their own.
    await this.#components.committer.flush()
    this.#closed = true
    this.#tickTimer?.cancel()
    this.#retryTimer?.cancel()
    this.#giveUp(this.#detached)
    while (this.#lingering.size > 0) {
      for (const stream of this.#lingering) if (!stream.linger()) this.#lingering.delete(stream)
      if (this.#lingering.size > 0) await new Promise<void>(resolve => { this.#components.clock.after(tickMs, resolve) })
    }
  }

  /** Waits until no publish waits for a commit; those that wait for room in a lane are not waited for. */
  async #settled(): Promise<void> {
    for (const [stream, publisher] of this.#streams) {
      if (publisher.held.length > 0) stream.closeFor('stopping')
    }
    await this.#components.committer.flush()
  }

  // ── for the streams ────────────────────────────────────────────────────────────────────────────────────────────────

  open(stream: PacketStream): (bytes: Buffer) => void {
    this.#unopened.delete(stream)
    const client = this.#aedes.handle(stream) as unknown as AedesClient
    // As after its first read: the packet to come is the first.
    client._parsingBatch = 0
    // aedes reads its stream from here, once a packet is done; ours hands bytes on, and only needs to know.
    client._nextBatch = error => {
      if (error) client.emit('error', error)
      else stream.packetDone()
    }
    client.resume = () => {}
    const parser = client._parser
    return bytes => { parser.parse(bytes) }
  }

  closed(stream: PacketStream, reason: CloseReason): void {
    const publisher = this.#streams.get(stream)
    if (publisher === undefined) return
    this.#streams.delete(stream)
    this.#unopened.delete(stream)
    this.#lingering.add(stream)
    this.counters.closed[reason]++
    this.#subscriptions -= stream.subscriptions.size
    stream.subscriptions.clear()
    this.#giveUp(publisher)
    if (stream.sessionId !== undefined) this.persistence.leaveSession(stream.sessionId, stream)
  }

  flushSoon(stream: PacketStream): void {
    this.#dirty.push(stream)
    if (this.#flushScheduled) return
    this.#flushScheduled = true
    this.#components.clock.soon(() => {
      this.#flushScheduled = false
      this.#flush()
    })
  }

  /** The first message of the daemon's own in a turn goes at once: somebody waits for it. More of them go together. */
  #flushFirstOwn(): void {
    if (this.#ownFlushed) return
    this.#ownFlushed = true
    this.#components.clock.soon(() => { this.#ownFlushed = false })
    this.#flushAtEnd()
  }

  /** What is written in this task goes at its end: an acknowledgement before what else follows from its commit. */
  #flushAtEnd(): void {
    if (this.#endFlushScheduled) return
    this.#endFlushScheduled = true
    queueMicrotask(() => {
      this.#endFlushScheduled = false
      this.#flush()
    })
  }

  #flush(): void {
    for (const dirty of this.#dirty.splice(0)) {
      dirty.flush()
      if (this.#failpoint !== undefined) this.#passFlushed(dirty, this.#failpoint)
    }
  }

  #tick(): void {
    if (this.#closed) return
    for (const stream of this.#streams.keys()) stream.tick()
    for (const stream of this.#lingering) if (!stream.linger()) this.#lingering.delete(stream)
    if (++this.#ticks % expiryTicks === 0) this.persistence.expireSessions()
    this.#tickTimer = this.#components.clock.after(tickMs, () => this.#tick())
  }

  // ── publishing ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Also for wills: of a client that has gone, or of nobody. */
  #authorizePublish(client: Client | null, packet: PublishPacket, done: PublishDone): void {
    // Only what a parser gave has a length; a will has none.
    if (client === null || packet.length === undefined) {
      this.#take(this.#detached, { clientId: undefined, packet, bytes: 0, done })
      return
    }
    const stream = streamOf(client)
    const publisher = this.#streams.get(stream)
    if (publisher === undefined) done(new Error('the connection is closed'))
    else this.#take(publisher, { clientId: client.id, packet, bytes: stream.enter(packet.length), done })
  }

  #take(publisher: Publisher, publish: HeldPublish): void {
    if (publisher.held.length > 0 || !this.#commit(publisher, publish)) this.#hold(publisher, publish)
  }

  /** False where the lane is full, or the disk: nothing was done then. */
  #commit(publisher: Publisher, publish: HeldPublish): boolean {
    const { packet, clientId } = publish
    const { qos } = packet
    const topic = this.#topic(packet.topic)
    const problem = topic.problem !== undefined ? 'bad-topic' : packet.payload.length > recordPayloadBytesMax ? 'too-large'
      : qos > 0 && packet.messageId === 0 ? 'malformed' : undefined
    if (problem !== undefined) {
      if (problem === 'bad-topic') this.counters.badTopic++
      this.#refuse(publisher, publish, problem)
      return true
    }
    if (qos === 2 && clientId !== undefined) {
      const state = this.persistence.qos2State(clientId, packet)
      if (state === 'full') this.#refuse(publisher, publish, 'too-many-qos2')
      if (state === 'repeated') {
        this.counters.repeated++
        this.#acknowledge(publisher, publish, this.persistence.awaitQos2(clientId, packet.messageId!))
      }
      if (state !== 'new') return true
    }
    if (packet.retain === true && qos > 0 && !this.persistence.hasRoomForRetained(packet)) {
      this.persistence.counters.retainedRefused++
      this.#refuse(publisher, publish, 'retained-full')
      return true
    }
    let commit: Commit | undefined
    if (topic.resolution.kind === 'record') {
      try {
        commit = this.#components.sink.gather(topic.resolution.lane, packet.topic.length + packet.payload.length)
      } catch (error) {
        if (hasCode(error, 'OUTBOX_FULL') || hasCode(error, 'DISK_FULL')) return false
        // A client comes back and sends again; a will has only this chance, and the database is open again in a moment.
        if (publisher.stream === undefined) return false
        this.#refuse(publisher, publish, 'store-failed')
        return true
      }
    }
    let taken: Set<Commit> | undefined
    const takers = topic.takersVersion === this.#takers.version ? topic.takers : this.#takersOf(packet.topic, topic)
    if (takers.length > 0) {
      const outcome = this.#give(takers, packet)
      if (outcome === 'no-room' || (outcome === 'store-failed' && publisher.stream === undefined)) return false
      if (typeof outcome === 'string') {
        this.#refuse(publisher, publish, outcome)
        return true
      }
      if (outcome.size > 0) taken = outcome
    }
    if (packet.retain === true) {
      commit ??= this.#gather(packet)
      if (!this.persistence.putRetained(commit, packet)) this.persistence.counters.retainedRefused++
    }
    if (qos > 0 && this.persistence.hasDurableSubscriptions) {
      const subscriptions = this.#durableSubscriptions(packet.topic, topic)
      if (subscriptions.length > 0) {
        commit ??= this.#gather(packet)
        this.persistence.enqueue(commit, subscriptions, packet)
      }
    }
    if (qos === 2 && clientId !== undefined) {
      // Where the record is urgent and what was taken is not: the marker goes with the later one, so that neither is lost.
      const last = taken === undefined ? commit ??= this.#gather(packet) : this.#gather(packet)
      this.persistence.putQos2(last, clientId, packet)
      taken?.add(last)
    }
    this.counters.publishes[qos]++
    switch (topic.resolution.kind) {
      case 'record':
        this.#components.sink.append(commit!, topic.resolution.lane, topic.resolution.topic, packet.payload as Buffer)
        break
      case 'unrouted': if (takers.length === 0) this.counters.unrouted++; break
      case 'bad-device': this.counters.badDevice++; break
      case 'local': break
    }
    if (taken === undefined) {
      this.#acknowledge(publisher, publish, commit)
      return true
    }
    if (commit !== undefined) taken.add(commit)
    const [only] = taken
    if (taken.size === 1) this.#acknowledge(publisher, publish, only)
    else publisher.acks.addAll(taken, publish.bytes, this.#ackOf(publisher, publish), this.#nowMs, this.#onAcks)
    return true
  }

  #acknowledge(publisher: Publisher, publish: HeldPublish, commit: Commit | undefined): void {
    const done = this.#ackOf(publisher, publish)
    if (commit === undefined) publisher.acks.addSettled(publish.bytes, done, this.#onAcks)
    else publisher.acks.add(commit, publish.bytes, done, this.#nowMs, this.#onAcks)
  }

  #ackOf(publisher: Publisher, publish: HeldPublish): PublishDone {
    return this.#failpoint === undefined || publish.packet.qos === 0 ? publish.done
      : passing(publisher, publish.done, this.#failpoint)
  }

  #passFlushed(stream: PacketStream, failpoint: Failpoint): void {
    const publisher = this.#streams.get(stream)
    while (publisher !== undefined && publisher.unflushedAcks > 0) {
      publisher.unflushedAcks--
      failpoint('puback:after')
    }
  }

  #gather(packet: PublishPacket): Commit {
    return this.#components.committer.gather({ bytes: packet.topic.length + packet.payload.length })
  }

  #topic(name: string): Topic {
    const known = this.#topics.get(name)
    if (known !== undefined) return known
    const problem = topicProblem(name, topicBounds)
    const topic: Topic = {
      problem,
      resolution: problem === undefined ? this.#components.routes.resolve(name) : { kind: 'local' },
      subscriptions: [],
      version: -1,
      takers: [],
      takersVersion: -1
    }
    this.#topics.set(name, topic, name.length)
    return topic
  }

  #durableSubscriptions(name: string, topic: Topic): readonly DurableSubscription[] {
    const version = this.persistence.durableVersion
    if (topic.version !== version) {
      topic.version = version
      topic.subscriptions = this.persistence.match(name)
    }
    return topic.subscriptions
  }

  // ── those in the daemon who take messages ──────────────────────────────────────────────────────────────────────────

  #takersOf(name: string, topic: Topic): readonly MessageTaker[] {
    topic.takersVersion = this.#takers.version
    topic.takers = this.#takers.match(name)
    return topic.takers
  }

  /**
   * What the acknowledgement waits for. `no-room`: nothing was written. `store-failed`: perhaps by some of them.
   * `not-taken`: one of them broke.
   */
  #give(takers: readonly MessageTaker[], { topic, payload }: PublishPacket):
    Set<Commit> | 'no-room' | 'store-failed' | 'not-taken' {
    const commits = new Set<Commit>()
    const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload
    for (const [i, taker] of takers.entries()) {
      try {
        const commit = taker.take(topic, bytes)
        if (commit !== undefined) commits.add(commit)
      } catch (error) {
        const full = hasCode(error, 'DISK_FULL') || hasCode(error, 'OUTBOX_FULL')
        // Those before this one are not given the same message twice: its sender sends it again.
        if (full || hasCode(error, 'STORE_FAILED')) return full && i === 0 ? 'no-room' : 'store-failed'
        this.#components.log.error('broker: a message could not be taken', { topic, error: describeError(error) })
        return 'not-taken'
      }
    }
    if (this.#takers.waiting.size > 0) this.#takers.given(topic)
    return commits
  }

  /** False where nothing can be written now. */
  #giveRetained(taker: MessageTaker, topic: string): boolean {
    const packet = this.persistence.retained(topic)
    const outcome = packet === undefined ? undefined : this.#give([taker], packet)
    return outcome !== 'no-room' && outcome !== 'store-failed'
  }

  #subscribed(client: Client, filter: string): void {
    const stream = streamOf(client)
    for (const taker of this.#takers.all()) {
      taker.subscribed?.(filter, ({ topic, payload }) => {
        if (!stream.subscriptions.has(filter)) return
        client.publish({ cmd: 'publish', topic, payload, qos: 0, retain: false, dup: false }, () => {})
      })
    }
  }

  /** MQTT 3.1.1 has no way to refuse one message: the connection ends without an acknowledgement. */
  #refuse(publisher: Publisher, publish: HeldPublish, reason: CloseReason): void {
    publisher.acks.discard(publish.bytes)
    if (publisher.stream === undefined) this.counters.willsLost++
    else publisher.stream.closeFor(reason)
    publish.done(new Error(reason))
  }

  // ── a full lane ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Waits for room, behind what this client sent before; others go on. */
  #hold(publisher: Publisher, publish: HeldPublish): void {
    if (this.#fullWaitMs === 0 || this.#heldBytes + publish.bytes > limits.heldBytes.value) {
      this.#refuse(publisher, publish, 'outbox-full')
      return
    }
    if (publisher.held.length === 0) {
      publisher.heldSinceMs = this.#nowMs()
      this.#holding.add(publisher)
    }
    publisher.held.push(publish)
    this.#heldBytes += publish.bytes
    this.budget.release(publish.bytes)
    this.#retryLater()
  }

  #retryLater(): void { this.#retryTimer ??= this.#components.clock.after(retryMs, () => this.#retry()) }

  #retry(): void {
    this.#retryTimer = undefined
    this.#takers.giveWaiting((taker, topic) => this.#giveRetained(taker, topic))
    for (const publisher of this.#holding) {
      let stuck = false
      while (!stuck) {
        const publish = publisher.held.shift()
        if (publish === undefined) break
        this.#unhold(publish)
        stuck = !this.#commit(publisher, publish)
        if (!stuck) {
          publisher.heldSinceMs = this.#nowMs()
          continue
        }
        publisher.held.unshift(publish)
        this.#heldBytes += publish.bytes
        this.budget.release(publish.bytes)
      }
      if (publisher.held.length === 0) this.#holding.delete(publisher)
      else if (this.#nowMs() - publisher.heldSinceMs >= this.#fullWaitMs) {
        if (publisher.stream === undefined) this.#giveUp(publisher)
        else publisher.stream.closeFor('outbox-full')
      }
    }
    if (this.#holding.size > 0 || this.#takers.waiting.size > 0) this.#retryLater()
  }

  #unhold(publish: HeldPublish): void {
    this.#heldBytes -= publish.bytes
    this.budget.bytes += publish.bytes
  }

  /** What waits for room is not acknowledged. */
  #giveUp(publisher: Publisher): void {
    this.#holding.delete(publisher)
    for (const publish of publisher.held.splice(0)) {
      this.#unhold(publish)
      publisher.acks.discard(publish.bytes)
      if (publisher.stream === undefined) this.counters.willsLost++
      publish.done(new Error('outbox-full'))
    }
  }

  // ── what aedes asks ────────────────────────────────────────────────────────────────────────────────────────────────

  #aedesOptions(): AedesOptions {
    return {
      persistence: this.persistence,
      // mqemitter's slots: a message holds one until each of its subscribers took it, so that a hundred stuck subscribers
      // would stop everybody. None here; what is on its way is bounded by #authorizeForward.
      concurrency: 0,
      // For packets before CONNACK, which our stream keeps back.
      queueLimit: 1,
      // Bounded over all clients in #commit, before anything is stored; aedes would count after that.
      maxInflightInbound: 0,
      heartbeatInterval: heartbeatNeverMs,
      connectTimeout: this.options.connectTimeoutMs,
      drainTimeout: this.options.drainTimeoutMs,
      preConnect: (client, packet, done) => {
        const stream = streamOf(client)
        stream.anonymous = packet.clientId === ''
        const { will } = packet
        if (will !== undefined && topicProblem(will.topic, topicBounds) !== undefined) {
          this.counters.badTopic++
          stream.closeFor('bad-topic')
          done(new Error('will topic'), false)
          return
        }
        done(null, true)
      },
      authenticate: (client, _username, _password, done) => this.#openSession(client, done),
      authorizePublish: (client, packet, done) => this.#authorizePublish(client, packet, done),
      authorizeSubscribe: (client, subscription, done) => {
        done(null, this.#grant(streamOf(client), subscription) ? { ...subscription, qos: 2 } : null)
      },
      authorizeForward: (client, packet) => this.#authorizeForward(client, packet)
    }
  }

  #openSession(client: Client, done: (error: ConnackError | null, success: boolean | null) => void): void {
    const stream = streamOf(client)
    const refuse = (returnCode: number, text: string): void => {
      stream.closingFor('refused')
      done(Object.assign(new Error(text), { returnCode }), null)
    }
    // [MQTT-3.1.3-8]: without an identifier only a clean session.
    if ((stream.anonymous && !client.clean) || !clientIdIsValid(client.id, limits.clientIdLength.value)) {
      refuse(2, 'identifier rejected')
      return
    }
    const before = (this.#aedes as unknown as { clients: Record<string, Client | undefined> }).clients[client.id]
    if (before !== undefined) streamOf(before).closingFor('taken-over')
    if (client.clean) {
      done(null, true)
      return
    }
    this.persistence.openSession(client.id, stream, result => {
      if (result === 'refused' || result instanceof Error) {
        refuse(3, 'server unavailable')
        return
      }
      if (stream.destroyed) this.persistence.leaveSession(client.id, stream)
      stream.sessionId = client.id
      stream.sessionPresent = result === 'present'
      done(null, true)
    })
  }

  #grant(stream: PacketStream, subscription: { topic: string, qos: number }): boolean {
    const known = stream.subscriptions.has(subscription.topic)
    if (stream.destroyed || filterProblem(subscription.topic, topicBounds) !== undefined || (!known &&
      (stream.subscriptions.size >= this.#subscriptionsMaxPerClient || this.#subscriptions >= limits.subscriptions.value))) {
      this.counters.subscriptionsRefused++
      this.persistence.refuse(subscription as Parameters<DurablePersistence['refuse']>[0])
      return false
    }
    if (!known) this.#subscriptions++
    stream.subscriptions.set(subscription.topic, subscription.qos)
    return true
  }

  /**
   * Whether and at which QoS a message goes to a subscriber. One that does not read loses QoS 0 messages, and at a QoS 1
   * or 2 message its connection: with a persistent session the message is in its queue.
   */
  #authorizeForward(client: Client, packet: AedesPublishPacket): AedesPublishPacket | null {
    const stream = streamOf(client)
    if (stream.destroyed) return null
    // From the queue of a session that is being resumed; aedes waits for each to be taken.
    if (packet.messageId !== undefined) return packet
    // [MQTT-3.2.0-1]: nothing before CONNACK.
    if (!stream.accepted) return null
    const session = client.clean || packet.qos === 0 ? undefined : this.persistence.session(client.id)
    if (packet.qos > 0) {
      const queued = session?.byPayload(packet.payload)
      // Still to come, or already gone, with the rest of the queue.
      if (queued !== undefined && (session!.replaying || queued.sent)) return null
      packet.qos = queued?.message.qos ?? grantedQos(stream, packet)
    }
    if (stream.writableNeedDrain) {
      if (packet.qos === 0) this.counters.droppedToSlow++
      else stream.closeFor('slow-subscriber')
      return null
    }
    if (packet.qos > 0 && session !== undefined) {
      const messageId = session.freeMessageId()
      if (messageId === undefined) {
        stream.closeFor('slow-subscriber')
        return null
      }
      packet.messageId = messageId
    }
    return packet
  }

  /** All at once: what finds a full lane stays stored for the next start. */
  async #publishOrphanedWills(): Promise<void> {
    await Promise.all(this.persistence.orphanedWills().map(will => new Promise<void>(resolve => {
      const { clientId = '', brokerId = '', ...packet } = will
      const published = (error?: Error | null): void => {
        if (error) this.#components.log.warn('broker: a will is kept for the next start', { clientId, error: error.message })
        else void this.persistence.delWill({ id: clientId, brokerId }).catch(() => undefined)
        resolve()
      }
      this.#take(this.#detached, {
        clientId: undefined, packet, bytes: 0,
        done: error => {
          if (error) published(error)
          else this.#aedes.publish(packet as Parameters<Aedes['publish']>[0], published)
        }
      })
    })))
    await this.#components.committer.flush()
  }
}

type ConnackError = Parameters<Parameters<NonNullable<AedesOptions['authenticate']>>[3]>[0]

/** SUBACK's return code [MQTT-3.9.3-2]. */
const subscriptionRefused = 128

const topicBounds = { topicLengthMax: limits.topicLength.value, topicLevelsMax: limits.topicLevels.value }

/** The same acknowledgement with the failpoint before it, and a note that the one after its flush is due. */
function passing(publisher: Publisher, done: PublishDone, failpoint: Failpoint): PublishDone {
  return error => {
    if (error) {
      done(error)
      return
    }
    failpoint('puback:before')
    publisher.unflushedAcks++
    done(error)
  }
}

function streamOf(client: Client): PacketStream { return client.conn as PacketStream }

/** [MQTT-3.3.5-1]: the highest QoS of the filters that match, and not above that of the message. */
function grantedQos(stream: PacketStream, packet: AedesPublishPacket): 0 | 1 | 2 {
  let highest = 0
  for (const [filter, qos] of stream.subscriptions) {
    if (qos <= highest || !filterMatches(filter, packet.topic)) continue
    if (qos >= packet.qos) return packet.qos
    highest = qos
  }
  return highest as 0 | 1 | 2
}
