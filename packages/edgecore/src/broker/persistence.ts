import { hash } from 'node:crypto'
import { Readable } from 'node:stream'
import type { Clock } from '@holdfast/runtime'
import type { Commit, Committer, Store, StoreEntry } from '@holdfast/store'
import { FilterTrie } from './filter-trie.ts'
import { clientKey, decodeJson, decodeMarker, decodeMessage, encodeJson, encodeMarker, encodeMessage, readClientKey,
  retainedKey, tableRange, topicOfRetainedKey, uint16, uint64 } from './persistence-format.ts'
import { Session, originOf } from './session.ts'
import type { QueuedMessage, Subscription } from './session.ts'
import { filterMatches } from './topic.ts'

/** The parts of aedes' packets that are used here. */
export interface PublishPacket {
  cmd?: string
  topic: string
  payload: Buffer | string
  qos: 0 | 1 | 2
  retain?: boolean
  dup?: boolean
  messageId?: number | undefined
  brokerId?: string
  brokerCounter?: number
  clientId?: string
  /** Remaining length; only on what a parser gave. */
  length?: number
}

export interface ClientRef { readonly id: string, readonly brokerId?: string, readonly connecting?: boolean }

/** A filter of a persistent session that takes QoS 1 or 2. */
export interface DurableSubscription extends Subscription { readonly clientId: string }

export interface PersistenceOptions {
  readonly retainedCountMax: number
  readonly retainedBytesMax: number
  readonly sessionsMax: number
  readonly sessionExpiryMs: number
  readonly offlineQueueCountMax: number
  readonly offlineQueueBytesMax: number
  readonly offlineBytesMax: number
  readonly qos2MarkersMax: number
}

export interface PersistenceComponents {
  readonly store: Store
  readonly committer: Committer
  readonly clock: Pick<Clock, 'soon'>
  /** Milliseconds that the daemon has run, over all its starts. */
  readonly uptimeMs: () => number
}

/** What was given up to a bound; read by metrics. */
export interface PersistenceCounters {
  /** QoS 0 messages that were not retained, for lack of room. */
  retainedRefused: number
  /** Messages that a client which is away will not get. */
  offlineDropped: number
  sessionsExpired: number
  /** Entries that could not be read at open. */
  unreadable: number
}

interface Marker {
  /** Of topic and payload. */
  readonly hash: string
  /** The packet whose delivery is still to come; later ones with this identifier are repetitions. */
  owner: object | undefined
  durable: boolean
}

interface Will { readonly clientId: string, readonly brokerId: string, readonly packet: PublishPacket }

interface Retained { readonly packet: PublishPacket, readonly bytes: number }

/** Of a retained message in the store, before its payload; its topic is in the key. */
const retainedHeaderBytes = 6
/** Entries per turn while retained messages are searched. */
const searchStep = 1000

/**
 * What the broker remembers: retained messages, sessions with their subscriptions and queues, QoS 2 identifiers, wills.
 * Everything is in memory within stated bounds, and in the store; changes go through the committer, and a promise given
 * to aedes resolves when they are durable (L1). Where nothing has to be stored there is no commit.
 */
export class DurablePersistence {
  readonly counters: PersistenceCounters = { retainedRefused: 0, offlineDropped: 0, sessionsExpired: 0, unreadable: 0 }
  /** Set by aedes, through `setup`. */
  broker: { id: string } = { id: '' }
  readonly #options: PersistenceOptions
  readonly #components: PersistenceComponents
  #store: Store
  readonly #retained = new Map<string, Retained>()
  #retainedBytes = 0
  readonly #sessions = new Map<string, Session>()
  readonly #durableFilters = new FilterTrie<DurableSubscription>()
  #durableVersion = 0
  #offlineBytes = 0
  readonly #markers = new Map<string, Map<number, Marker>>()
  #markerCount = 0
  /** QoS 2 packets stored by `incomingStorePacket` itself. */
  readonly #incoming = new Map<string, Map<number, PublishPacket>>()
  readonly #wills = new Map<string, Map<string, Will>>()
  readonly #adding = new WeakMap<readonly Subscription[], Promise<void>>()
  readonly #refused = new WeakSet<Subscription>()
  readonly #committed = new WeakSet<object>()

  private constructor(options: PersistenceOptions, components: PersistenceComponents) {
    this.#options = options
    this.#components = components
    this.#store = components.store
  }

  /** Reads what is stored. Damaged entries are passed over and counted (L11). Rejects with the store's errors. */
  static async open(options: PersistenceOptions, components: PersistenceComponents): Promise<DurablePersistence> {
    const persistence = new DurablePersistence(options, components)
    await persistence.#load()
    return persistence
  }

