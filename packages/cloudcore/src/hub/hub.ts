import { FrameError, decodeFrame, encodeFrame, stateProtocolMin } from '@holdfast/protos'
import type {
  Frame, Hello, HelloEpoch, HelloLane, LogBatches, LogPart, StateFrame, StateVerdictKind, Watermark, Welcome
} from '@holdfast/protos'
import { codeOfError, describeError } from '@holdfast/runtime'
import type { Clock, Failpoint, Log, NodeName, Timer } from '@holdfast/runtime'
import { CloudSession, Fence, LogReceiver, ReceiveError, StateReader, StateWriter, newStateStats, stateLimits } from '@holdfast/sync'
import type {
  CloudEffect, CloudEvent, CloudSessionOptions, Connection, ConnectionEvents, ReceivedBatch, StateSource, StateStats, StateTarget
} from '@holdfast/sync'
import type { AppendResult, CloudLog, CloudStream } from '../log/cloud-log.ts'

export interface HubOptions extends CloudSessionOptions {
  readonly clusterUid: string
  /** Bytes of Log frames that one node may have unacknowledged. */
  readonly windowBytes: number
  /** Nodes known at a time; one more is refused. */
  readonly nodesMax: number
}

export interface HubComponents {
  readonly cloudLog: CloudLog
  readonly clock: Clock
  readonly log: Log
  readonly failpoint: Failpoint
  /**
   * State of one node: what goes down to it, and where what comes up is taken in. Asked once a session; the source is
   * listened to for as long as the session lasts. Undefined: this cloud keeps none, and edges keep what they have.
   */
  readonly stateOf?: ((node: NodeName) => NodeState | undefined) | undefined
}

export interface NodeState { readonly down: StateSource, readonly up: StateTarget }

/** How State of a connected node is. */
export interface NodeStatePresence {
  /** Collections of which nothing is sent, because it is not known yet what they hold. */
  readonly notReady: readonly string[]
  /** Why a side takes nothing more in this session; empty: both do. */
  readonly refused: string
}

/** Counts since start, for metrics. */
export interface HubStats {
  /** Sessions that reached `live`. */
  sessions: number
  /** Ends of sessions by reason: `closed`, `silent`, `replaced`, or the code they were refused with. */
  readonly ends: Map<string, number>
  framesReceived: number
  bytesReceived: number
  recordsAppended: number
  batchesAppended: number
  phantomsDropped: number
  gaps: number
  /** Sessions refused because two machines have one identity. */
  duplicates: number
}

/** What is known of a node apart from its log. */
export interface NodePresence {
  readonly name: NodeName
  readonly connected: boolean
  /** Wall time at which it last showed life, milliseconds. */
  readonly lastSeenMs: number
  readonly duplicateIdentity: boolean
  readonly software: string
}

/** Told after `connected` answers so; a later session that takes the place of an older one is told as connected once more. */
export interface LinkListener {
  onConnected?(node: NodeName): void
  onDisconnected?(node: NodeName): void
}

interface NodeEntry {
  readonly name: NodeName
  readonly fence: Fence
  session: TunnelSession | undefined
  /** A session was welcomed, and listeners were told. */
  linked: boolean
  lastSeenMs: number
  software: string
  /** Batches handed to the log and not settled, of all sessions. */
  pending: number
  /** Resolved when `pending` is zero. */
  drained: (() => void)[]
}

/**
 * The cloud's host of all tunnels. One session per node; a later one of the same boot replaces it, another boot fences
 * it (docs/spec/session.md, SES-15). What a session does never touches another node's.
 */
export class Hub {
  readonly stats: HubStats = {
    sessions: 0, ends: new Map(), framesReceived: 0, bytesReceived: 0, recordsAppended: 0, batchesAppended: 0,
    phantomsDropped: 0, gaps: 0, duplicates: 0
  }

  /** Counts of State since start, by direction. */
  readonly stateStats: { readonly down: StateStats, readonly up: StateStats } = { down: newStateStats(), up: newStateStats() }
  readonly options: HubOptions
  readonly components: HubComponents
  readonly #nodes = new Map<NodeName, NodeEntry>()
  readonly #sessions = new Set<TunnelSession>()
  readonly #listeners = new Set<LinkListener>()
  #closed = false

