import { readFile } from 'node:fs/promises'
import { connect, isIP } from 'node:net'
import type { Duplex } from 'node:stream'
import { recordPayloadBytesMax } from '@holdfast/protos'
import { HoldfastError, TwoGenerationCache, backoffDelayMs, describeError, hasCode, wait } from '@holdfast/runtime'
import type { Check, Clock, Log, Random, Service } from '@holdfast/runtime'
import type { Commit, OutboxLane } from '@holdfast/store'
import type { IPublishPacket, MqttClient } from 'mqtt'
import { AckQueue } from '../broker/ack-queue.ts'
import type { OnAcks, PublishDone } from '../broker/ack-queue.ts'
import { brokerLimits } from '../broker/limits.ts'
import { Takers } from '../broker/takers.ts'
import { topicProblem } from '../broker/topic.ts'
import type { RecordSink } from '../ingest.ts'
import type { MessageBus, MessageTaker, OutgoingMessage } from '../messages.ts'
import type { Resolution, Routes } from '../routes.ts'
import { AckingStream } from './acking-stream.ts'
import { broadest, isCovered } from './filter-cover.ts'
import { externalBrokerLimits as limits } from './limits.ts'

export interface ExternalBrokerOptions {
  /** `mqtt://host:port` or `mqtts://host:port`. */
  readonly url: string
  /** Names the persistent session at the broker: the same at each start. */
  readonly clientId: string
  readonly username?: string | undefined
  /** File with the password; its last line end is not part of it. */
  readonly passwordFile?: string | undefined
  /** PEM of the CA that the broker's certificate is of; undefined: those that the system trusts. */
  readonly caFile?: string | undefined
  /** PEM of this client's certificate and key. */
  readonly certificateFile?: string | undefined
  readonly keyFile?: string | undefined
  readonly packetBytesMax: number
  /** Bytes of messages, topics included, that wait for their commit; past it nothing is read. */
  readonly pendingBytesMax: number
  /** Filters of the routes that become records. */
  readonly filters: readonly string[]
}

export interface ExternalBrokerComponents {
  readonly sink: RecordSink
  readonly routes: Routes<OutboxLane>
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Told of acknowledgements: how many shared a commit, and how long the first of them waited. */
  readonly onAcks?: (count: number, latencyMs: number) => void
}

/** Plain numbers; whoever serves metrics reads them. */
export interface ExternalBrokerCounters {
  /** Times that the broker took the connection. */
  connected: number
  /** Attempts that failed, and connections that ended without being asked to. */
  lost: number
  /** Messages taken in, by QoS. */
  readonly received: [qos0: number, qos1: number]
  /** Of these, those whose commit returned. */
  acknowledged: number
  /** No route; nobody but parts of the daemon took them. */
  unrouted: number
  badDevice: number
  badTopic: number
  /** Messages longer than `mqtt.packetBytesMax` or than a record: acknowledged, and not stored. */
  oversized: number
  /** Messages of the daemon that could not be sent. */
  outgoingDropped: number
  /** Filters that the broker refused. */
  subscriptionsRefused: number
}

interface Topic {
  readonly badTopic: boolean
  readonly resolution: Resolution<OutboxLane>
  takers: readonly MessageTaker[]
  takersVersion: number
}

/** One connection. */
interface Session {
  readonly client: MqttClient
  readonly stream: () => AckingStream | undefined
  readonly acks: AckQueue
  ready: boolean
  /** QoS 0 messages of the daemon that have not gone to the socket. */
  unsentBytes: number
  /** Monotonic time of the last sign of life that was sent while nothing was read. */
  pingedMs: number
}

const topicBounds = { topicLengthMax: brokerLimits.topicLength.value, topicLevelsMax: brokerLimits.topicLevels.value }
const topicCache = { entriesMax: 8192, bytesMax: 4 * 1024 * 1024 }
const retryMs = 100
const backoffBaseMs = 250
const stopGraceMs = 500

/**
 * Another MQTT broker, on the node or near it, that devices publish to; edgecore is a client of it.
 *
 * At least once: a persistent session, subscriptions at QoS 1, and PUBACK only when what the message became is durable (L1).
 * Messages that come together share a commit. What the broker has handed over and not got a PUBACK for it sends again, after
 * any end of the connection or of this process.
 */
