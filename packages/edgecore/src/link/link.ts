import { FrameError, decodeFrame, encodeFrame, protocolMax, protocolMin, stateProtocolMin } from '@holdfast/protos'
import type { BootId, Frame, Hello, StateFrame, Welcome } from '@holdfast/protos'
import { describeError } from '@holdfast/runtime'
import type { Clock, Failpoint, Log, Random, Timer } from '@holdfast/runtime'
import type { HeldBatch, LaneOptions, Outbox, OutboxLane } from '@holdfast/store'
import { EdgeSession, FrameScheduler, LogSender, ReceiveError, StateReader, StateWriter, newStateStats, stateLimits } from '@holdfast/sync'
import type {
  Connection, Dialer, EdgeEffect, EdgeEvent, EdgeSessionOptions, EndReason, StateSource, StateStats, StateTarget
} from '@holdfast/sync'
import { kindOfEnd, type EndKind } from './link-end.ts'
import type { PeerMemory } from './peer-memory.ts'

export interface LinkOptions extends EdgeSessionOptions {
  readonly bootId: BootId
  /** Release of this software, for people on the other side. */
  readonly software: string
}

export interface LinkComponents {
  readonly outbox: Outbox
  readonly peer: PeerMemory
  readonly dialer: Dialer
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly clockSynchronised: () => boolean
  readonly failpoint: Failpoint
  /** Where State that comes down is kept; without it none is asked for. */
  readonly stateDown?: StateTarget | undefined
  /** State that goes up; without it none is sent. */
  readonly stateUp?: StateSource | undefined
  /** Called before each attempt to connect: what is to be compared then may be brought up to date. */
  readonly onDial?: (() => void) | undefined
}

/** Counts since start, for metrics. */
export interface LinkStats {
  sessions: number
  /** Ends of sessions and failed attempts, by reason. */
  readonly ends: Record<EndReason, number>
  framesSent: number
  bytesSent: number
  recordsAcknowledged: number
  divergences: number
  /** Times that another cloud log was met. */
  logChanges: number
  /** Times that another cluster was met. */
  clusterChanges: number
  /** Round trip of the last probe, milliseconds. */
  probeMs: number
}

/** Share of the link per lane priority. */
const laneWeights: Record<LaneOptions['priority'], number> = { high: 16, normal: 4, low: 1 }
/** Shares of the link between all lanes and the State that goes up. */
const linkWeights = { log: 4, state: 1 } as const
/** Hello waits so long for what the node holds; a digest that takes longer follows in a frame of its own. */
const digestMs = 1000

/**
 * The edge's host of the tunnel: carries out what EdgeSession and LogSender say, over a Dialer. One instance per process,
 * one connection at a time.
 */
export class Link {
  readonly stats: LinkStats = {
    sessions: 0,
    ends: { closed: 0, silent: 0, refused: 0, protocol: 0, timeout: 0, diverged: 0, trimmed: 0, failed: 0, reopened: 0,
      stopped: 0 },
    framesSent: 0,
    bytesSent: 0,
    recordsAcknowledged: 0,
    divergences: 0,
    logChanges: 0,
    clusterChanges: 0,
    probeMs: 0
  }

  /** Counts of State since start, by direction. */
  readonly stateStats: { readonly down: StateStats, readonly up: StateStats } = { down: newStateStats(), up: newStateStats() }

  readonly #options: LinkOptions
  readonly #components: LinkComponents
  readonly #session: EdgeSession
  /** Takes in what comes down, of this connection. */
  #reader: StateReader | undefined
  /** Sends what goes up, of this connection. */
  #writer: StateWriter | undefined
  #clusterChanged = false
  #greeting: Timer | undefined
  #share = new FrameScheduler<keyof typeof linkWeights>()
  #pumpScheduled = false
  #answering: Timer | undefined
  #connection: Connection | undefined
  /** Tells the callbacks of older connections apart. */
  #attempt = 0
  #connectCounter = 0
  #sender: LogSender | undefined
  #alarm: Timer | undefined
  #pumping = false
  #waitFor: Timer | undefined
  #lastEnd = ''
  #lastEndKind: EndKind = 'routine'
  #paused = false
  /** What came while it was paused, and has to happen then. */
  #due: (() => void) | undefined