  constructor(options: HubOptions, components: HubComponents) {
    this.options = options
    this.components = components
  }

  /** A connection whose certificate was verified as `name`'s. Returns what the connection tells from now on. */
  accept(name: NodeName, connection: Connection): ConnectionEvents {
    const entry = this.#entry(name)
    const session = new TunnelSession(this, entry, connection)
    this.#sessions.add(session)
    if (entry === undefined) {
      session.refuse('NODES_FULL', `cloudcore holds ${this.options.nodesMax} nodes, its nodesMax: raise it`, 60_000)
    } else if (this.#closed) session.refuse('STOPPING', 'cloudcore is stopping', 0)
    return session
  }

  /** Ends all sessions; edges come back by themselves. */
  close(): void {
    this.#closed = true
    for (const session of this.#sessions) session.refuse('STOPPING', 'cloudcore is stopping', 0)
  }

  presence(): NodePresence[] {
    const nowMs = this.components.clock.monotonicMs()
    return [...this.#nodes.values()].map(entry => ({
      name: entry.name,
      connected: entry.session !== undefined,
      lastSeenMs: entry.session === undefined ? entry.lastSeenMs : this.components.clock.wallMs(),
      duplicateIdentity: entry.fence.duplicateIdentity(nowMs),
      software: entry.software
    }))
  }

