import { compareVersions, emptyTwin, writerOf } from '@holdfast/device-twin'
import type { Entry, Twin } from '@holdfast/device-twin'
import type { Clock, Timer } from '@holdfast/runtime'
import type { Committer } from '@holdfast/store'
import type { ObjectTable } from '../objects/index.ts'
import type { DeviceId } from './device-twins.ts'
import { settingOf } from './device-settings.ts'
import type { DeviceSettings } from './device-settings.ts'
import { valueText } from './held-twin.ts'
import type { HeldTwin } from './held-twin.ts'
import { decodeUpTwin, encodeUpTwin } from './twin-format.ts'
import type { UpTwin } from './twin-format.ts'

export interface TwinReportsOptions {
  /** The node's name: whose desired values are news to the cloud. */
  readonly node: string
  /** For devices that say nothing of it. */
  readonly intervalMs: number
}

export interface TwinReportsComponents {
  readonly table: Pick<ObjectTable, 'putUp' | 'deleteUp' | 'upItem' | 'up'>
  readonly committer: Pick<Committer, 'failure'>
  readonly clock: Clock
}

interface Pacing {
  /** As it is to be told. */
  held: HeldTwin
  /** Likewise, as it was last told. */
  trouble: string | undefined
  /** As the newest item says it. */
  sent: UpTwin | undefined
  /** False: the item that was there when the store was opened has not been looked at. */
  isRead: boolean
  /** When that was put; monotonic. */
  sentMs: number
  timer: Timer | undefined
  /** When the timer runs. */
  dueMs: number
}

const collection = 'twins'
const retryMs = 1000
/** Compared with what lies among the up items at a time, behind an opening. */
const comparedAtATime = 64

/**
 * What goes up of the twins, and when (TWN-31): a change at once where none went for the device's interval, otherwise at its
 * end, newest only. So what is waiting is one item a device, whatever number of reports came.
 */
export class TwinReports {
  /** Items put since start. */
  puts = 0
  /** Devices with something that waits for its interval. */
  pending = 0
  readonly #options: TwinReportsOptions
  readonly #components: TwinReportsComponents
  readonly #pacings = new Map<DeviceId, Pacing>()
  /** The comparison under way. */
  #comparing: object | undefined

  constructor(options: TwinReportsOptions, components: TwinReportsComponents) {
    this.#options = options
    this.#components = components
  }

  /**
   * Begins anew, with what lies among the up items: compared by and by, in later turns of the event loop, so that a start does
   * not wait for it.
   */
  load(twins: Iterable<HeldTwin>): void {
    this.close()
    for (const held of twins) this.#begin(held, false)
    this.#compare(this.#pacings.values())
  }