  constructor(options: LinkOptions, components: LinkComponents) {
    this.#options = options
    this.#components = components
    this.#session = new EdgeSession(options, { random: () => components.random.next() })
    components.outbox.onAvailable(lane => this.#available(lane))
  }

  start(): void {
    if (this.#paused) this.#due = () => this.start()
    else this.#step({ kind: 'start' })
  }

  /** Closes the connection. What is not acknowledged is sent again after the next start. */
  stop(): void {
    this.#due = undefined
    this.#step({ kind: 'stop' })
  }

  /**
   * The outbox is about to be opened again: what it knows is about to change, its epochs too. The session ends now, and none
   * begins before `resume`. Idempotent.
   */
  pause(): void {
    this.#paused = true
    this.#step({ kind: 'restart', reason: 'reopened' })
  }

  /** The outbox is open again. */
  resume(): void {
    this.#paused = false
    const due = this.#due
    this.#due = undefined
    due?.()
  }

  /**
   * The node was moved to the cluster that answers now: what it holds of the one before may be replaced (STA-15). Resolves
   * when that is durable.
   */
  async adoptCluster(): Promise<void> {
    const { peer } = this.#components
    await peer.remember({ ...peer.peer, clusterUid: '' })
    this.#step({ kind: 'restart', reason: 'reopened' })
  }

  /** True while the cloud that answers is of another cluster than the one whose State is held: `ClusterChanged`. */
  get clusterChanged(): boolean { return this.#clusterChanged }

  /** Collections that wait because this node or the cloud does not know yet what is to be sent up. */
  get stateUpNotReady(): readonly string[] { return this.#writer?.notReady ?? [] }

  get live(): boolean { return this.#session.state === 'live' }
  get state(): string { return this.#session.state }
  /** Why the last session ended, in words; empty before the first end. */
  get lastEnd(): string { return this.#lastEnd }
  /** True while it stays down until somebody does something: certificates, refusals. */
  get inTrouble(): boolean { return this.#lastEndKind === 'trouble' && !this.live }
  get inFlightBytes(): number { return this.#sender?.inFlightBytes ?? 0 }
  get bytesPerSecond(): number { return this.#sender?.bytesPerSecond ?? 0 }

  #step(event: EdgeEvent): void {
    for (const effect of this.#session.step(event, this.#components.clock.monotonicMs())) this.#perform(effect)
  }

  #perform(effect: EdgeEffect): void {
    switch (effect.kind) {
      case 'dial': return this.#dial()
      case 'send': return this.#send(effect.frame)
      case 'compare': {
        const attempt = this.#attempt
        this.#compare(effect.welcome, attempt).catch((error: unknown) => {
          this.#components.log.error('link: comparing with the cloud failed', { error: describeError(error) })
          if (attempt === this.#attempt) this.#step({ kind: 'restart', reason: 'failed' })
        })
        return
      }
      case 'close': {
        this.#connection?.close(effect.code, effect.reason)
        return
      }
      case 'end': return this.#end(effect.reason, effect.detail)
      case 'set-alarm': {
        this.#alarm?.cancel()
        this.#alarm = this.#components.clock.after(effect.delayMs, () => this.#onAlarm())
        return
      }
    }
  }

  #onAlarm(): void {
    if (this.#paused) {
      this.#due = () => this.#onAlarm()
      return
    }
    const rate = Math.max(this.bytesPerSecond, this.#writer?.bytesPerSecond ?? 0)
    const bytes = this.inFlightBytes + (this.#writer?.inFlightBytes ?? 0)
    this.#step({
      kind: 'alarm',
      bytesReceived: this.#connection?.bytesReceived ?? 0,
      drainMs: rate > 0 ? bytes * 1000 / rate : 0
    })
  }

  #dial(): void {
    this.#components.onDial?.()
    const attempt = ++this.#attempt
    const current = (event: () => EdgeEvent): void => { if (attempt === this.#attempt) this.#step(event()) }
    this.#connection = this.#components.dialer.dial({
      onOpen: () => { if (attempt === this.#attempt) this.#opened(attempt) },
      onMessage: message => { if (attempt === this.#attempt) this.#onMessage(message) },
      onClose: reason => current(() => ({ kind: 'closed', reason }))
    })
  }

  /** Says Hello as soon as it is known what the node holds, or without that. */
  #opened(attempt: number): void {
    const { stateDown, clock } = this.#components
    if (stateDown !== undefined) {
      this.#reader = new StateReader(this.#observed(stateDown), {
        onReady: () => {
          if (attempt !== this.#attempt) return
          if (this.#greeting !== undefined && this.#reader?.digested === true) this.#greet()
          this.#answerSoon()
        },
        onFailed: message => { this.#components.log.error(`State that comes down: ${message}`) },
        stats: this.stateStats.down
      })
    }
    if (this.#reader?.digested === false) this.#greeting = clock.after(digestMs, () => this.#greet())
    else this.#greet()
  }

  #greet(): void {
    this.#greeting?.cancel()
    this.#greeting = undefined
    this.#step({ kind: 'opened', hello: this.#hello() })
  }

  #observed(target: StateTarget): StateTarget {
    const { failpoint } = this.#components
    return {
      collections: target.collections,
      subscribe: listener => target.subscribe?.(listener) ?? (() => {}),
      digest: collection => target.digest(collection),
      position: collection => target.position(collection),
      keysFrom: (collection, after) => target.keysFrom(collection, after),
      apply: (batch, onApplied) => {
        failpoint('state-apply:before')
        target.apply(batch, error => {
          if (error === undefined) failpoint('state-apply:after')
          onApplied(error)
        })
      }
    }
  }

  #hello(): Hello {
    const { outbox, peer, clock } = this.#components
    return {
      kind: 'hello',
      protocolMin,
      protocolMax,
      bootId: this.#options.bootId,
      connectCounter: ++this.#connectCounter,
      ...peer.peer,
      wallMs: clock.wallMs(),
      uptimeMs: outbox.uptimeMs(),
      clockSynchronised: this.#components.clockSynchronised(),
      lanes: outbox.helloLanes(),
      software: this.#options.software,
      stateDigests: this.#reader?.takeDigests() ?? []
    }
  }

  #onMessage(message: Buffer): void {
    let frame: Frame
    try {
      frame = decodeFrame(message)
    } catch (error) {
      if (!(error instanceof FrameError)) throw error
      this.#step({ kind: 'violation', message: error.message })
      return
    }
    switch (frame.kind) {
      case 'welcome': return this.#step({ kind: 'welcome', welcome: frame })
      case 'refuse': return this.#step({ kind: 'refuse', refuse: frame })
      case 'log-ack': {
        const nowMs = this.#components.clock.monotonicMs()
        this.#sender?.partsArrived(frame.partBytes, nowMs)
        for (const { lane, next, batches } of this.#sender?.acknowledged(frame.watermarks, nowMs) ?? []) {
          for (const batch of batches) this.stats.recordsAcknowledged += batch.next - batch.base
          this.#components.outbox.acknowledge(this.#components.outbox.laneById(lane)!, next, batches)
        }
        return this.#pump()
      }
      case 'probe-reply': {
        const sentMs = this.#session.probeSentMs
        if (sentMs !== undefined) this.stats.probeMs = this.#components.clock.monotonicMs() - sentMs
        return
      }
      case 'state-digest':
      case 'state-verdict':
      case 'state-inventory':
      case 'state-changes':
      case 'state-ack': return this.#guard(() => { this.#onState(frame) })
      default: return this.#step({ kind: 'violation', message: `the cloud sent a ${frame.kind} frame` })
    }
  }

  #onState(frame: StateFrame): void {
    const [reader, writer] = [this.#reader, this.#writer]
    if (frame.kind === 'state-changes' && reader !== undefined) {
      reader.receive(frame)
      this.#answerSoon()
      return
    }
    if (frame.kind === 'state-verdict' && reader !== undefined) reader.verdicts(frame.verdicts)
    else if (frame.kind === 'state-digest' && writer !== undefined) writer.told(frame.digests)
    else if (frame.kind === 'state-inventory' && writer !== undefined) writer.inventory(frame)
    else if (frame.kind === 'state-ack' && writer !== undefined) {
      const before = writer.refused
      writer.acknowledged(frame, this.#components.clock.monotonicMs())
      if (writer.refused !== before) this.#components.log.error('State that goes up: the cloud refused', { reason: writer.refused })
    } else throw new ReceiveError('FRAME_UNEXPECTED', `the cloud sent a ${frame.kind} frame`)
    this.#pumpSoon()
  }

  /** Whatever goes wrong with State ends the session, not the process. */
  #guard(work: () => void): void {
    try {
      work()
    } catch (error) {
      if (error instanceof ReceiveError) {
        this.#step({ kind: 'violation', message: error.message })
        return
      }
      this.#components.log.error('link: State failed', { error: describeError(error) })
      this.#step({ kind: 'restart', reason: 'failed' })
    }
  }

  /** Sets up State for this session, as far as the cloud speaks of it (SES-12, STA-15). */
  #openState(welcome: Welcome, attempt: number): void {
    const { stateUp, log } = this.#components
    const reader = this.#reader
    if (welcome.protocol >= stateProtocolMin) reader?.verdicts(welcome.stateVerdicts)
    if (welcome.protocol < stateProtocolMin) {
      log.warn('the cloud speaks an older protocol, without State: the node keeps the objects that it has and reports nothing until '
        + 'cloudcore is upgraded', { protocol: welcome.protocol, cloud: welcome.software })
    }
    if (welcome.protocol < stateProtocolMin || this.#clusterChanged) {
      reader?.close()
      this.#reader = undefined
      return
    }
    if (stateUp === undefined) return
    this.#writer = new StateWriter(stateUp, {
      onReady: () => { if (attempt === this.#attempt) this.#pumpSoon() },
      onWithheld: message => { log.error(`State that goes up: ${message}`) },
      stats: this.stateStats.up
    })
    this.#writer.told(welcome.stateDigests)
  }

  /** Brings the outbox in line with what the cloud holds, then goes live. */
  async #compare(welcome: Welcome, attempt: number): Promise<void> {
    const { outbox, peer, log } = this.#components
    const known = peer.peer
    if (welcome.protocol < protocolMin || welcome.protocol > protocolMax) {
      this.#step({ kind: 'violation', message: `the cloud chose version ${welcome.protocol} of the protocol` })
      return
    }
    this.#clusterChanged = known.clusterUid !== '' && known.clusterUid !== welcome.clusterUid
    if (this.#clusterChanged) {
      this.stats.clusterChanges++
      log.error('ClusterChanged: this is another cluster; what is held of the one that was stays, until the node is joined ' +
        'with --adopt', { was: known.clusterUid, is: welcome.clusterUid })
    }
    // In the committer's hands before anything of this cluster's State can be.
    const remembered = known.clusterUid !== '' ? undefined :
      peer.remember({ clusterUid: welcome.clusterUid, logId: known.logId === '' ? welcome.logId : known.logId })
    this.#guard(() => { this.#openState(welcome, attempt) })
    if (remembered !== undefined) await remembered
    if (attempt !== this.#attempt) return
    if (peer.peer.logId !== welcome.logId) {
      if (known.logId !== '') {
        this.stats.logChanges++
        log.warn('another cloud log: everything still held is sent again', { was: known.logId, is: welcome.logId })
        await outbox.forgetAcknowledged()
      }
      await peer.remember({ ...peer.peer, logId: welcome.logId })
    }
    let diverged = false
    for (const lane of outbox.lanes) {
      const comparison = await outbox.compare(lane, welcome.watermarks)
      if (attempt !== this.#attempt) return
      if (comparison.kind === 'trimmed') {
        this.#step({ kind: 'restart', reason: 'trimmed' })
        return
      }
      if (comparison.kind === 'position') {
        await outbox.moveTo(lane, comparison.next)
        continue
      }
      diverged = true
      this.stats.divergences++
      log.error('lane diverged: the cloud holds other bytes under our name; what is not acknowledged is re-identified', {
        lane: lane.name, epoch: comparison.epoch, offset: comparison.next, from: lane.acked
      })
      await outbox.reidentify(lane)
    }
    if (attempt !== this.#attempt) return
    if (diverged) {
      this.#step({ kind: 'restart', reason: 'diverged' })
      return
    }
    this.#sender = new LogSender(outbox.lanes.map(lane => ({
      id: lane.id,
      weight: laneWeights[lane.options.priority],
      patient: lane.options.priority !== 'high',
      acked: lane.acked,
      durable: lane.durable
    })), welcome.windowBytes)
    this.#share = new FrameScheduler()
    for (const kind of ['log', 'state'] as const) this.#share.setClass(kind, linkWeights[kind])
    this.stats.sessions++
    this.#step({ kind: 'compared' })
    log.info('link up', { session: this.#connectCounter, cloud: welcome.software })
    this.#pump()
  }

  #available(lane: OutboxLane): void {
    if (this.#sender === undefined) return
    this.#sender.available(lane.id, lane.durable)
    // Behind the acknowledgements of what is durable now: the write would wake cloudcore, or the network, before a device.
    this.#pumpSoon()
  }

  /** What was taken in is acknowledged when it has gone its way on this node, together with what that brings about. */
  #answerSoon(): void {
    this.#answering ??= this.#components.clock.after(stateLimits.answerDelayMs.value, () => {
      this.#answering = undefined
      this.#pump()
    })
  }

  /** Once for everything that happens in this turn. */
  #pumpSoon(): void {
    if (this.#pumpScheduled) return
    this.#pumpScheduled = true
    this.#components.clock.soon(() => {
      this.#pumpScheduled = false
      this.#pump()
    })
  }

  /** Sends what may be sent. Reads from the outbox may answer at once or later; either way the loop goes on here. */
  #pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    const sender = this.#sender
    while (sender !== undefined && sender === this.#sender) {
      this.#guard(() => { this.#answerState() })
      if (sender !== this.#sender) break
      const stateFirst = this.#share.next(['log', 'state']) === 'state'
      if (stateFirst && this.#pumpState()) continue
      if (this.#pumpLog(sender)) continue
      if (stateFirst || !this.#pumpState()) break
    }
    this.#pumping = false
  }

  /** Acknowledgements, digests and pages of what is held: short, and the cloud waits for them. */
  #answerState(): void {
    const reader = this.#reader
    for (let frame = reader?.next(); frame !== undefined; frame = reader?.next()) this.#send(frame)
  }

  /** False where there is nothing to do now. */
  #pumpState(): boolean {
    let sent = false
    this.#guard(() => {
      const output = this.#writer?.next(this.#components.clock.monotonicMs())
      if (output === undefined) return
      this.#send(output.frame)
      this.#share.sent('state', output.bytes)
      sent = true
    })
    return sent
  }

