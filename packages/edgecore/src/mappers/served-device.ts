import { delta, textOf } from '@holdfast/device-twin'
import type { DeviceState, Json, PropertyWrite } from '@holdfast/device-twin'
import { describeError, hasCode } from '@holdfast/runtime'
import type { Clock, Log, Timer } from '@holdfast/runtime'
import type { Commit } from '@holdfast/store'
import { TwinRefused } from '../twins/device-twins.ts'
import type { DeviceTwin, DeviceTwins, TwinWrite } from '../twins/device-twins.ts'
import { mapperLimits as limits } from './limits.ts'
import type { DeviceHost, DeviceMapper, MappedDevice, Protocol } from './mapper.ts'

export interface ServedDeviceOptions {
  /** Deadline of one `write`. */
  readonly writeTimeoutMs: number
  /** From telling a value to telling it again, doubled each time. */
  readonly retryMs: number
  readonly retryMsMax: number
}

export interface ServedDeviceComponents {
  readonly twins: DeviceTwins
  readonly clock: Clock
  readonly log: Log
  readonly counters: MapperCounters
}

/** Plain numbers; whoever serves metrics reads them. */
export interface MapperCounters {
  /** Reports that were taken: messages, answers of devices, calls of webhooks. */
  reports: number
  /** Values that could not be taken, by the device's fault or its settings'. */
  problems: number
  /** Desired values told to devices. */
  writes: number
  /** Of these, those that failed. */
  writesFailed: number
}

/** What is wrong with a served device; `property` undefined: the device as a whole. */
export interface MapperProblem {
  readonly property: string | undefined
  readonly reason: string
}

interface Telling {
  readonly value: Json
  readonly text: string
  attempt: number
  /** Monotonic, as `toldMs`. */
  dueMs: number
  /** When the last attempt began; undefined: there was none, or it failed. */
  toldMs: number | undefined
}

/** A problem that stays is logged once in so long. */
const logEveryMs = 300_000

/**
 * One device, its mapper, and what stands between the two and the twin: reports go into it, desired values out of it, one
 * at a time, again and again until they are reported (TWN-27).
 */
export class ServedDevice implements DeviceHost {
  readonly device: MappedDevice
  readonly #options: ServedDeviceOptions
  readonly #components: ServedDeviceComponents
  readonly #mapper: DeviceMapper | undefined
  readonly #misconfigured = new Map<string, string>()
  /** What could not be read or stored; '': of the whole device. */
  readonly #readingProblems = new Map<string, string>()
  /** What could not be told. */
  readonly #tellingProblems = new Map<string, string>()
  readonly #loggedMs = new Map<string, number>()
  readonly #tellings = new Map<string, Telling>()
  #telling: AbortController | undefined
  #timer: Timer | undefined
  #closed = false

  /** Attaches; what cannot be served is a problem, not an error. */
  constructor(device: MappedDevice, protocol: Protocol, options: ServedDeviceOptions, components: ServedDeviceComponents) {
    this.device = device
    this.#options = options
    this.#components = components
    try {
      this.#mapper = protocol.attach(device, this)
    } catch (error) {
      this.#misconfigured.set('', cut(describeError(error)))
      this.#warn('', describeError(error))
    }
  }

  /** Whether there is anything that the mapper can do for it. */
  get isUsable(): boolean {
    const { properties } = this.device
    return this.#mapper !== undefined && (properties.length === 0 || properties.some(({ name }) => !this.#misconfigured.has(name)))
  }

  /** What is wrong: with the device as a whole, and then in the order of its properties, one of each. */
  get problems(): MapperProblem[] {
    return ['', ...this.device.properties.map(({ name }) => name)].flatMap(subject => {
      const reason = this.#misconfigured.get(subject) ?? this.#readingProblems.get(subject) ?? this.#tellingProblems.get(subject)
      return reason === undefined ? [] : [{ property: subject === '' ? undefined : subject, reason }]
    })
  }

