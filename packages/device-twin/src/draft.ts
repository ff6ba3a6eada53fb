import { entryBytes, propertyCount } from './codec.ts'
import { twinLimits } from './limits.ts'
import { refusal } from './refusal.ts'
import type { TwinError } from './refusal.ts'
import type { Entry, Twin } from './twin.ts'
import { compareVersions } from './version.ts'

/** The next twin while a step makes it. Copies a side when that is first written. */
export class Draft {
  readonly #before: Twin
  #desired: Map<string, Entry> | undefined
  #reported: Map<string, Entry> | undefined
  #bytes: number
  #writes = 0

  constructor(twin: Twin) {
    this.#before = twin
    this.#bytes = twin.bytes
  }

  get desired(): ReadonlyMap<string, Entry> { return this.#desired ?? this.#before.desired }
  get reported(): ReadonlyMap<string, Entry> { return this.#reported ?? this.#before.reported }
  /** Something was set, and not undone. */
  get changed(): boolean { return this.#writes > 0 }

  set(section: 'desired' | 'reported', property: string, entry: Entry): void {
    this.#put(section, property, entry)
    this.#writes++
  }

  /** Puts an entry that was set once back, or takes it away, as it was before the step. */
  undo(section: 'desired' | 'reported', property: string): void {
    const before = this.#before[section].get(property)
    if (before === undefined) this.#delete(section, property)
    else this.#put(section, property, before)
    this.#writes--
  }

  /**
   * Brings the twin within its bounds (TWN-3): the oldest properties that have nothing but tombstones go, other than `written`.
   * `TWIN_FULL` where that is not enough; then they stay.
   */
  fit(written: ReadonlyMap<string, unknown>): TwinError | undefined {
    let [properties, bytes] = [propertyCount(this), this.#bytes]
    const [propertiesMax, bytesMax] = [twinLimits.properties.value, twinLimits.twinBytes.value]
    if (properties <= propertiesMax && bytes <= bytesMax) return undefined
    const going: string[] = []
    for (const property of this.#gone()) {
      if (properties <= propertiesMax && bytes <= bytesMax) break
      if (written.has(property)) continue
      going.push(property)
      properties--
      for (const section of [this.desired, this.reported]) {
        const entry = section.get(property)
        if (entry !== undefined) bytes -= entryBytes(property, entry)
      }
    }
    if (properties <= propertiesMax && bytes <= bytesMax) {
      for (const property of going) {
        this.#delete('desired', property)
        this.#delete('reported', property)
      }
      return undefined
    }
    const rule = properties > propertiesMax ? `at most ${propertiesMax} properties` : `at most ${bytesMax / 1024} KiB`
    const has = properties > propertiesMax ? `${properties} properties` : `${Math.ceil(bytes / 1024)} KiB`
    return refusal('TWIN_FULL', {
      property: written.keys().next().value, rule, problem: `the twin would have ${has}, and may have ${rule}`,
      wayOut: 'delete properties that are not used (write null), or make two devices of it'
    })
  }

  finish(): Twin {
    return {
      ...this.#before, revision: this.#before.revision + 1, desired: this.desired, reported: this.reported, bytes: this.#bytes
    }
  }

  /** Properties that have tombstones alone, oldest first. */
  #gone(): readonly string[] {
    const last = new Map<string, Entry>()
    for (const section of [this.desired, this.reported]) {
      for (const [property, entry] of section) {
        const other = last.get(property)
        if (other === undefined || entry.deleted !== true) last.set(property, entry)
        else if (other.deleted === true && compareVersions(entry.version, other.version) > 0) last.set(property, entry)
      }
    }
    return [...last].filter(([, { deleted }]) => deleted === true)
      .toSorted(([, a], [, b]) => compareVersions(a.version, b.version)).map(([property]) => property)
  }

  #put(section: 'desired' | 'reported', property: string, entry: Entry): void {
    const held = this[section].get(property)
    if (held !== undefined) this.#bytes -= entryBytes(property, held)
    this.#bytes += entryBytes(property, entry)
    this.#writable(section).set(property, entry)
  }

  #delete(section: 'desired' | 'reported', property: string): void {
    const held = this[section].get(property)
    if (held === undefined) return
    this.#bytes -= entryBytes(property, held)
    this.#writable(section).delete(property)
  }

  #writable(section: 'desired' | 'reported'): Map<string, Entry> {
    return section === 'desired'
      ? this.#desired ??= new Map(this.#before.desired)
      : this.#reported ??= new Map(this.#before.reported)
  }
}