  /** Undefined where the node is not connected, or its session has no State. */
  statePresence(name: NodeName): NodeStatePresence | undefined { return this.#nodes.get(name)?.session?.statePresence }

  /** True while it has a session that was welcomed. */
  connected(name: NodeName): boolean { return this.#nodes.get(name)?.linked ?? false }

  * connectedNodes(): Generator<NodeName> {
    for (const { name, linked } of this.#nodes.values()) if (linked) yield name
  }

  /** True where two machines lately used this node's identity. */
  duplicateIdentity(name: NodeName): boolean {
    return this.#nodes.get(name)?.fence.duplicateIdentity(this.components.clock.monotonicMs()) ?? false
  }

  /**
   * `listener` is told of changes from now on, until the function that it returns is called; not of those that `close` makes,
   * which say nothing of the nodes.
   */
  subscribe(listener: LinkListener): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  /** For TunnelSession. What a listener throws is logged: the session does not suffer from it. */
  linked(node: { readonly name: NodeName, linked: boolean }, linked: boolean): void {
    if (!node.linked && !linked) return
    node.linked = linked
    if (this.#closed) return
    for (const listener of this.#listeners) {
      try {
        if (linked) listener.onConnected?.(node.name)
        else listener.onDisconnected?.(node.name)
      } catch (error) {
        this.components.log.error('a listener to links failed', { node: node.name, error: describeError(error) })
      }
    }
  }

  /** For TunnelSession. */
  ended(session: TunnelSession, reason: string): void {
    this.#sessions.delete(session)
    this.stats.ends.set(reason, (this.stats.ends.get(reason) ?? 0) + 1)
  }

  #entry(name: NodeName): NodeEntry | undefined {
    let entry = this.#nodes.get(name)
    if (entry === undefined && this.#nodes.size < this.options.nodesMax) {
      const lastSeenMs = this.components.clock.wallMs()
      entry = { name, fence: new Fence(), session: undefined, linked: false, lastSeenMs, software: '', pending: 0, drained: [] }
      this.#nodes.set(name, entry)
    }
    return entry
  }
}

/** One connection: carries out what CloudSession and LogReceiver say. */
class TunnelSession implements ConnectionEvents {
  readonly #hub: Hub
  readonly #node: NodeEntry
  readonly #connection: Connection
  readonly #session: CloudSession
  readonly #streams = new Map<string, CloudStream>()
  #receiver: LogReceiver | undefined
  /** Added to stamps of a boot whose clock was not set, milliseconds. */
  #correctionMs = 0
  #bootId = ''
  #alarm: Timer | undefined
  #ackScheduled = false
  /** Takes in what comes up. */
  #reader: StateReader | undefined
  /** Sends what goes down. */
  #writer: StateWriter | undefined
  #pumpScheduled = false
  #answering: Timer | undefined
  #log: Log

  constructor(hub: Hub, node: NodeEntry | undefined, connection: Connection) {
    this.#hub = hub
    this.#node = node ?? {
      name: '' as NodeName, fence: new Fence(), session: undefined, linked: false, lastSeenMs: 0, software: '', pending: 0,
      drained: []
    }
    this.#connection = connection
    this.#session = new CloudSession(hub.options)
    this.#log = hub.components.log.with({ node: this.#node.name })
    this.#step({ kind: 'opened' })
  }

  refuse(code: string, message: string, retryAfterMs: number): void {
    this.#step({ kind: 'refuse', code, message, retryAfterMs })
  }

  get statePresence(): NodeStatePresence | undefined {
    if (this.#writer === undefined) return undefined
    return { notReady: this.#writer.notReady, refused: this.#writer.refused || this.#reader?.refused || '' }
  }

  onMessage(message: Buffer): void {
    const { stats } = this.#hub
    stats.framesReceived++
    stats.bytesReceived += message.length
    let frame: Frame
    try {
      frame = decodeFrame(message)
    } catch (error) {
      if (!(error instanceof FrameError)) throw error
      this.#step({ kind: 'violation', code: error.code, message: error.message })
      return
    }
    switch (frame.kind) {
      case 'log-batches':
      case 'log-part': return this.#receive(frame)
      case 'hello': return this.#step({ kind: 'hello', hello: frame })
      case 'probe': return this.#step({ kind: 'probe', nonce: frame.nonce })
      case 'state-digest':
      case 'state-verdict':
      case 'state-inventory':
      case 'state-changes':
      case 'state-ack': return this.#guard(() => { this.#onState(frame) })
      default: this.#step({ kind: 'violation', code: 'FRAME_UNEXPECTED', message: `a ${frame.kind} frame from the edge` })
    }
  }

  onClose(): void { this.#step({ kind: 'closed' }) }

  #step(event: CloudEvent): void {
    for (const effect of this.#session.step(event, this.#hub.components.clock.monotonicMs())) this.#perform(effect)
  }

  #perform(effect: CloudEffect): void {
    switch (effect.kind) {
      case 'open-streams': {
        this.#open(effect.hello).catch((error: unknown) => {
          const code = codeOfError(error) ?? 'LOG_UNAVAILABLE'
          this.#log.error('session refused', { code, error: describeError(error) })
          this.refuse(code, describeError(error), 5000)
        })
        return
      }
      case 'send': return this.#connection.send(encodeFrame(effect.frame))
      case 'close': return this.#connection.close(effect.code, effect.reason)
      case 'set-alarm': {
        this.#alarm?.cancel()
        this.#alarm = this.#hub.components.clock.after(effect.delayMs, () => {
          this.#step({ kind: 'alarm', bytesReceived: this.#connection.bytesReceived })
        })
        return
      }
      case 'end': return this.#end(effect.reason)
    }
  }

