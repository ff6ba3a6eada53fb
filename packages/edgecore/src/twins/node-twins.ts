import { HybridClock, step } from '@holdfast/device-twin'
import type { PropertyWrite, TwinInput, TwinOutput, Version } from '@holdfast/device-twin'
import type { KubeObject } from '@holdfast/kube-api'
import { RecordTopic } from '@holdfast/protos'
import { HoldfastError, codeOfError, describeError } from '@holdfast/runtime'
import type { Clock, Log, Random } from '@holdfast/runtime'
import type { Commit, CommitPart, Committer, Outbox, OutboxLane, Store, WriteOp } from '@holdfast/store'
import { SortedKeys } from '@holdfast/sync'
import type { ObjectChange, ObjectTable } from '../objects/index.ts'
import { parseObject } from '../objects/index.ts'
import { wantsHistory } from './device-settings.ts'
import { TwinRefused, parseDeviceId } from './device-twins.ts'
import type { DeviceId, DeviceTwin, DeviceTwins, TwinChange, TwinWrite, TwinWriting, WriteSource } from './device-twins.ts'
import { alignTwin, changeBetween, isNone, modelKeyOf } from './held-twin.ts'
import type { Aligned, HeldTwin } from './held-twin.ts'
import { encodeStoredTwin, twinKey, waitingKey } from './twin-format.ts'
import type { StoredTwin } from './twin-format.ts'
import { historyPayloads, historyTopic } from './twin-history.ts'
import { readTwins, writeInSteps } from './twin-load.ts'
import { TwinReports } from './twin-reports.ts'

export interface NodeTwinsOptions {
  /** The node's name. */
  readonly node: string
  /** How often a twin goes up, at most; a Device may say another interval. */
  readonly reportIntervalMs: number
  /** How long the same value again is not worth storing (TWN-21). */
  readonly freshnessMs: number
  /**
   * Where the history of devices goes (TWN-40); not of high priority, so that it shares the twins' commits. Undefined: there is no
   * such lane, and none is kept.
   */
  readonly historyLane: OutboxLane | undefined
  /** The newest entries of the store may be missing. */
  readonly suspect: boolean
}

export interface NodeTwinsComponents {
  readonly committer: Pick<Committer, 'gather' | 'failure'>
  /** Open already. Told of its `reopen` by ours, behind it. */
  readonly table: Pick<ObjectTable, 'subscribe' | 'items' | 'sequenceOf' | 'stats' | 'putUp' | 'deleteUp' | 'upItem' | 'up'>
  readonly outbox: Pick<Outbox, 'gather' | 'append'>
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Whether the wall clock is known to have been set (TWN-11). */
  readonly clockTrusted: () => boolean
}

export interface WriteCount {
  readonly section: TwinWrite['section']
  readonly source: WriteSource
  readonly outcome: TwinWriting['kind'] | 'refused'
  count: number
}

/** Counts since start, for metrics. */
export interface NodeTwinsStats {
  /** One count for each that there was. */
  readonly writes: Map<string, WriteCount>
  readonly refused: Map<string, number>
  /** Properties and states that came older than what is stored. */
  staleProperties: number
  /** Records that were put into the history lane. */
  historyRecords: number
  damagedTwins: number
}

/** One device: what everybody sees, and what it is to be when the commits under way are durable. */
interface Slot {
  readonly id: DeviceId
  durable: HeldTwin | undefined
  staged: HeldTwin | undefined
  topic: RecordTopic | undefined
}

/** How long what merely follows from a Device waits for company. */
const alignDelayMs = 50

/**
 * The twins of this node's devices, in its database and all in memory. Devices and models come from the object table, whose
 * changes it follows; what is to go up goes back there.
 *
 * Level-triggered: a twin is brought in line with its Device whenever that changes, and all of them when the store is opened, so
 * that it does not matter where a crash was.
 */