  /** False where there is nothing to do now. */
  #pumpLog(sender: LogSender): boolean {
    const output = sender === this.#sender ? sender.next(this.#components.clock.monotonicMs()) : undefined
    if (output === undefined) return false
    if (output.kind === 'wait') {
      this.#waitFor ??= this.#components.clock.after(output.delayMs, () => {
        this.#waitFor = undefined
        this.#pump()
      })
      return false
    }
    if (output.kind === 'send') {
      this.#sendLog(output.frame)
      this.#share.sent('log', output.bytes)
    } else this.#read(sender, output.lane, output.from, output.bytesMax)
    return true
  }

  #read(sender: LogSender, id: number, from: number, bytesMax: number): void {
    const { outbox } = this.#components
    const lane = outbox.laneById(id)!
    outbox.read(lane, from, bytesMax, (batches: readonly HeldBatch[]) => {
      if (sender !== this.#sender) return
      sender.read(id, batches)
      this.#pump()
    })
  }

  #sendLog(frame: Frame): void {
    this.#components.failpoint('send:before')
    this.#send(frame)
    this.#components.failpoint('send:after')
  }

  #send(frame: Frame): void {
    const message = encodeFrame(frame)
    this.stats.framesSent++
    this.stats.bytesSent += message.length
    this.#connection?.send(message)
  }

  /** One line for each change of the reason, however often it is tried again. */
  #logEnd(reason: EndReason, detail: string): void {
    const { log } = this.#components
    const before = this.#lastEnd
    this.#lastEnd = `${reason}: ${detail}`
    this.#lastEndKind = kindOfEnd(reason, detail)
    const wasUp = this.#sender !== undefined || reason === 'diverged'
    const message = wasUp ? 'link down' : 'link not up'
    if (!wasUp && (before === this.#lastEnd || reason === 'stopped')) log.debug(message, { reason, detail })
    else if (this.#lastEndKind === 'trouble') log.error(message, { reason, detail })
    else if (wasUp) log.info(message, { reason, detail })
    else log.warn(`${message}; records wait on this node, and it is tried again`, { reason, detail })
  }

  #end(reason: EndReason, detail: string): void {
    this.stats.ends[reason]++
    this.#logEnd(reason, detail)
    this.#attempt++
    this.#sender = undefined
    this.#reader?.close()
    this.#reader = undefined
    this.#writer?.close()
    this.#writer = undefined
    this.#greeting?.cancel()
    this.#greeting = undefined
    this.#connection = undefined
    this.#alarm?.cancel()
    this.#waitFor?.cancel()
    this.#waitFor = undefined
    this.#answering?.cancel()
    this.#answering = undefined
  }
}