  #end(reason: string): void {
    this.#alarm?.cancel()
    this.#receiver = undefined
    this.#closeState()
    if (this.#node.session === this) {
      this.#node.session = undefined
      this.#node.lastSeenMs = this.#hub.components.clock.wallMs()
      this.#node.fence.seen(this.#hub.components.clock.monotonicMs())
      this.#log.info('tunnel closed', { reason })
      this.#hub.linked(this.#node, false)
    }
    this.#hub.ended(this, reason)
  }

  /** Fences, waits for what older sessions of this node still have in the log's hands, opens the streams, welcomes. */
  async #open(hello: Hello): Promise<void> {
    const { cloudLog, clock } = this.#hub.components
    const node = this.#node
    if (node.session !== undefined) node.fence.seen(clock.monotonicMs())
    const verdict = node.fence.admit(hello.bootId, hello.connectCounter, clock.monotonicMs())
    if (verdict.kind === 'stale') {
      this.refuse('SESSION_STALE', `connection ${hello.connectCounter} of boot ${hello.bootId} comes after a later one`, 0)
      return
    }
    if (verdict.kind === 'duplicate') {
      this.#hub.stats.duplicates++
      this.#log.error('DuplicateIdentity: two machines use this node\'s identity', { refused: hello.bootId })
      this.refuse('DUPLICATE_IDENTITY', `another machine runs as node ${node.name}: a data directory was copied or ` +
        'restored; stop one of them, and join it under a name of its own', verdict.retryAfterMs)
      return
    }
    if (verdict.fenced !== undefined) this.#log.info('a new start of the node fences the one before', { fenced: verdict.fenced })
    const older = node.session
    node.session = this
    node.software = hello.software
    this.#bootId = hello.bootId
    older?.refuse('SESSION_REPLACED', 'a later connection of this node took over', 0)
    this.#correctionMs = hello.clockSynchronised ? 0 : Math.round(clock.wallMs() - hello.wallMs)
    while (node.pending > 0) await new Promise<void>(resolve => { node.drained.push(resolve) })
    const watermarks: Watermark[] = []
    const isNewLog = hello.logId !== '' && hello.logId !== cloudLog.logId
    for (const lane of hello.lanes) {
      for (const [order, epoch] of lane.epochs.entries()) {
        // A later session of this node has taken over: what it finds must not change under it any more.
        if (this.#session.state !== 'opening') return
        watermarks.push(await this.#openStream(lane, order === 0 ? this.#fromLineEnd(lane, epoch) : epoch, isNewLog))
      }
    }
    if (this.#session.state !== 'opening') return
    const { windowBytes, clusterUid, software } = this.#hub.options
    this.#receiver = new LogReceiver(hello.lanes, watermarks, windowBytes)
    this.#hub.stats.sessions++
    this.#log.info('tunnel open', { boot: hello.bootId, connection: hello.connectCounter, edge: hello.software })
    this.#step({ kind: 'welcomed', welcome: {
      clusterUid, logId: cloudLog.logId, wallMs: clock.wallMs(), watermarks, windowBytes, software, ...this.#openState(hello)
    } })
    if (node.session === this) this.#hub.linked(node, true)
    this.#pumpSoon()
  }

  /** What Welcome says of State. An edge of an older version hears nothing of it, one of another cluster keeps what it has. */
  #openState(hello: Hello): Pick<Welcome, 'stateVerdicts' | 'stateDigests'> {
    if (this.#session.protocol < stateProtocolMin) {
      this.#log.warn('the node speaks an older protocol, without State: it is sent no objects and reports none until its edgecore is '
        + 'upgraded', { protocol: this.#session.protocol, edge: hello.software })
      return { stateVerdicts: [], stateDigests: [] }
    }
    const { components, options, stateStats } = this.#hub
    const all = (verdict: StateVerdictKind): Pick<Welcome, 'stateVerdicts' | 'stateDigests'> => {
      stateStats.down.verdicts[verdict] += hello.stateDigests.length
      return { stateVerdicts: hello.stateDigests.map(({ collection }) => ({ collection, verdict, after: '' })), stateDigests: [] }
    }
    if (hello.clusterUid !== '' && hello.clusterUid !== options.clusterUid) return all('other-cluster')
    try {
      const ofNode = components.stateOf?.(this.#node.name)
      if (ofNode === undefined) return all('not-ready')
      const onReady = (): void => { this.#pumpSoon() }
      this.#writer = new StateWriter(ofNode.down, {
        onReady, onWithheld: message => { this.#log.error(`State that goes down: ${message}`) }, stats: stateStats.down
      })
      this.#reader = new StateReader(ofNode.up, {
        onReady: () => { this.#answerSoon() },
        onFailed: message => { this.#log.error(`State that comes up: ${message}`) },
        stats: stateStats.up
      })
      this.#writer.told(hello.stateDigests)
      return { stateVerdicts: this.#writer.takeVerdicts(), stateDigests: this.#reader.takeDigests() }
    } catch (error) {
      // The Log does not wait for State.
      this.#log.error('State of this session is off', { error: describeError(error) })
      this.#closeState()
      return all('not-ready')
    }
  }

  #closeState(): void {
    this.#answering?.cancel()
    this.#answering = undefined
    this.#reader?.close()
    this.#reader = undefined
    this.#writer?.close()
    this.#writer = undefined
  }

  #onState(frame: StateFrame): void {
    const [reader, writer] = [this.#reader, this.#writer]
    if (frame.kind === 'state-ack' && writer !== undefined) {
      const before = writer.refused
      writer.acknowledged(frame, this.#hub.components.clock.monotonicMs())
      if (writer.refused !== before) this.#log.error('State that goes down: the node refused', { reason: writer.refused })
    } else if (frame.kind === 'state-inventory' && writer !== undefined) writer.inventory(frame)
    else if (frame.kind === 'state-digest' && writer !== undefined) writer.told(frame.digests)
    else if (frame.kind === 'state-changes' && reader !== undefined) {
      reader.receive(frame)
      this.#answerSoon()
      return
    } else if (frame.kind === 'state-verdict' && reader !== undefined) reader.verdicts(frame.verdicts)
    else if (this.#session.state === 'closed') return
    // Digests that an edge could not tell in time for its Hello.
    else if (frame.kind === 'state-digest' && this.#session.protocol >= stateProtocolMin) return
    else throw new ReceiveError('FRAME_UNEXPECTED', `a ${frame.kind} frame in state ${this.#session.state}`)
    this.#pumpSoon()
  }

  /** What was taken in is acknowledged when it has gone its way, together with what that brings about. */
  #answerSoon(): void {
    this.#answering ??= this.#hub.components.clock.after(stateLimits.answerDelayMs.value, () => {
      this.#answering = undefined
      this.#pumpSoon()
    })
  }

  /** Once for everything of State that happens in this turn. */
  #pumpSoon(): void {
    if (this.#pumpScheduled) return
    this.#pumpScheduled = true
    this.#hub.components.clock.soon(() => {
      this.#pumpScheduled = false
      if (this.#session.state === 'live') this.#guard(() => { this.#pump() })
    })
  }

  #pump(): void {
    const [reader, writer] = [this.#reader, this.#writer]
    const { clock } = this.#hub.components
    for (let frame = reader?.next(); frame !== undefined; frame = reader?.next()) this.#connection.send(encodeFrame(frame))
    for (let output = writer?.next(clock.monotonicMs()); output !== undefined; output = writer?.next(clock.monotonicMs())) {
      this.#connection.send(encodeFrame(output.frame))
    }
  }

  /** Whatever one node's bytes bring about, the others' sessions go on (L9). */
  #guard(work: () => void): void {
    try {
      work()
    } catch (error) {
      const code = error instanceof ReceiveError ? error.code : 'FRAME_MALFORMED'
      this.#log.error('tunnel broken off over what the edge sent', {
        code, error: error instanceof ReceiveError ? error.message : error instanceof Error ? error.stack : String(error)
      })
      this.#step({ kind: 'violation', code, message: describeError(error) })
    }
  }

  /**
   * The oldest epoch that the edge still names, as this log has to take it up: what lies between the end of the lane's line
   * here and the epoch's start was in epochs that the edge has forgotten, because a log held them; this one does not, and
   * the stream begins with the gap that says so (SES-13).
   */
  #fromLineEnd(lane: HelloLane, epoch: HelloEpoch): HelloEpoch {
    const end = this.#hub.components.cloudLog.lineEnd(this.#node.name, lane.name, epoch) ?? epoch.start
    return end < epoch.start ? { ...epoch, start: end } : epoch
  }

  /** Where the edge's first offset is above the watermark, what lies between is gone, and a gap says so (design §6). */
  async #openStream(lane: HelloLane, epoch: HelloEpoch, isNewLog: boolean): Promise<Watermark> {
    const { cloudLog, clock } = this.#hub.components
    const stream = await cloudLog.openStream(this.#node.name, { id: lane.id, name: lane.name }, epoch)
    this.#streams.set(epoch.epoch, stream)
    const lost = epoch.first - cloudLog.watermark(stream).next
    if (lost > 0 && this.#session.state === 'opening') {
      const reason = isNewLog ? 'cloud-log-new' : 'cloud-lost'
      this.#log.error('records are gone from the cloud log and from the node', {
        reason, lane: lane.name, epoch: epoch.epoch, first: epoch.first - lost, last: epoch.first - 1
      })
      this.#node.pending++
      const result = await new Promise<AppendResult>(resolve => {
        cloudLog.writeGap(stream, lost, { reason, records: lost }, clock.wallMs(), resolve)
      })
      this.#appendEnded()
      if (result.kind === 'failed') throw result.error
      this.#hub.stats.gaps++
    }
    return { lane: lane.id, epoch: epoch.epoch, ...cloudLog.watermark(stream) }
  }

  #receive(frame: LogBatches | LogPart): void {
    const receiver = this.#receiver
    if (receiver === undefined) {
      if (this.#session.state !== 'closed') {
        this.#step({ kind: 'violation', code: 'FRAME_UNEXPECTED', message: `a ${frame.kind} frame before Welcome` })
      }
      return
    }
    const receivedAtMs = this.#hub.components.clock.wallMs()
    this.#guard(() => {
      for (const received of receiver.receive(frame)) {
        this.#append(receiver, received, receivedAtMs)
      }
      if (receiver.ackDue) this.#ackSoon(receiver)
    })
  }

  #append(receiver: LogReceiver, received: ReceivedBatch, receivedAtMs: number): void {
    const { header, batch } = received
    const stream = this.#streams.get(header.epoch)!
    const correctionMs = header.clockSynchronised || header.bootId !== this.#bootId ? 0 : this.#correctionMs
    this.#hub.components.failpoint('append:before')
    this.#node.pending++
    this.#hub.components.cloudLog.append(stream, batch, header, { receivedAtMs, correctionMs }, result => {
      this.#settled(receiver, received, stream, result)
      this.#appendEnded()
    })
  }

  #appendEnded(): void {
    if (--this.#node.pending > 0) return
    for (const wake of this.#node.drained.splice(0)) wake()
  }

  #settled(receiver: LogReceiver, received: ReceivedBatch, stream: CloudStream, result: AppendResult): void {
    const { stats } = this.#hub
    if (result.kind === 'conflict' || result.kind === 'failed') {
      if (receiver !== this.#receiver) return
      const code = result.kind === 'conflict' ? 'LOG_CONFLICT' : 'LOG_UNAVAILABLE'
      const message = result.kind === 'conflict'
        ? `epoch ${received.header.epoch} offset ${received.header.base}: the log is at ${result.next} and holds other bytes`
        : describeError(result.error)
      this.#log.error('append refused', { code, error: message })
      this.refuse(code, message, 0)
      return
    }
    if (result.kind === 'phantom') stats.phantomsDropped++
    else {
      stats.batchesAppended++
      if (received.header.kind === 'gap') stats.gaps++
      else stats.recordsAppended += received.header.count
    }
    const { next, crc } = this.#hub.components.cloudLog.watermark(stream)
    receiver.settled(received, next, crc)
    this.#ackSoon(receiver)
  }

  #ackSoon(receiver: LogReceiver): void {
    if (receiver !== this.#receiver || this.#ackScheduled) return
    this.#ackScheduled = true
    this.#hub.components.clock.soon(() => this.#sendAck(receiver))
  }

  /** One acknowledgement for all that a commit settled. */
  #sendAck(receiver: LogReceiver): void {
    this.#ackScheduled = false
    const ack = receiver.takeAck()
    if (ack === undefined || receiver !== this.#receiver) return
    this.#hub.components.failpoint('ack:before')
    this.#connection.send(encodeFrame(ack))
    this.#hub.components.failpoint('ack:after')
  }
}