export class NodeTwins implements DeviceTwins {
  readonly stats: NodeTwinsStats = {
    writes: new Map(), refused: new Map(), staleProperties: 0, historyRecords: 0, damagedTwins: 0
  }
  readonly #options: NodeTwinsOptions
  readonly #components: NodeTwinsComponents
  readonly #reports: TwinReports
  readonly #clock: HybridClock
  readonly #listeners = new Set<(change: TwinChange) => void>()
  readonly #slots = new SortedKeys<Slot>()
  /** What the object table holds; one that was found damaged there stays until the cloud has said what there is. */
  #devices = new Map<DeviceId, KubeObject>()
  #models = new Map<string, KubeObject>()
  /** Twins whose Device may merely be lost: kept until the cloud has said what there is. */
  #orphans = new Map<DeviceId, StoredTwin>()
  /** Collections of which more may be held here than the cloud has. */
  readonly #unchecked = new Set<string>()
  #size = 0
  #refusal: HoldfastError | undefined

  private constructor(options: NodeTwinsOptions, components: NodeTwinsComponents) {
    this.#options = options
    this.#components = components
    const { table, committer, clock, random } = components
    this.#reports = new TwinReports({ node: options.node, intervalMs: options.reportIntervalMs }, { table, committer, clock })
    this.#clock = new HybridClock(options.node, Buffer.from(random.bytes(4)).toString('hex'))
  }

  /**
   * Reads all twins and brings them in line with the Devices on disk. Rejects with `TWINS_NEWER` or the store's errors: what is
   * damaged is dropped, counted and logged.
   */
  static async open(options: NodeTwinsOptions, store: Store, components: NodeTwinsComponents): Promise<NodeTwins> {
    const twins = new NodeTwins(options, components)
    await twins.#load(store, options.suspect)
    components.table.subscribe({
      changed: changes => twins.#follow(changes),
      // `reopen` follows.
      reset() {},
      synced: collection => twins.#synced(collection)
    })
    return twins
  }