export class ExternalBroker implements MessageBus, Service {
  readonly name = 'mqtt'
  readonly counters: ExternalBrokerCounters = {
    connected: 0, lost: 0, received: [0, 0], acknowledged: 0, unrouted: 0, badDevice: 0, badTopic: 0, oversized: 0,
    outgoingDropped: 0, subscriptionsRefused: 0
  }
  readonly #options: ExternalBrokerOptions
  readonly #components: ExternalBrokerComponents
  readonly #takers = new Takers()
  readonly #topics = new TwoGenerationCache<Topic>(topicCache)
  /** By parts of the daemon, with how often. */
  readonly #listened = new Map<string, number>()
  /** What this process has subscribed to in the session that the broker keeps. */
  readonly #subscribed = new Set<string>()
  /** Their retained messages are asked for. */
  readonly #asked = new Set<string>()
  readonly #refused = new Set<string>()
  #subscribing = false
  #session: Session | undefined
  #pendingBytes = 0
  #resumePending: (() => void) | undefined
  /** QoS 1, in order, until the broker has acknowledged. */
  readonly #outgoing = new Set<OutgoingMessage>()
  #outgoingBytes = 0
  #trouble = 'not connected yet'
  readonly #onAcks: OnAcks
  readonly #nowMs: () => number