  #compare(pacings: IterableIterator<Pacing>): void {
    const comparing = {}
    this.#comparing = comparing
    this.#components.clock.soon(() => {
      if (this.#comparing !== comparing) return
      for (let n = 0; n < comparedAtATime; n++) {
        const next = pacings.next()
        if (next.done === true) return
        if (!next.value.isRead) this.consider(next.value.held)
      }
      this.#compare(pacings)
    })
  }

  /** Up items of devices that are not here. Not to be called before the store can be written. */
  sweep(): void {
    const { table } = this.#components
    const strays = [...table.up.keysFrom(collection, '')].map(([key]) => key).filter(key => !this.#pacings.has(key as DeviceId))
    for (const key of strays) table.deleteUp(collection, key, () => {})
  }

  /** The twin is this from now on, or will be when its commit is durable; its item may go into that commit. */
  consider(held: HeldTwin): void {
    const pacing = this.#pacings.get(held.id) ?? this.#begin(held, true)
    this.#read(pacing)
    pacing.held = held
    if (pacing.sent !== undefined && pacing.sent.uid !== held.uid) {
      // What is said there is of another device (TWN-36).
      pacing.trouble = undefined
      this.#put(pacing)
      return
    }
    const monotonicMs = this.#components.clock.monotonicMs()
    const endMs = pacing.sentMs + this.#intervalMs(pacing)
    // Under way already, as early as may be.
    if (pacing.timer !== undefined && pacing.dueMs <= endMs) return
    const urgency = urgencyOf(pacing, this.#options.node)
    if (urgency === undefined) {
      this.#disarm(pacing)
      return
    }
    const dueMs = urgency === 'now' ? Math.max(endMs, monotonicMs) : monotonicMs + this.#intervalMs(pacing)
    if (dueMs <= monotonicMs) this.#put(pacing)
    else if (pacing.timer === undefined || dueMs < pacing.dueMs) this.#arm(pacing, dueMs)
  }

  /** What keeps the device from being served is this from now on; '': nothing. Goes at once (TWN-42). */
  tellTrouble({ id, uid }: Pick<HeldTwin, 'id' | 'uid'>, trouble: string): void {
    const pacing = this.#pacings.get(id)
    if (pacing?.held.uid !== uid) return
    // As the comparison does it behind an opening, which passes over what was read.
    if (!pacing.isRead) this.consider(pacing.held)
    if (pacing.trouble === trouble) return
    pacing.trouble = trouble
    this.#put(pacing)
  }

  /** What waits is put now: a session is about to begin, and is to compare what is true then. */
  flush(): void {
    if (this.pending === 0) return
    for (const pacing of this.#pacings.values()) {
      if (pacing.timer !== undefined && urgencyOf(pacing, this.#options.node) !== undefined) this.#put(pacing)
    }
  }

  /** The device is gone. Its item goes in this turn's commit. */
  forget(id: DeviceId): void {
    const pacing = this.#pacings.get(id)
    if (pacing !== undefined) this.#disarm(pacing)
    this.#pacings.delete(id)
    this.#components.table.deleteUp(collection, id, () => {})
  }

  /** Stops timers. */
  close(): void {
    this.#comparing = undefined
    for (const pacing of this.#pacings.values()) this.#disarm(pacing)
    this.#pacings.clear()
  }

  #begin(held: HeldTwin, isRead: boolean): Pacing {
    const pacing = { held, trouble: undefined, sent: undefined, isRead, sentMs: -Infinity, timer: undefined, dueMs: Infinity }
    this.#pacings.set(held.id, pacing)
    return pacing
  }

  #read(pacing: Pacing): void {
    if (pacing.isRead) return
    const { held } = pacing
    const item = this.#components.table.upItem(collection, held.id)
    pacing.sent = item === undefined ? undefined : decodeUpTwin(item.value)
    pacing.isRead = true
    // Nobody has looked since.
    if (pacing.sent?.uid === held.uid) pacing.trouble = pacing.sent.trouble
    // In memory once where both are the same: most are. Within a deadband they are not.
    if (!hasDeadband(held.settings) && urgencyOf(pacing, this.#options.node) === undefined) {
      pacing.sent = { uid: held.uid, twin: reportedToCloud(held.twin, held.settings), trouble: pacing.trouble }
    }
  }

  #intervalMs({ held }: Pacing): number { return held.settings.reportIntervalMs ?? this.#options.intervalMs }

  #arm(pacing: Pacing, dueMs: number): void {
    this.#disarm(pacing)
    const { clock } = this.#components
    this.pending++
    pacing.dueMs = dueMs
    pacing.timer = clock.after(Math.max(0, dueMs - clock.monotonicMs()), () => {
      this.#disarm(pacing)
      if (urgencyOf(pacing, this.#options.node) !== undefined) this.#put(pacing)
    })
  }

  #disarm(pacing: Pacing): void {
    if (pacing.timer === undefined) return
    this.pending--
    pacing.timer.cancel()
    pacing.timer = undefined
    pacing.dueMs = Infinity
  }

  #put(pacing: Pacing): void {
    const { table, committer, clock } = this.#components
    this.#disarm(pacing)
    if (committer.failure !== undefined) {
      this.#arm(pacing, clock.monotonicMs() + retryMs)
      return
    }
    const { held: { id, uid, twin, settings }, trouble } = pacing
    pacing.sent = { uid, twin: reportedToCloud(twin, settings), trouble }
    pacing.sentMs = clock.monotonicMs()
    this.puts++
    // Where it fails, the store is opened again, and `load` compares.
    table.putUp(collection, id, encodeUpTwin(id, pacing.sent), () => {})
  }
}

function hasDeadband({ deadband: { every, some } }: DeviceSettings): boolean { return every !== 0 || some.size > 0 }

/** Without what stays on the node. */
function reportedToCloud(twin: Twin, { unreported }: DeviceSettings): Twin {
  if (unreported.size === 0) return twin
  return { ...twin, reported: new Map([...twin.reported].filter(([name]) => !unreported.has(name))) }
}

/** Whether what was sent is behind, and how soon that matters; undefined: it is not, or not by enough. */
function urgencyOf({ held, sent, trouble }: Pacing, node: string): 'now' | 'wait' | undefined {
  if (sent !== undefined && sent.uid !== held.uid) return 'now'
  const { settings } = held
  const past = sent?.twin ?? emptyTwin
  const twin = reportedToCloud(held.twin, settings)
  let urgency: 'now' | 'wait' | undefined = sent === undefined ? 'wait' : undefined
  for (const [name, entry] of twin.reported) {
    const before = past.reported.get(name)
    if (before === entry) continue
    const found = reportedUrgency(before, entry, settingOf(settings.deadband, name), valueText(twin.desired.get(name)))
    if (found === 'now') return 'now'
    urgency ??= found
  }
  for (const [name, entry] of twin.desired) {
    const before = past.desired.get(name)
    if (before === entry || before !== undefined && compareVersions(before.version, entry.version) === 0) continue
    if (writerOf(entry.version) === node) return 'now'
    urgency = 'wait'
  }
  if (past.state?.value !== twin.state?.value) return 'now'
  if (past.state?.timestamp !== twin.state?.timestamp || sent?.trouble !== trouble
    || lacks(twin.reported, past.reported) || lacks(twin.desired, past.desired)) {
    urgency = 'wait'
  }
  return urgency
}

/** Whether what is desired has been reached or left matters, however little the value moved. */
function reportedUrgency(
  before: Entry | undefined, entry: Entry, deadband: number, wanted: string | undefined
): 'now' | 'wait' | undefined {
  const [past, now] = [valueText(before), valueText(entry)]
  if (past === now) {
    return before?.timestamp === entry.timestamp && before.deleted === entry.deleted ? undefined : 'wait'
  }
  if (wanted !== undefined && (past === wanted || now === wanted)) return 'now'
  const moved = typeof before?.value === 'number' && typeof entry.value === 'number' ? Math.abs(entry.value - before.value) : Infinity
  return moved <= deadband ? undefined : 'now'
}

/** True where `past` has a name that `now` has not. */
function lacks(now: ReadonlyMap<string, Entry>, past: ReadonlyMap<string, Entry>): boolean {
  for (const name of past.keys()) if (!now.has(name)) return true
  return false
}