  /** Goes on with a store that was opened anew, behind the object table. What failed is dropped; what is durable counts. */
  async reopen(store: Store, suspect: boolean): Promise<void> { await this.#load(store, suspect) }

  /** Writes are refused with this error until it is taken back with `undefined`; what comes from the cloud is not. */
  refuse(error: HoldfastError | undefined): void { this.#refusal = error }

  /** Stops timers; what is committed stays. */
  close(): void { this.#reports.close() }

  get size(): number { return this.#size }

  /** What keeps a device from being served; '': nothing. It goes up (TWN-42). */
  tellTrouble(device: Pick<DeviceTwin, 'id' | 'uid'>, trouble: string): void { this.#reports.tellTrouble(device, trouble) }

  /** What waits for its interval goes up now (TWN-31). */
  reportAll(): void { this.#reports.flush() }

  /** Twins that wait to be sent, and items that were put among what goes up. */
  get reports(): { readonly pending: number, readonly puts: number } { return this.#reports }

  get(id: DeviceId): DeviceTwin | undefined { return this.#slots.get(id)?.durable }

  *all(): Generator<DeviceTwin> { for (const [, { durable }] of this.#slots.from('')) if (durable !== undefined) yield durable }

  subscribe(listener: (change: TwinChange) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  // Writing

  write(id: DeviceId, write: TwinWrite, source: WriteSource): TwinWriting {
    try {
      const writing = this.#write(id, write)
      this.#count(write.section, source, writing.kind)
      return writing
    } catch (error) {
      const code = codeOfError(error)
      if (code !== undefined) {
        this.#count(write.section, source, 'refused')
        this.stats.refused.set(code, (this.stats.refused.get(code) ?? 0) + 1)
      }
      throw error
    }
  }

  #count(section: WriteCount['section'], source: WriteCount['source'], outcome: WriteCount['outcome']): void {
    const key = `${section} ${source} ${outcome}`
    const count = this.stats.writes.get(key)
    if (count === undefined) this.stats.writes.set(key, { section, source, outcome, count: 1 })
    else count.count++
  }

  #write(id: DeviceId, write: TwinWrite): TwinWriting {
    const slot = this.#slots.get(id)
    const before = slot?.staged
    if (slot === undefined || before === undefined) {
      throw new HoldfastError('TWIN_DEVICE_UNKNOWN', `${id} is no device of this node: there is no Device of that name whose `
        + `spec.nodeName is ${this.#options.node}`)
    }
    const nowMs = this.#components.clock.wallMs()
    let { twin } = before
    const outputs: TwinOutput[] = []
    for (const input of this.#inputs(before, write, nowMs)) {
      const result = step(twin, input)
      for (const output of result.outputs) {
        if (output.kind === 'refused') throw new TwinRefused(output.error)
        outputs.push(output)
      }
      twin = result.twin
    }
    const stores = outputs.some(({ kind }) => kind === 'persist')
    const stale = outputs.flatMap(output => output.kind === 'stale' ? output.properties : [])
    // A state is no property: its output names none.
    for (const output of outputs) if (output.kind === 'stale') this.stats.staleProperties += Math.max(1, output.properties.length)
    const after = stores ? { ...before, twin } : before
    const records = this.#options.historyLane === undefined ? [] : historyRecords(write, after, outputs, stale, nowMs)
    const kind = stores ? 'stored' : 'unchanged'
    if (!stores && records.length === 0) {
      // Behind whatever is under way, whose values these are; a commit without changes costs no write.
      const commit = slot.staged === slot.durable ? undefined : this.#components.committer.gather({ bytes: 0 })
      return { kind, stale, before, after, commit }
    }
    const commit = this.#put(slot, after, stores, records)
    return { kind, stale, before, after, commit }
  }

  *#inputs({ rules }: HeldTwin, write: TwinWrite, nowMs: number): Generator<TwinInput> {
    const trusted = this.#components.clockTrusted()
    const common = () => ({ version: this.#clock.next(trusted ? nowMs : undefined), nowMs, rules })
    // A clock that was not set says nothing of what is older (TWN-22).
    const stamped = (writes: ReadonlyMap<string, PropertyWrite>) => trusted ? writes : withoutTimestamps(writes)
    switch (write.section) {
      case 'state': {
        const { state, timestamp = 0 } = write
        yield { kind: 'state', value: state, timestamp: trusted ? timestamp : 0, nowMs }
        return
      }
      case 'both':
        if (write.reported.size > 0) yield { kind: 'reported', writes: stamped(write.reported), merge: false, ...common() }
        if (write.desired.size > 0) yield { kind: 'desired-set', writes: stamped(write.desired), merge: false, ...common() }
        return
      default: {
        const { section, writes, merge = false, expectedRevision } = write
        yield {
          kind: section === 'desired' ? 'desired-set' : 'reported', writes: stamped(writes), merge,
          ...expectedRevision !== undefined && { expectedRevision }, ...common()
        }
      }
    }
  }

  /** All into one commit, or nothing and an error. */
  #put(slot: Slot, after: HeldTwin, stores: boolean, records: readonly Buffer[]): Commit {
    const { outbox, committer: { failure } } = this.#components
    if (this.#refusal !== undefined) throw this.#refusal
    if (failure !== undefined) {
      throw new HoldfastError('STORE_FAILED', `the database is being opened again after a failed write: ${describeError(failure)}`)
    }
    let commit = this.#room(slot)
    const { historyLane } = this.#options
    if (historyLane !== undefined && records.length > 0) {
      // Asked last: where this begins another commit, all goes there.
      commit = outbox.gather(historyLane, records.reduce((sum, { length }) => sum + length, 0))
      slot.topic ??= new RecordTopic(historyTopic(slot.id), slot.id)
      for (const record of records) outbox.append(commit, historyLane, slot.topic, record)
      this.stats.historyRecords += records.length
    }
    if (stores) {
      this.#stage(slot, after, true, commit)
      this.#reports.consider(after)
    }
    return commit
  }

  /** The commit that gathers now, with room for the twin: a twin counts once, however often it changes. */
  #room(slot: Slot, delayMs = 0): Commit {
    const { committer } = this.#components
    const commit = committer.gather({ bytes: 0, delayMs })
    return this.#part(commit).has(slot) ? commit : committer.gather({ bytes: (slot.staged?.twin.bytes ?? 0) + 128, delayMs })
  }

  #part(commit: Commit): TwinPart { return commit.part(this, () => new TwinPart((staged, error) => this.#settled(staged, error))) }

  #stage(slot: Slot, next: HeldTwin | undefined, stores: boolean, commit: Commit): void {
    this.#part(commit).stage(slot, next, stores)
    slot.staged = next
  }

  #settled(staged: ReadonlyMap<Slot, Staged>, error: Error | undefined): void {
    if (error !== undefined) {
      for (const slot of staged.keys()) {
        slot.staged = slot.durable
        if (slot.durable === undefined) this.#slots.delete(slot.id)
      }
      return
    }
    const changes = [...staged].map(([slot, { next }]) => {
      const before = slot.durable
      this.#show(slot, next)
      return () => this.#tell(slot.id, before, next)
    })
    for (const tell of changes) tell()
  }

  #show(slot: Slot, next: HeldTwin | undefined): void {
    this.#size += (next === undefined ? 0 : 1) - (slot.durable === undefined ? 0 : 1)
    slot.durable = next
    if (next === undefined && slot.staged === undefined) this.#slots.delete(slot.id)
  }

  #tell(id: DeviceId, before: HeldTwin | undefined, after: HeldTwin | undefined): void {
    if (before === after || this.#listeners.size === 0) return
    const change = changeBetween(id, before, after)
    if (before !== undefined && after !== undefined && isNone(change) && before.twin.revision === after.twin.revision) return
    for (const listener of this.#listeners) listener(change)
  }

  // Following the Devices

  #follow(changes: readonly ObjectChange[]): void {
    const touched = new Set<DeviceId>()
    const models = new Set<string>()
    for (const { what, collection, key, value, previous } of changes) {
      if (what !== 'down') continue
      // What went and could not be read was damaged; the cloud has not said that it is gone.
      if (value === undefined && previous === undefined) {
        this.#unchecked.add(collection)
        continue
      }
      const object = value === undefined ? undefined : parseObject(value)
      if (collection === 'devices') {
        const id = parseDeviceId(key)
        if (id === undefined) continue
        setOrDelete(this.#devices, id, object)
        touched.add(id)
      } else if (collection === 'devicemodels') {
        setOrDelete(this.#models, key, object)
        models.add(key)
      }
    }
    this.#alignAll(touched, models)
  }

  /** The cloud has said what there is, as it does behind every change. */
  #synced(collection: string): void {
    if (!this.#unchecked.delete(collection)) return
    const { table } = this.#components
    if (collection === 'devicemodels') {
      const gone = [...this.#models.keys()].filter(key => table.sequenceOf(collection, key) === undefined)
      for (const key of gone) this.#models.delete(key)
      this.#alignAll(new Set(), new Set(gone))
    } else if (collection === 'devices') {
      const gone = [...this.#devices.keys()].filter(id => table.sequenceOf(collection, id) === undefined)
      for (const id of gone) this.#devices.delete(id)
      const commit = this.#orphans.size === 0 ? undefined : this.#components.committer.gather({ bytes: 64 * this.#orphans.size })
      for (const id of this.#orphans.keys()) if (!this.#devices.has(id)) commit!.del(twinKey(id))
      commit?.del(waitingKey)
      this.#orphans.clear()
      this.#alignAll(new Set(gone), new Set())
      this.#reports.sweep()
    }
  }

  #alignAll(ids: Set<DeviceId>, models: ReadonlySet<string>): void {
    if (models.size > 0) for (const [id, device] of this.#devices) if (models.has(modelKeyOf(device) ?? '')) ids.add(id)
    let replaced = false
    for (const id of ids) if (this.#align(id)) replaced = true
    if (replaced) this.#observeAnew()
  }

  /** Brings a twin in line with its Device; true where a version from the future was taken back. */
  #align(id: DeviceId): boolean {
    const device = this.#devices.get(id)
    const known = this.#slots.get(id)
    if (device === undefined) {
      if (known?.staged !== undefined) {
        this.#stage(known, undefined, true, this.#room(known))
        this.#reports.forget(id)
      }
      return false
    }
    const orphan = this.#orphans.get(id)
    this.#orphans.delete(id)
    const { held, stores, seen, replaced } = this.#aligned(id, known?.staged ?? orphan, device)
    const slot = known ?? this.#newSlot(id)
    const before = slot.durable
    const isSettled = slot.staged === before
    // What it follows from is durable, and is found there again whatever becomes of this commit: the device need not wait, and
    // what it reports then goes along.
    if (stores || !isSettled) this.#stage(slot, held, stores, this.#room(slot, isSettled ? alignDelayMs : 0))
    if (isSettled) {
      slot.staged = held
      this.#show(slot, held)
      this.#tell(id, before, held)
    }
    for (const version of seen) this.#clock.observe(version)
    this.#reports.consider(held)
    return replaced
  }

  #aligned(id: DeviceId, before: HeldTwin | StoredTwin | undefined, device: KubeObject): Aligned {
    const model = this.#models.get(modelKeyOf(device) ?? '')
    const aligned = alignTwin(id, before, device, model, this.#options.freshnessMs)
    const { log } = this.#components
    const { problems } = aligned.held.settings
    if (this.#options.historyLane === undefined && wantsHistory(aligned.held.settings)) {
      log.warn('the history of a device is not kept: every lane is of high priority', { device: id })
    }
    if (problems.length > 0) log.warn('annotations of a Device count as none', { device: id, problems })
    if (aligned.refused !== undefined) log.warn('a desired value does not fit into the twin', { device: id, ...aligned.refused })
    return aligned
  }

  #newSlot(id: DeviceId): Slot {
    const slot: Slot = { id, durable: undefined, staged: undefined, topic: undefined }
    this.#slots.set(id, slot)
    return slot
  }

  /** A version from the future does not pull the clock along any more (TWN-16). */
  #observeAnew(): void {
    this.#clock.reset()
    for (const [, { staged }] of this.#slots.from('')) for (const version of versionsOf(staged)) this.#clock.observe(version)
  }

  // Opening

  async #load(store: Store, suspect: boolean): Promise<void> {
    const { table, log } = this.#components
    const stored = await readTwins(store)
    const damaged = stored.damaged.length
    if (damaged > 0) {
      this.stats.damagedTwins += damaged
      log.error('damaged twins were dropped; what the cloud desires of these devices is known, what they reported comes from them again', {
        count: damaged
      })
    }
    const maybeLost = suspect || table.stats.damagedItems > 0 || stored.areWaiting
    await this.#readObjects(maybeLost)
    const ops: WriteOp[] = stored.damaged.map(key => ({ type: 'del', key }))
    const next = new Map<DeviceId, HeldTwin>()
    for (const [id, device] of this.#devices) {
      const onDisk = stored.twins.get(id)
      const { held, stores, seen } = this.#aligned(id, newer(onDisk, this.#slots.get(id)?.durable, device), device)
      next.set(id, held)
      for (const version of [...seen, ...versionsOf(held)]) this.#clock.observe(version)
      if (stores || held.twin.revision > 0 && (onDisk?.uid !== held.uid || onDisk.twin.revision !== held.twin.revision)) {
        const key = twinKey(id)
        ops.push({ type: 'put', key, value: encodeStoredTwin(key, held) })
      }
    }
    this.#orphans = new Map([...stored.twins].filter(([id]) => !this.#devices.has(id)))
    if (!maybeLost) {
      for (const id of this.#orphans.keys()) ops.push({ type: 'del', key: twinKey(id) })
      this.#orphans.clear()
    }
    // The next start finds a store in order, and would take them for twins of Devices that went.
    if (this.#orphans.size > 0 !== stored.areWaiting) {
      ops.unshift(stored.areWaiting ? { type: 'del', key: waitingKey } : { type: 'put', key: waitingKey, value: Buffer.alloc(0) })
    }
    await writeInSteps(store, ops)
    for (const collection of ['devicemodels', 'devices']) this.#unchecked.add(collection)
    this.#replaceAll(next)
    this.#reports.load(next.values())
    if (!maybeLost) this.#components.clock.soon(() => { if (this.#components.committer.failure === undefined) this.#reports.sweep() })
  }

  /** `maybeLost`: what is missing on disk and known in memory is not gone. */
  async #readObjects(maybeLost: boolean): Promise<void> {
    const { table } = this.#components
    const models = new Map(maybeLost ? this.#models : [])
    for await (const [key, value] of table.items('devicemodels')) models.set(key, parseObject(value))
    const devices = new Map(maybeLost ? this.#devices : [])
    for await (const [key, value] of table.items('devices')) {
      const id = parseDeviceId(key)
      if (id !== undefined) devices.set(id, parseObject(value))
    }
    this.#models = models
    this.#devices = devices
  }

  #replaceAll(next: ReadonlyMap<DeviceId, HeldTwin>): void {
    const changes: (() => void)[] = []
    for (const id of new Set([...[...this.#slots.from('')].map(([key]) => key as DeviceId), ...next.keys()])) {
      const slot = this.#slots.get(id) ?? this.#newSlot(id)
      const before = slot.durable
      const after = next.get(id)
      slot.staged = after
      this.#show(slot, after)
      changes.push(() => this.#tell(id, before, after))
    }
    for (const tell of changes) tell()
  }
}

interface Staged {
  readonly next: HeldTwin | undefined
  readonly stores: boolean
}

/** The twins in one commit, each encoded once, however many writes there were. */
class TwinPart implements CommitPart {
  readonly #staged = new Map<Slot, Staged>()
  readonly #onSettled: (staged: ReadonlyMap<Slot, Staged>, error: Error | undefined) => void

  constructor(onSettled: (staged: ReadonlyMap<Slot, Staged>, error: Error | undefined) => void) { this.#onSettled = onSettled }

  has(slot: Slot): boolean { return this.#staged.get(slot)?.stores === true }

  stage(slot: Slot, next: HeldTwin | undefined, stores: boolean): void {
    this.#staged.set(slot, { next, stores: stores || this.has(slot) })
  }

  write(ops: WriteOp[]): void {
    for (const [slot, { next, stores }] of this.#staged) {
      if (!stores) continue
      const key = twinKey(slot.id)
      if (next === undefined) ops.push({ type: 'del', key })
      else ops.push({ type: 'put', key, value: encodeStoredTwin(key, next) })
    }
  }

  settled(error?: Error): void { this.#onSettled(this.#staged, error) }
}

/** Records of what devices say, not of what is asked of them. */
function historyRecords(
  write: TwinWrite, after: HeldTwin, outputs: readonly TwinOutput[], stale: readonly string[], nowMs: number
): Buffer[] {
  const writes = write.section === 'both' ? write.reported : write.section === 'reported' ? write.writes : undefined
  if (writes === undefined || writes.size === 0) return []
  const changed = outputs.flatMap(output => output.kind === 'changed' && output.section === 'reported' ? output.properties : [])
  return historyPayloads({ writes, after, changed: new Set(changed), stale: new Set(stale), nowMs })
}

function withoutTimestamps(writes: ReadonlyMap<string, PropertyWrite>): ReadonlyMap<string, PropertyWrite> {
  return new Map([...writes].map(([name, { timestamp: _timestamp, ...write }]) => [name, write]))
}

/** What is on disk, or what was durable before the store went back. */
function newer(onDisk: StoredTwin | undefined, inMemory: HeldTwin | undefined, device: KubeObject): StoredTwin | HeldTwin | undefined {
  const { uid } = device.metadata
  if (inMemory === undefined || inMemory.uid !== uid) return onDisk
  return onDisk !== undefined && onDisk.uid === uid && onDisk.twin.revision > inMemory.twin.revision ? onDisk : inMemory
}

function* versionsOf(held: HeldTwin | undefined): Generator<Version> {
  if (held === undefined) return
  for (const { version } of held.twin.desired.values()) yield version
  for (const { version } of held.twin.reported.values()) yield version
}

function setOrDelete<Key, Value>(map: Map<Key, Value>, key: Key, value: Value | undefined): void {
  if (value === undefined) map.delete(key)
  else map.set(key, value)
}