  /** The twin is another one, in these properties (undefined: in any): what the device is to be told follows it. */
  follow({ twin, rules }: DeviceTwin, changed?: readonly string[]): void {
    const writable = this.#mapper?.writable
    if (writable === undefined || this.#closed || changed?.some(property => writable.has(property)) === false) return
    const wanted = delta(twin, rules)
    for (const property of this.#tellings.keys()) {
      if (wanted.has(property)) continue
      this.#tellings.delete(property)
      this.#tellingProblems.delete(property)
    }
    for (const [property, value] of wanted) {
      if (!writable.has(property)) continue
      const text = textOf(value)
      if (this.#tellings.get(property)?.text === text) continue
      this.#tellings.set(property, { value, text, attempt: 0, dueMs: this.#components.clock.monotonicMs(), toldMs: undefined })
    }
    this.#tellDue()
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#tellings.clear()
    this.#timer?.cancel()
    this.#telling?.abort(new Error('the device is not served any more'))
    this.#mapper?.close()
  }

  // ── for the mapper ─────────────────────────────────────────────────────────────────────────────────────────────────

  report(values: ReadonlyMap<string, Json>, onRefused?: (property: string | undefined, reason: string) => void): Commit | undefined {
    const writes = new Map<string, PropertyWrite>()
    for (const [property, value] of values) if (value !== null) writes.set(property, { value })
    this.#components.counters.reports++
    // Each round stores the rest or takes a property away.
    while (writes.size > 0) {
      const refused = this.#write({ section: 'reported', writes })
      if (refused instanceof TwinRefused) {
        const { property, message } = refused.refusal
        this.problem(property, message)
        onRefused?.(property, message)
        if (property === undefined || !writes.delete(property)) return undefined
        continue
      }
      for (const property of writes.keys()) this.#readingProblems.delete(property)
      this.#readingProblems.delete('')
      return refused
    }
    return undefined
  }

  reportState(state: DeviceState): Commit | undefined {
    const written = this.#write({ section: 'state', state })
    if (!(written instanceof TwinRefused)) {
      this.#readingProblems.delete('')
      return written
    }
    this.problem(undefined, written.message)
    return undefined
  }

  heard(property: string): void { this.#readingProblems.delete(property) }

  problem(property: string | undefined, reason: string): void { this.#problem(this.#readingProblems, property ?? '', reason) }

  #problem(problems: Map<string, string>, subject: string, reason: string): void {
    this.#components.counters.problems++
    // Its settings say already why it does not work.
    if (this.#closed || this.#misconfigured.has(subject)) return
    if (subject !== '' && !this.device.properties.some(({ name }) => name === subject)) return
    problems.set(subject, cut(reason))
    this.#warn(subject, reason)
  }

  misconfigured(property: string, reason: string): void {
    this.#misconfigured.set(property, cut(reason))
    this.#warn(property, reason)
  }

  wanted(): ReadonlyMap<string, Json> { return new Map([...this.#tellings].map(([property, { value }]) => [property, value])) }

  tellAgain(): void {
    const nowMs = this.#components.clock.monotonicMs()
    for (const telling of this.#tellings.values()) {
      // It was told just now, perhaps by what showed that it is there.
      if (telling.toldMs !== undefined && nowMs - telling.toldMs < this.#options.retryMs) continue
      telling.attempt = 0
      telling.dueMs = nowMs
    }
    this.#tellDue()
  }

  /** TwinRefused is returned, and a device that has just gone is nothing to write. */
  #write(write: TwinWrite): Commit | TwinRefused | undefined {
    if (this.#closed) return undefined
    try {
      return this.#components.twins.write(this.device.id, write, 'mapper').commit
    } catch (error) {
      if (error instanceof TwinRefused) return error
      if (hasCode(error, 'TWIN_DEVICE_UNKNOWN')) return undefined
      throw error
    }
  }

  #warn(subject: string, reason: string): void {
    const nowMs = this.#components.clock.monotonicMs()
    const loggedMs = this.#loggedMs.get(subject)
    if (loggedMs !== undefined && nowMs - loggedMs < logEveryMs) return
    this.#loggedMs.set(subject, nowMs)
    this.#components.log.warn('mapper: trouble with a device', {
      device: this.device.id, ...subject === '' ? {} : { property: subject }, reason: cut(reason)
    })
  }

  // ── telling the device ─────────────────────────────────────────────────────────────────────────────────────────────

  #tellDue(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    if (this.#closed || this.#telling !== undefined) return
    let next: [string, Telling] | undefined
    for (const entry of this.#tellings) if (next === undefined || entry[1].dueMs < next[1].dueMs) next = entry
    if (next === undefined) return
    const nowMs = this.#components.clock.monotonicMs()
    if (next[1].dueMs > nowMs) {
      this.#timer = this.#components.clock.after(next[1].dueMs - nowMs, () => this.#tellDue())
      return
    }
    void this.#tell(...next)
  }

  async #tell(property: string, telling: Telling): Promise<void> {
    const { clock, counters } = this.#components
    const { writeTimeoutMs, retryMs, retryMsMax } = this.#options
    telling.toldMs = clock.monotonicMs()
    telling.dueMs = telling.toldMs + Math.min(retryMsMax, retryMs * 2 ** Math.min(telling.attempt++, 20))
    const abort = new AbortController()
    this.#telling = abort
    const late = `the device did not take it within ${writeTimeoutMs} ms`
    const deadline = clock.after(writeTimeoutMs, () => abort.abort(new Error(late)))
    counters.writes++
    try {
      await Promise.race([this.#mapper!.write(property, telling.value, abort.signal), aborted(abort.signal)])
      this.#tellingProblems.delete(property)
    } catch (error) {
      counters.writesFailed++
      telling.toldMs = undefined
      // Not of what is not wanted any more.
      if (!this.#tellings.has(property)) return
      this.#problem(this.#tellingProblems, property, `writing ${JSON.stringify(cut(telling.text))}: ${describeError(error)}`)
    } finally {
      deadline.cancel()
      this.#telling = undefined
      this.#tellDue()
    }
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
  })
}

function cut(text: string): string {
  const max = limits.reasonLength.value
  return text.length > max ? `${text.slice(0, max - 1)}…` : text
}