  /** Goes on with a store that was opened anew: what the failed commit left behind counts, the rest is gone. */
  async reopen(store: Store): Promise<void> {
    this.#store = store
    for (const { clientId, subscriptions } of this.#sessions.values()) {
      for (const filter of subscriptions.keys()) this.#durableFilters.remove(filter, clientId)
    }
    for (const table of [this.#sessions, this.#retained, this.#markers, this.#incoming, this.#wills]) table.clear()
    this.#retainedBytes = this.#offlineBytes = this.#markerCount = 0
    await this.#load()
  }

  async setup(broker: { id: string }): Promise<void> { this.broker = broker }

  async destroy(): Promise<void> { await this.#components.committer.flush() }

  // ── for the broker ─────────────────────────────────────────────────────────────────────────────────────────────────

  get retainedCount(): number { return this.#retained.size }
  get retainedBytes(): number { return this.#retainedBytes }
  get sessionCount(): number { return this.#sessions.size }
  get offlineBytes(): number { return this.#offlineBytes }
  get qos2Count(): number { return this.#markerCount }
  /** Changes whenever `match` may answer differently. */
  get durableVersion(): number { return this.#durableVersion }
  get hasDurableSubscriptions(): boolean { return this.#durableFilters.size > 0 }

  /** Filters of persistent sessions that match `topic`, those of QoS 0 left out. */
  match(topic: string): DurableSubscription[] { return this.#durableFilters.match(topic) }

  session(clientId: string): Session | undefined { return this.#sessions.get(clientId) }

  /**
   * A client with a persistent session connects. `present` says whether one was there; `refused`: there are too many.
   * Calls back when the session is durable. `owner` holds it until it leaves, or another takes over.
   */
  openSession(clientId: string, owner: object, done: (result: 'present' | 'new' | 'refused' | Error) => void): void {
    const known = this.#sessions.get(clientId)
    if (known === undefined && this.#sessions.size >= this.#options.sessionsMax) { done('refused'); return }
    const session = known ?? this.#session(clientId)
    session.owner = owner
    session.replaying = true
    if (session.stored) { done('present'); return }
    session.stored = true
    const commit = this.#gather(64)
    this.#putSession(commit, session)
    commit.onDurable(error => done(error ?? (known === undefined ? 'new' : 'present')))
  }

  /** A client with a persistent session has gone; its time away begins. Rides in a later commit. */
  leaveSession(clientId: string, owner: object): void {
    const session = this.#sessions.get(clientId)
    if (session?.owner !== owner) return
    session.owner = undefined
    session.endReplay()
    session.awaySinceUptimeMs = this.#components.uptimeMs()
    if (session.stored) this.#putSession(this.#gather(64), session)
  }

  /** Forgets sessions whose clients have been away for too long. */
  expireSessions(): void {
    const now = this.#components.uptimeMs()
    for (const session of this.#sessions.values()) {
      if (session.owner !== undefined || now - session.awaySinceUptimeMs < this.#options.sessionExpiryMs) continue
      const commit = this.#gather(64)
      this.#dropSession(commit, session)
      this.#dropMarkers(commit, session.clientId)
      this.counters.sessionsExpired++
    }
  }

  /** Whether `putRetained` would take it. */
  hasRoomForRetained({ topic, payload }: PublishPacket): boolean {
    if (payload.length === 0) return true
    const known = this.#retained.get(topic)
    const payloadBytes = typeof payload === 'string' ? Buffer.byteLength(payload) : payload.length
    const grown = topic.length + retainedHeaderBytes + payloadBytes - (known?.bytes ?? 0)
    return (known !== undefined || this.#retained.size < this.#options.retainedCountMax) &&
      (grown <= 0 || this.#retainedBytes + grown <= this.#options.retainedBytesMax)
  }

  /** Retained messages that match `filter` now, as a publish has them. */
  retainedMatching(filter: string): PublishPacket[] {
    if (!filter.includes('+') && !filter.includes('#')) {
      const found = this.#retained.get(filter)
      return found === undefined ? [] : [found.packet]
    }
    const found: PublishPacket[] = []
    for (const [topic, { packet }] of this.#retained) if (filterMatches(filter, topic)) found.push(packet)
    return found
  }

  retained(topic: string): PublishPacket | undefined { return this.#retained.get(topic)?.packet }

  /**
   * Puts a retained message into `commit`, or deletes it where the payload is empty [MQTT-3.3.1-10]. False where there is
   * no room for it; nothing was put then.
   */
  putRetained(commit: Commit, packet: PublishPacket): boolean {
    const { topic } = packet
    const known = this.#retained.get(topic)
    if (!this.hasRoomForRetained(packet)) return false
    if (packet.payload.length === 0) {
      if (known === undefined) return true
      this.#retained.delete(topic)
      this.#retainedBytes -= known.bytes
      commit.del(retainedKey(topic))
      return true
    }
    const value = encodeMessage({
      topic: '', payload: packet.payload, qos: packet.qos, retain: true, messageId: 0, released: false
    })
    const bytes = topic.length + value.length
    this.#retainedBytes += bytes - (known?.bytes ?? 0)
    this.#retained.set(topic, {
      packet: { cmd: 'publish', topic, payload: value.subarray(6), qos: packet.qos, retain: true }, bytes
    })
    commit.put(retainedKey(topic), value)
    return true
  }

  /**
   * Puts `packet` into `commit` for each of the sessions, once per session however many of its filters match, at the
   * lower of both QoS. What passes a bound of a session's queue is dropped for that session, and counted.
   */
  enqueue(commit: Commit, subscriptions: readonly DurableSubscription[], packet: PublishPacket): void {
    if (subscriptions.length === 1) {
      const only = subscriptions[0]!
      this.#enqueueFor(commit, only.clientId, packet, only.qos)
      return
    }
    const highest = new Map<string, 0 | 1 | 2>()
    for (const { clientId, qos } of subscriptions) {
      if ((highest.get(clientId) ?? -1) < qos) highest.set(clientId, qos)
    }
    for (const [clientId, qos] of highest) this.#enqueueFor(commit, clientId, packet, qos)
  }

  /**
   * Where a QoS 2 publish stands. `repeated`: the same message came before under this identifier and PUBREL has not come
   * yet; `new`: anything else, also another message under an identifier that is in use (a client that lost its state:
   * taking it for a repetition would acknowledge and lose it). `full`: there are too many.
   *
   * A new one is marked in `commit`, together with its record.
   */
  qos2State(clientId: string, packet: PublishPacket): 'repeated' | 'new' | 'full' {
    const known = this.#markers.get(clientId)?.get(packet.messageId!)
    if (known !== undefined && known.hash === hashOf(packet)) return 'repeated'
    return known === undefined && this.#markerCount >= this.#options.qos2MarkersMax ? 'full' : 'new'
  }

  putQos2(commit: Commit, clientId: string, packet: PublishPacket): void {
    let markers = this.#markers.get(clientId)
    if (markers === undefined) {
      markers = new Map()
      this.#markers.set(clientId, markers)
    }
    const messageId = packet.messageId!
    if (!markers.has(messageId)) this.#markerCount++
    const marker: Marker = { hash: hashOf(packet), owner: packet, durable: false }
    markers.set(messageId, marker)
    this.#committed.add(packet)
    commit.put(clientKey('brokerQos2Marker', clientId, uint16(messageId)), encodeMarker(marker.hash))
    commit.onDurable(error => { if (error === undefined) marker.durable = true })
  }

  /**
   * For a repeated QoS 2 publish: undefined where its record is durable; else a commit that is not durable before it
   * (a repetition over a new connection, while the first commit is still on its way).
   */
  awaitQos2(clientId: string, messageId: number): Commit | undefined {
    const marker = this.#markers.get(clientId)?.get(messageId)
    if (marker === undefined || marker.durable) return undefined
    const commit = this.#gather(64)
    commit.put(clientKey('brokerQos2Marker', clientId, uint16(messageId)), encodeMarker(marker.hash))
    return commit
  }

  /** Wills of connections that earlier processes held, oldest process first. */
  orphanedWills(): PublishPacket[] {
    const found: PublishPacket[] = []
    for (const wills of this.#wills.values()) {
      for (const will of wills.values()) if (will.brokerId !== this.broker.id) found.push(will.packet)
    }
    return found
  }

  /** A subscription that was not granted, so that it is not stored with the others of its packet. */
  refuse(subscription: Subscription): void { this.#refused.add(subscription) }

  // ── retained messages, for aedes ───────────────────────────────────────────────────────────────────────────────────

  storeRetained(packet: PublishPacket): Promise<void> {
    const commit = this.#gather(packet.payload.length)
    const done = durable(commit)
    if (!this.putRetained(commit, packet)) this.counters.retainedRefused++
    else if (packet.payload.length > 0) {
      const stored = this.#retained.get(packet.topic)!
      this.#retained.set(packet.topic, { packet: { ...packet }, bytes: stored.bytes })
    }
    return done
  }

  createRetainedStream(filter: string): Readable { return this.createRetainedStreamCombi([filter]) }

  createRetainedStreamCombi(filters: readonly string[]): Readable { return Readable.from(this.#retainedOf(filters)) }

  async* #retainedOf(filters: readonly string[]): AsyncGenerator<PublishPacket> {
    for (const filter of filters) {
      if (!filter.includes('+') && !filter.includes('#')) {
        const found = this.#retained.get(filter)
        if (found !== undefined) yield found.packet
        continue
      }
      let searched = 0
      for (const [topic, { packet }] of this.#retained) {
        if (filterMatches(filter, topic)) yield packet
        // Others have their turn.
        if (++searched % searchStep === 0) await new Promise<void>(resolve => { this.#components.clock.soon(resolve) })
      }
    }
  }

  // ── subscriptions, for aedes ───────────────────────────────────────────────────────────────────────────────────────

  /**
   * aedes calls this once for each subscription of a packet, with all of them, before it knows which are granted. They
   * are stored once, when all have been decided, without those that were refused.
   */
  addSubscriptions(client: ClientRef, subscriptions: readonly Subscription[]): Promise<void> {
    const adding = this.#adding.get(subscriptions)
    if (adding !== undefined) return adding
    const added = Promise.resolve().then(() => {
      this.#adding.delete(subscriptions)
      const session = this.#session(client.id)
      const commit = this.#gather(64 * subscriptions.length)
      const done = durable(commit)
      if (!session.stored) {
        session.stored = true
        this.#putSession(commit, session)
      }
      for (const subscription of subscriptions) {
        if (this.#refused.has(subscription)) continue
        const stored = withoutTopic(subscription)
        this.#setSubscription(session, subscription.topic, stored)
        commit.put(subscriptionKey(client.id, subscription.topic), encodeJson(stored))
      }
      return done
    })
    this.#adding.set(subscriptions, added)
    return added
  }

  removeSubscriptions(client: ClientRef, filters: readonly string[]): Promise<void> {
    const session = this.#sessions.get(client.id)
    if (session === undefined || !filters.some(filter => session.subscriptions.has(filter))) return Promise.resolve()
    const commit = this.#gather(64 * filters.length)
    for (const filter of filters) {
      if (!session.subscriptions.delete(filter)) continue
      this.#durableFilters.remove(filter, client.id)
      commit.del(subscriptionKey(client.id, filter))
    }
    this.#durableVersion++
    return durable(commit)
  }

  async subscriptionsByClient(client: ClientRef): Promise<Subscription[]> {
    const session = this.#sessions.get(client.id)
    return session === undefined ? [] : [...session.subscriptions].map(([topic, rest]) => ({ topic, ...rest }))
  }

  async countOffline(): Promise<{ subsCount: number, clientsCount: number }> {
    let clientsCount = 0
    for (const session of this.#sessions.values()) if (session.subscriptions.size > 0) clientsCount++
    return { subsCount: this.#durableFilters.size, clientsCount }
  }

  subscriptionsByTopic(topic: string): Promise<DurableSubscription[]> {
    return Promise.resolve(this.match(topic))
  }

  /** A clean session begins: what was held for this client ends [MQTT-3.1.2-6]. QoS 2 markers go with `cleanIncoming`. */
  cleanSubscriptions(client: ClientRef): Promise<void> {
    const session = this.#sessions.get(client.id)
    if (session === undefined) return Promise.resolve()
    const commit = this.#gather(64)
    this.#dropSession(commit, session)
    return durable(commit)
  }

  getClientList(filter: string): Readable {
    return Readable.from([...this.#sessions.values()]
      .filter(session => session.subscriptions.has(filter)).map(session => session.clientId))
  }

  // ── messages on their way to subscribers, for aedes ────────────────────────────────────────────────────────────────

  outgoingEnqueue(subscription: { readonly clientId: string }, packet: PublishPacket): Promise<void> {
    const commit = this.#gather(packet.payload.length)
    this.#enqueueFor(commit, subscription.clientId, packet, 2)
    return durable(commit)
  }

  outgoingEnqueueCombi(subscriptions: readonly DurableSubscription[], packet: PublishPacket): Promise<void> {
    if (subscriptions.length === 0) return Promise.resolve()
    const commit = this.#gather(packet.payload.length * subscriptions.length)
    this.enqueue(commit, subscriptions, packet)
    return durable(commit)
  }

  /**
   * A message is about to be sent, or its PUBREL. Resolves when the packet may be written: for QoS 2, when the identifier
   * or the release is durable, since after a crash the same identifier must mean the same message; for QoS 1 at once.
   */
  outgoingUpdate(client: ClientRef, packet: PublishPacket): Promise<void> {
    const session = this.#sessions.get(client.id)
    if (session === undefined) return Promise.resolve()
    if (packet.cmd === 'pubrel') {
      const message = session.byMessageId(packet.messageId!)
      if (message === undefined) return Promise.resolve()
      session.markSent(message)
      if (message.released) return Promise.resolve()
      message.released = true
      return this.#rewrite(session, message)
    }
    const message = session.byPayload(packet.payload) ?? session.byOrigin(packet.brokerId ?? '', packet.brokerCounter ?? 0)
    if (message === undefined) return Promise.resolve()
    session.markSent(message)
    if (message.messageId === packet.messageId) return Promise.resolve()
    session.setMessageId(message, packet.messageId!)
    return message.message.qos < 2 ? Promise.resolve() : this.#rewrite(session, message)
  }

  /**
   * A subscriber has acknowledged. The entry's end rides in a later commit: sent once more after a crash, QoS 1 allows the
   * repetition, and for QoS 2 what is left is a PUBREL, which has no effect twice.
   */
  outgoingClearMessageId(client: ClientRef, packet: PublishPacket): Promise<PublishPacket | undefined> {
    const session = this.#sessions.get(client.id)
    const messageId = packet.messageId
    const message = messageId === undefined ? undefined : session?.byMessageId(messageId)
    if (session === undefined || message === undefined) return Promise.resolve(undefined)
    this.#drop(this.#gather(32), session, message)
    return Promise.resolve(packetOf(message))
  }

  /**
   * The queue in order. For a client that connects it goes on until nothing durable is left that has not been sent, and
   * `replaying` ends in the same turn; live messages are sent from then on. Identifiers are given out here, so that none
   * is in use twice.
   */
  outgoingStream(client: ClientRef): Readable {
    const session = this.#sessions.get(client.id)
    if (session === undefined) return Readable.from([])
    if (client.connecting !== true) return Readable.from([...session.queue.values()].map(packetOf))
    return Readable.from(replay(session), { highWaterMark: 1 })
  }

  // ── QoS 2 from publishers, for aedes ───────────────────────────────────────────────────────────────────────────────

  incomingStorePacket(client: ClientRef, packet: PublishPacket): Promise<void> {
    if (this.#committed.has(packet)) {
      const marker = this.#markers.get(client.id)?.get(packet.messageId!)
      if (marker?.owner === packet) marker.owner = undefined
      return Promise.resolve()
    }
    let packets = this.#incoming.get(client.id)
    if (packets === undefined) {
      packets = new Map()
      this.#incoming.set(client.id, packets)
    }
    const { cmd = 'publish', topic, payload, qos, retain = false, dup = false } = packet
    packets.set(packet.messageId!, { cmd, topic, payload, qos, retain, dup, messageId: packet.messageId })
    const commit = this.#gather(payload.length)
    commit.put(clientKey('brokerIncoming', client.id, uint16(packet.messageId!)),
      encodeMessage({ topic, payload, qos, retain, messageId: packet.messageId!, released: false }))
    return durable(commit)
  }

  /** Rejects for the packet that was marked and is still to be delivered; resolves for its repetitions and for PUBREL. */
  incomingGetPacket(client: ClientRef, packet: PublishPacket): Promise<PublishPacket | object> {
    const marker = this.#markers.get(client.id)?.get(packet.messageId!)
    if (marker !== undefined) return marker.owner === packet ? Promise.reject(noSuchPacket()) : Promise.resolve(marker)
    const stored = this.#incoming.get(client.id)?.get(packet.messageId!)
    return stored === undefined ? Promise.reject(noSuchPacket()) : Promise.resolve(stored)
  }

  /**
   * PUBREL has come. Resolves, and so PUBCOMP goes out, only when the deletion is durable: from PUBCOMP on the client may
   * use the identifier for a new message, which may have the very same content; a marker that came back after a crash
   * would take it for a repetition, and lose it.
   */
  incomingDelPacket(client: ClientRef, packet: PublishPacket): Promise<void> {
    const messageId = packet.messageId!
    const markers = this.#markers.get(client.id)
    if (markers?.delete(messageId) === true) {
      this.#markerCount--
      if (markers.size === 0) this.#markers.delete(client.id)
      const commit = this.#gather(32)
      commit.del(clientKey('brokerQos2Marker', client.id, uint16(messageId)))
      return durable(commit)
    }
    if (this.#incoming.get(client.id)?.delete(messageId) !== true) return Promise.reject(noSuchPacket())
    const commit = this.#gather(32)
    commit.del(clientKey('brokerIncoming', client.id, uint16(messageId)))
    return durable(commit)
  }

  /** Before CONNACK of a clean session, and when one ends. */
  cleanIncoming(client: ClientRef): Promise<void> {
    const incoming = this.#incoming.get(client.id)
    if (!this.#markers.has(client.id) && incoming === undefined) return Promise.resolve()
    const commit = this.#gather(64)
    this.#dropMarkers(commit, client.id)
    for (const messageId of incoming?.keys() ?? []) {
      commit.del(clientKey('brokerIncoming', client.id, uint16(messageId)))
    }
    this.#incoming.delete(client.id)
    return durable(commit)
  }

  // ── wills, for aedes ───────────────────────────────────────────────────────────────────────────────────────────────

  putWill(client: ClientRef, packet: PublishPacket): Promise<ClientRef> {
    const brokerId = this.broker.id
    packet.brokerId = brokerId
    packet.clientId = client.id
    let wills = this.#wills.get(client.id)
    if (wills === undefined) {
      wills = new Map()
      this.#wills.set(client.id, wills)
    }
    wills.set(brokerId, { clientId: client.id, brokerId, packet })
    const commit = this.#gather(packet.payload.length)
    commit.put(clientKey('brokerWill', client.id, Buffer.from(brokerId)),
      encodeMessage({ topic: packet.topic, payload: packet.payload, qos: packet.qos, retain: packet.retain ?? false,
        messageId: 0, released: false }))
    return durable(commit).then(() => client)
  }

  getWill(client: ClientRef): Promise<PublishPacket | undefined> {
    return Promise.resolve(this.#wills.get(client.id)?.get(client.brokerId ?? this.broker.id)?.packet)
  }

  /** Without a `brokerId`: the will of the present process. The deletion rides in a later commit. */
  delWill(client: ClientRef): Promise<PublishPacket | undefined> {
    const wills = this.#wills.get(client.id)
    const brokerId = client.brokerId ?? this.broker.id
    const will = wills?.get(brokerId)
    if (wills === undefined || will === undefined) return Promise.resolve(undefined)
    wills.delete(brokerId)
    if (wills.size === 0) this.#wills.delete(client.id)
    const commit = this.#gather(32)
    commit.del(clientKey('brokerWill', client.id, Buffer.from(brokerId)))
    return durable(commit).then(() => will.packet)
  }

  streamWill(brokers: Readonly<Record<string, unknown>> = {}): Readable {
    const found: PublishPacket[] = []
    for (const wills of this.#wills.values()) {
      for (const will of wills.values()) if (!Object.hasOwn(brokers, will.brokerId)) found.push(will.packet)
    }
    return Readable.from(found)
  }

  // ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  #gather(bytes: number): Commit { return this.#components.committer.gather({ bytes }) }

  #session(clientId: string): Session {
    let session = this.#sessions.get(clientId)
    if (session === undefined) {
      session = new Session(clientId)
      session.awaySinceUptimeMs = this.#components.uptimeMs()
      this.#sessions.set(clientId, session)
    }
    return session
  }

  #putSession(commit: Commit, session: Session): void {
    commit.put(clientKey('brokerSession', session.clientId), encodeJson({ awaySinceUptimeMs: session.awaySinceUptimeMs }))
  }

  #setSubscription(session: Session, topic: string, stored: Omit<Subscription, 'topic'>): void {
    session.subscriptions.set(topic, stored)
    const { qos, rh, rap, nl } = stored
    if (qos > 0) {
      this.#durableFilters.add(topic, session.clientId,
        { clientId: session.clientId, topic, qos, rh, rap, nl } as DurableSubscription)
    } else {
      this.#durableFilters.remove(topic, session.clientId)
    }
    this.#durableVersion++
  }

  #enqueueFor(commit: Commit, clientId: string, packet: PublishPacket, qosMax: 0 | 1 | 2): void {
    const session = this.#session(clientId)
    const qos = packet.qos < qosMax ? packet.qos : qosMax
    const { topic, retain = false } = packet
    const value = encodeMessage({ topic, payload: packet.payload, qos, retain: false, messageId: 0, released: false })
    const { offlineQueueCountMax, offlineQueueBytesMax, offlineBytesMax } = this.#options
    if (session.queue.size >= offlineQueueCountMax || session.queuedBytes + value.length > offlineQueueBytesMax ||
      this.#offlineBytes + value.length > offlineBytesMax) {
      this.counters.offlineDropped++
      return
    }
    const brokerId = packet.brokerId ?? ''
    const brokerCounter = packet.brokerCounter ?? 0
    const message: QueuedMessage = {
      sequence: session.nextSequence, origin: originOf(brokerId, brokerCounter), brokerId, brokerCounter,
      message: {
        topic, qos, retain,
        payload: typeof packet.payload === 'string' ? packet.payload : value.subarray(value.length - packet.payload.length)
      },
      bytes: value.length, messageId: undefined, released: false, durable: false, sent: false, attempted: false
    }
    session.add(message, packet.payload)
    this.#offlineBytes += message.bytes
    commit.put(outgoingKey(clientId, message.sequence), value)
    commit.onDurable(error => { if (error === undefined) message.durable = true })
  }

  #rewrite(session: Session, message: QueuedMessage): Promise<void> {
    const commit = this.#gather(message.bytes)
    const { messageId = 0, released } = message
    commit.put(outgoingKey(session.clientId, message.sequence), encodeMessage({ ...message.message, messageId, released }))
    return durable(commit)
  }

  #drop(commit: Commit, session: Session, message: QueuedMessage): void {
    session.remove(message)
    this.#offlineBytes -= message.bytes
    commit.del(outgoingKey(session.clientId, message.sequence))
  }

  #dropSession(commit: Commit, session: Session): void {
    const { clientId } = session
    for (const filter of session.subscriptions.keys()) {
      this.#durableFilters.remove(filter, clientId)
      commit.del(subscriptionKey(clientId, filter))
    }
    this.#durableVersion++
    for (const message of session.queue.values()) this.#drop(commit, session, message)
    commit.del(clientKey('brokerSession', clientId))
    this.#sessions.delete(clientId)
  }

  #dropMarkers(commit: Commit, clientId: string): void {
    for (const messageId of this.#markers.get(clientId)?.keys() ?? []) {
      this.#markerCount--
      commit.del(clientKey('brokerQos2Marker', clientId, uint16(messageId)))
    }
    this.#markers.delete(clientId)
  }

  async #load(): Promise<void> {
    await this.#each('brokerRetained', ({ key, value }) => {
      const stored = decodeMessage(value)
      if (stored === undefined) return false
      const topic = topicOfRetainedKey(key)
      const bytes = topic.length + value.length
      this.#retained.set(topic, { packet: { cmd: 'publish', topic, payload: stored.payload, qos: stored.qos, retain: true }, bytes })
      this.#retainedBytes += bytes
      return true
    })
    await this.#each('brokerSession', ({ key, value }) => {
      const stored = decodeJson(value) as { awaySinceUptimeMs?: unknown } | undefined
      if (typeof stored?.awaySinceUptimeMs !== 'number') return false
      const session = this.#session(readClientKey(key).clientId)
      session.stored = true
      // Who was connected when the process ended has been away since now.
      return true
    })
    await this.#each('brokerSubscription', ({ key, value }) => {
      const stored = decodeJson(value) as Omit<Subscription, 'topic'> | undefined
      if (stored === undefined || ![0, 1, 2].includes(stored.qos)) return false
      const { clientId, rest } = readClientKey(key)
      const session = this.#session(clientId)
      session.stored = true
      this.#setSubscription(session, rest.toString(), stored)
      return true
    })
    await this.#each('brokerOutgoing', ({ key, value }) => {
      const stored = decodeMessage(value)
      const { clientId, rest } = readClientKey(key)
      if (stored === undefined || rest.length !== 8) return false
      const session = this.#session(clientId)
      session.stored = true
      const sequence = Number(rest.readBigUInt64BE())
      const { topic, qos, retain, payload, messageId, released } = stored
      session.add({
        sequence, origin: originOf('', sequence), brokerId: '', brokerCounter: sequence,
        message: { topic, qos, retain, payload }, bytes: value.length, messageId: messageId === 0 ? undefined : messageId, released,
        durable: true, sent: false, attempted: messageId !== 0
      }, payload)
      this.#offlineBytes += value.length
      return true
    })
    await this.#each('brokerQos2Marker', ({ key, value }) => {
      const marker = decodeMarker(value)
      const { clientId, rest } = readClientKey(key)
      if (marker === undefined || rest.length !== 2) return false
      const markers = this.#markers.get(clientId) ?? new Map<number, Marker>()
      this.#markers.set(clientId, markers)
      markers.set(rest.readUInt16BE(), { hash: marker, owner: undefined, durable: true })
      this.#markerCount++
      return true
    })
    // A clean session ends with its connection, and so did its identifiers.
    for (const clientId of this.#markers.keys()) {
      if (!this.#sessions.has(clientId)) this.#dropMarkers(this.#gather(64), clientId)
    }
    await this.#each('brokerIncoming', ({ key, value }) => {
      const stored = decodeMessage(value)
      if (stored === undefined) return false
      const { clientId } = readClientKey(key)
      const packets = this.#incoming.get(clientId) ?? new Map<number, PublishPacket>()
      this.#incoming.set(clientId, packets)
      const { topic, payload, qos, retain, messageId } = stored
      packets.set(messageId, { cmd: 'publish', topic, payload, qos, retain, dup: false, messageId })
      return true
    })
    await this.#each('brokerWill', ({ key, value }) => {
      const stored = decodeMessage(value)
      if (stored === undefined) return false
      const { clientId, rest } = readClientKey(key)
      const brokerId = rest.toString()
      const wills = this.#wills.get(clientId) ?? new Map<string, Will>()
      this.#wills.set(clientId, wills)
      const { topic, payload, qos, retain } = stored
      wills.set(brokerId, { clientId, brokerId, packet: { topic, payload, qos, retain, brokerId, clientId } })
      return true
    })
  }

  /** A damaged entry has no say in whether the broker starts (L11). */
  async #each(table: Parameters<typeof tableRange>[0], read: (entry: StoreEntry) => boolean): Promise<void> {
    const { gte: first, lt } = tableRange(table)
    let gte = first
    for (;;) {
      const entries = await this.#store.scan({ gte, lt })
      for (const entry of entries) {
        let good = false
        try { good = read(entry) } catch { good = false }
        if (!good) this.counters.unreadable++
      }
      const last = entries.at(-1)
      if (last === undefined) return
      gte = Buffer.concat([last.key, Buffer.alloc(1)])
    }
  }
}

/**
 * What waits for a client that connects. aedes' pipeline asks for some messages more than it has written; the end waits
 * until the last one was, so that live messages stay behind.
 */
async function* replay(session: Session): AsyncGenerator<PublishPacket> {
  for (const message of session.queue.values()) message.sent = false
  const given = new Set<QueuedMessage>()
  let last: QueuedMessage | undefined
  for (;;) {
    for (const message of session.queue.values()) {
      if (!message.durable || given.has(message)) continue
      const messageId = message.messageId ?? session.freeMessageId()
      if (messageId === undefined) return
      given.add(message)
      last = message
      // A released message is a PUBREL, which has no DUP [MQTT-3.6.1-1].
      yield { ...packetOf(message), messageId, dup: message.attempted && !message.released }
    }
    if (last === undefined || last.sent || !session.queue.has(last.sequence)) break
    await session.progress()
    if (!session.replaying) return
  }
  session.replaying = false
}

function packetOf(message: QueuedMessage): PublishPacket {
  if (message.released) return { cmd: 'pubrel', messageId: message.messageId } as PublishPacket
  const { topic, payload, qos, retain } = message.message
  return {
    cmd: 'publish', topic, payload, qos, retain, dup: false,
    brokerId: message.brokerId, brokerCounter: message.brokerCounter,
    messageId: message.messageId
  }
}

function withoutTopic(subscription: Subscription): Omit<Subscription, 'topic'> {
  const { topic: _topic, ...rest } = subscription
  return rest
}

function subscriptionKey(clientId: string, filter: string): Buffer {
  return clientKey('brokerSubscription', clientId, Buffer.from(filter))
}

function outgoingKey(clientId: string, sequence: number): Buffer {
  return clientKey('brokerOutgoing', clientId, uint64(sequence))
}

/** 128 bits of SHA-256: a repetition is told from another message by it, for as long as one identifier is in use. */
function hashOf(packet: PublishPacket): string {
  const topic = Buffer.from(packet.topic)
  const payload = typeof packet.payload === 'string' ? Buffer.from(packet.payload) : packet.payload
  return hash('sha256', Buffer.concat([uint16(topic.length), topic, payload]), 'buffer').toString('latin1', 0, 16)
}

function noSuchPacket(): Error { return new Error('no such packet') }

function durable(commit: Commit): Promise<void> {
  return new Promise((resolve, reject) => {
    commit.onDurable(error => { if (error === undefined) resolve(); else reject(error) })
  })
}