  constructor(options: ExternalBrokerOptions, components: ExternalBrokerComponents) {
    this.#options = options
    this.#components = components
    this.#nowMs = () => components.clock.monotonicMs()
    this.#onAcks = (count, latencyMs, error) => {
      if (error !== undefined) return
      this.counters.acknowledged += count
      components.onAcks?.(count, latencyMs)
    }
  }

  get connected(): boolean { return this.#session?.ready === true }

  /** Bytes of messages that wait for their commit. */
  get pendingBytes(): number { return this.#pendingBytes }

  get ready(): ReturnType<Check> {
    const { url } = this.#options
    if (!this.connected) return { reason: `no connection to the MQTT broker ${url} (mqtt.external): ${this.#trouble}` }
    const [refused] = this.#refused
    return refused === undefined ? 'ok' : { reason: `the MQTT broker ${url} refuses the subscription to ${refused}` }
  }

  /** Retained messages come when the broker sends them. */
  listen(filter: string, taker: MessageTaker): () => void {
    const stop = this.#takers.add(filter, taker)
    this.#listened.set(filter, (this.#listened.get(filter) ?? 0) + 1)
    this.#asked.add(filter)
    this.#subscribeSoon()
    let stopped = false
    return () => {
      if (stopped) return
      stopped = true
      stop()
      const left = this.#listened.get(filter)! - 1
      if (left > 0) this.#listened.set(filter, left)
      else this.#listened.delete(filter)
      this.#subscribeSoon()
    }
  }

  publish(message: OutgoingMessage): void {
    const bytes = bytesOf(message)
    const session = this.connected ? this.#session : undefined
    const isTooMuch = this.#outgoingBytes + (session?.unsentBytes ?? 0) + bytes > limits.externalOutgoingBytes.value ||
      this.#outgoing.size >= limits.externalOutgoingMessages.value
    if (isTooMuch || (message.qos === 0 && session === undefined)) {
      this.counters.outgoingDropped++
      return
    }
    if (message.qos === 1) {
      this.#outgoing.add(message)
      this.#outgoingBytes += bytes
    }
    if (session !== undefined) this.#send(session, message)
  }

  /** Keeps a connection until `signal` aborts: then nothing more is read, and what was read is acknowledged. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, log } = this.#components
    const { url, clientId } = this.#options
    let attempt = 0
    while (!signal.aborted) {
      const connectedBefore = this.counters.connected
      let trouble: string
      try {
        trouble = await this.#connect(signal)
      } catch (error) {
        trouble = describeError(error)
      }
      if (signal.aborted) return
      this.counters.lost++
      const wasConnected = this.counters.connected > connectedBefore
      if (wasConnected || trouble !== this.#trouble) {
        log.warn('mqtt: no connection to the external broker', { url, clientId, reason: trouble })
      }
      this.#trouble = trouble
      attempt = wasConnected ? 0 : attempt + 1
      const delayMs = backoffDelayMs(attempt, { baseMs: backoffBaseMs, maxMs: limits.externalRetryMs.value }, random)
      await wait(clock, delayMs, signal).catch(() => undefined)
    }
  }

  /** Dials, and resolves with what ended the connection. Rejects where it cannot be dialled. */
  async #connect(signal: AbortSignal): Promise<string> {
    const { clientId, username, passwordFile } = this.#options
    const password = (await readSetting('passwordFile', passwordFile))?.toString().replace(/\r?\n$/, '')
    const dial = await this.#dialler()
    const { MqttClient } = await import('mqtt')
    if (signal.aborted) return ''
    let stream: AckingStream | undefined
    let trouble = 'the connection was closed'
    const client = new MqttClient(() => {
      const socket = dial()
      stream = new AckingStream(socket, this.#options, ({ topic, messageId, bytes }) => {
        this.counters.oversized++
        this.#components.log.warn('mqtt: a message is too long to be stored', { topic, bytes })
        if (messageId !== undefined) stream?.acknowledge(messageId)
      })
      return stream
    }, {
      clientId, clean: false, protocolId: 'MQTT', protocolVersion: 4, keepalive: limits.externalKeepaliveMs.value / 1000,
      reconnectPeriod: 0, connectTimeout: limits.externalConnectTimeoutMs.value, resubscribe: false, queueQoSZero: false,
      manualConnect: true, log: nothing,
      ...username === undefined ? {} : { username }, ...password === undefined ? {} : { password }
    })
    const session: Session = {
      client, ready: false, unsentBytes: 0, pingedMs: -Infinity, stream: () => stream,
      acks: new AckQueue(bytes => this.#release(bytes), () => { stream?.destroy(new Error('a message could not be stored')) })
    }
    client.handleMessage = (packet, done) => { this.#receive(session, packet, done) }
    client.on('error', error => { trouble = describeError(error) })
    client.on('connect', ({ sessionPresent }) => this.#connected(session, sessionPresent))
    const closed = new Promise<void>(resolve => { client.on('close', () => resolve()) })
    const stop = (): void => { void this.#stop(session) }
    signal.addEventListener('abort', stop, { once: true })
    client.connect()
    stream?.on('error', error => { trouble = describeError(error) })
    try {
      await closed
    } finally {
      signal.removeEventListener('abort', stop)
      if (this.#session === session) this.#session = undefined
      session.ready = false
      client.end(true)
      this.#resumePending = undefined
    }
    return trouble
  }

  async #dialler(): Promise<() => Duplex> {
    const { url, caFile, certificateFile, keyFile } = this.#options
    const { protocol, hostname, port } = new URL(url)
    const host = hostname.replace(/^\[|\]$/g, '')
    if (protocol === 'mqtt:') {
      return () => connect({ host, port: Number(port === '' ? 1883 : port), noDelay: true, keepAlive: true })
    }
    const tls = await import('node:tls')
    const [ca, cert, key] = await Promise.all([
      readSetting('caFile', caFile), readSetting('certificateFile', certificateFile), readSetting('keyFile', keyFile)
    ])
    return () => {
      const socket = tls.connect({
        host, port: Number(port === '' ? 8883 : port), ...isIP(host) === 0 ? { servername: host } : {},
        ...ca === undefined ? {} : { ca }, ...cert === undefined ? {} : { cert }, ...key === undefined ? {} : { key }
      })
      socket.setNoDelay(true)
      return socket
    }
  }

  #connected(session: Session, sessionPresent: boolean): void {
    this.#session = session
    session.ready = true
    this.counters.connected++
    this.#components.log.info('mqtt: connected to the external broker', { url: this.#options.url, sessionPresent })
    // A session that the broker has lost has no subscriptions; of one of an earlier process nobody knows which.
    if (!sessionPresent) this.#subscribed.clear()
    this.#refused.clear()
    this.#subscribe()
    for (const message of this.#outgoing) this.#send(session, message)
  }

  /** Nothing more is taken; what was taken is acknowledged; then DISCONNECT. */
  async #stop(session: Session): Promise<void> {
    const { clock } = this.#components
    session.ready = false
    const deadlineMs = clock.monotonicMs() + limits.externalStopMs.value
    while (!session.acks.empty && clock.monotonicMs() < deadlineMs) await wait(clock, 10)
    await new Promise<void>(resolve => { clock.soon(resolve) })
    session.client.end(false, {}, () => undefined)
    // Where DISCONNECT does not go out either.
    clock.after(stopGraceMs, () => session.stream()?.destroy())
  }

  // ── messages that come ─────────────────────────────────────────────────────────────────────────────────────────────

  /** `done` lets the next message come: at once, unless nothing can be stored now or too much waits for its commit. */
  #receive(session: Session, packet: IPublishPacket, done: () => void): void {
    const { clock } = this.#components
    if (session.stream()?.destroyed !== false || (this.#session === session && !session.ready)) return
    if (!this.#take(session, packet)) {
      // Nothing is read meanwhile, signs of life neither: the library is kept from missing them, and the broker gets ours.
      session.client.reschedulePing(true)
      if (clock.monotonicMs() - session.pingedMs >= limits.externalKeepaliveMs.value / 3) {
        session.pingedMs = clock.monotonicMs()
        session.stream()?.ping()
      }
      clock.after(retryMs, () => this.#receive(session, packet, done))
      return
    }
    if (this.#pendingBytes < this.#options.pendingBytesMax) done()
    else this.#resumePending = done
  }

  #release(bytes: number): void {
    this.#pendingBytes -= bytes
    if (this.#pendingBytes > this.#options.pendingBytesMax / 2) return
    const resume = this.#resumePending
    this.#resumePending = undefined
    resume?.()
  }

  /** False where nothing can be stored now: a full lane, a full disk, a store that is opened anew. */
  #take(session: Session, packet: IPublishPacket): boolean {
    const { sink } = this.#components
    const payload = typeof packet.payload === 'string' ? Buffer.from(packet.payload) : packet.payload
    const topic = this.#topic(packet.topic)
    const isOversized = payload.length > recordPayloadBytesMax
    // Retained messages of a new subscription are what topics say now, not news: they are not recorded once more.
    const isTaken = !topic.badTopic && !isOversized
    const recorded = isTaken && !packet.retain && topic.resolution.kind === 'record' ? topic.resolution : undefined
    const commits = new Set<Commit>()
    try {
      const commit = recorded === undefined ? undefined : sink.gather(recorded.lane, packet.topic.length + payload.length)
      if (commit !== undefined) commits.add(commit)
      const takers = isTaken ? this.#takersOf(packet.topic, topic) : []
      for (const taker of takers) {
        if (!packet.retain || taker.ignoresRetained !== true) this.#give(taker, packet.topic, payload, commits)
      }
      if (recorded !== undefined) sink.append(commit!, recorded.lane, recorded.topic, payload)
    } catch (error) {
      if (!(error instanceof HoldfastError) || !retried.some(code => hasCode(error, code))) throw error
      return false
    }
    this.#count(topic, packet, isOversized)
    const { messageId } = packet
    const acknowledge: PublishDone = packet.qos === 0 || messageId === undefined ? nothing : error => {
      if (!error) session.stream()?.acknowledge(messageId)
    }
    const bytes = packet.topic.length + payload.length
    const [only] = commits
    this.#pendingBytes += bytes
    if (only === undefined) session.acks.addSettled(bytes, acknowledge, this.#onAcks)
    else if (commits.size === 1) session.acks.add(only, bytes, acknowledge, this.#nowMs, this.#onAcks)
    else session.acks.addAll(commits, bytes, acknowledge, this.#nowMs, this.#onAcks)
    return true
  }

  #give(taker: MessageTaker, topic: string, payload: Buffer, commits: Set<Commit>): void {
    try {
      const commit = taker.take(topic, payload)
      if (commit !== undefined) commits.add(commit)
    } catch (error) {
      if (retried.some(code => hasCode(error, code))) throw error
      // Its own defect: the message is not held up for it, and neither are the others.
      this.#components.log.error('mqtt: a message could not be taken', { topic, error: describeError(error) })
    }
  }

  #count({ badTopic, resolution, takers }: Topic, { qos, retain }: IPublishPacket, isOversized: boolean): void {
    this.counters.received[qos === 0 ? 0 : 1]++
    if (badTopic) this.counters.badTopic++
    else if (isOversized) this.counters.oversized++
    else if (resolution.kind === 'bad-device') this.counters.badDevice++
    else if (resolution.kind === 'unrouted' && !retain && takers.length === 0) this.counters.unrouted++
  }

  #topic(name: string): Topic {
    const known = this.#topics.get(name)
    if (known !== undefined) return known
    const badTopic = topicProblem(name, topicBounds) !== undefined
    const topic: Topic = {
      badTopic, resolution: badTopic ? { kind: 'local' } : this.#components.routes.resolve(name), takers: [], takersVersion: -1
    }
    this.#topics.set(name, topic, name.length)
    return topic
  }

  #takersOf(name: string, topic: Topic): readonly MessageTaker[] {
    if (topic.takersVersion !== this.#takers.version) {
      topic.takersVersion = this.#takers.version
      topic.takers = this.#takers.match(name)
    }
    return topic.takers
  }

  // ── messages that go ───────────────────────────────────────────────────────────────────────────────────────────────

  #send(session: Session, message: OutgoingMessage): void {
    const { topic, payload, qos, retain } = message
    const bytes = bytesOf(message)
    if (qos === 0) session.unsentBytes += bytes
    session.client.publish(topic, payload, { qos, retain }, error => {
      if (qos === 0) {
        session.unsentBytes -= bytes
        if (error) this.counters.outgoingDropped++
      } else if (!error && this.#outgoing.delete(message)) this.#outgoingBytes -= bytes
    })
  }

  // ── subscriptions ──────────────────────────────────────────────────────────────────────────────────────────────────

  #subscribeSoon(): void {
    if (this.#subscribing) return
    this.#subscribing = true
    this.#components.clock.soon(() => {
      this.#subscribing = false
      if (this.connected) this.#subscribe()
    })
  }

  /** Brings the broker's subscriptions in line with what is wanted; what was asked for anew brings its retained messages. */
  #subscribe(): void {
    const wanted = broadest([...this.#options.filters, ...this.#listened.keys()])
    const wild = [...wanted].filter(filter => filter.includes('+') || filter.includes('#'))
    const due = new Set([...wanted].filter(filter => !this.#subscribed.has(filter)))
    for (const filter of this.#asked) {
      const by = wanted.has(filter) ? filter : wild.find(broad => isCovered(filter, broad))
      if (by !== undefined) due.add(by)
    }
    this.#asked.clear()
    const { client } = this.#session!
    const filters = [...due]
    for (let i = 0; i < filters.length; i += limits.externalFilters.value) {
      const page = filters.slice(i, i + limits.externalFilters.value)
      for (const filter of page) this.#subscribed.add(filter)
      client.subscribe(page, { qos: 1 }, (error, _requests, answer) => {
        const granted = (answer?.granted ?? []).map(Number)
        for (const [k, filter] of page.entries()) {
          if (granted[k] === undefined) this.#subscribed.delete(filter)
          else this.#granted(filter, granted[k] < 128)
        }
        if (error && granted.length === 0) {
          this.#components.log.warn('mqtt: a subscription was not answered', { error: error.message })
        }
      })
    }
    const dropped = [...this.#subscribed].filter(filter => !wanted.has(filter))
    for (let i = 0; i < dropped.length; i += limits.externalFilters.value) {
      const page = dropped.slice(i, i + limits.externalFilters.value)
      client.unsubscribe(page, () => undefined)
      for (const filter of page) {
        this.#subscribed.delete(filter)
        this.#refused.delete(filter)
      }
    }
  }

  #granted(filter: string, isGranted: boolean): void {
    if (isGranted) {
      this.#refused.delete(filter)
      return
    }
    this.counters.subscriptionsRefused++
    this.#refused.add(filter)
    this.#components.log.error('mqtt: the external broker refuses a subscription', { url: this.#options.url, filter })
  }
}

function nothing(): void {}

function bytesOf({ topic, payload }: OutgoingMessage): number { return topic.length + payload.length }

/** What passes: the message waits, and what comes behind it. */
const retried = ['OUTBOX_FULL', 'DISK_FULL', 'STORE_FAILED']

/** A file that a setting of `mqtt.external` names; undefined: it is not set. Read at each attempt, so that it may come later. */
async function readSetting(name: string, path: string | undefined): Promise<Buffer | undefined> {
  if (path === undefined) return undefined
  try {
    return await readFile(path)
  } catch (error) {
    throw new Error(`mqtt.external.${name}: the file cannot be read`, { cause: error })
  }
}
