import type { KubeObject } from '@holdfast/kube-api'
import { parseDurationMs } from '@holdfast/runtime'
import { twinsLimits } from './limits.ts'

export type HistoryMode = 'all' | 'changes' | 'none'

/** What a Device says of how its twin is sent and kept. */
export interface DeviceSettings {
  /** Annotation `holdfast.dev/report-interval`; undefined: it has none (TWN-31). */
  readonly reportIntervalMs: number | undefined
  /** Properties that stay on the node: `reportToCloud: false` (TWN-30). */
  readonly unreported: ReadonlySet<string>
  /** Annotation `holdfast.dev/report-deadband`. */
  readonly deadband: ByProperty<number>
  /** Annotation `holdfast.dev/history` (TWN-40). */
  readonly history: ByProperty<HistoryMode>
  /** Annotations that are not what they should be; they count as none. */
  readonly problems: readonly string[]
}

/** A value for all properties, and other ones for some. */
export interface ByProperty<Value> {
  readonly every: Value
  readonly some: ReadonlyMap<string, Value>
}

export function settingOf<Value>({ every, some }: ByProperty<Value>, property: string): Value { return some.get(property) ?? every }

export function wantsHistory({ history: { every, some } }: DeviceSettings): boolean { return every !== 'none' || some.size > 0 }

/** Reads a Device, whatever somebody wrote into it. Never throws. */
export function readDeviceSettings(device: KubeObject): DeviceSettings {
  const problems: string[] = []
  const annotation = <Value>(name: string, expected: string, without: Value, read: (text: string) => Value | undefined): Value => {
    const text: unknown = device.metadata.annotations?.[name]
    if (text === undefined) return without
    const value = typeof text === 'string' && text.length <= twinsLimits.annotationLength.value ? read(text) : undefined
    if (value === undefined) problems.push(`${name}: expected ${expected}, got ${JSON.stringify(text).slice(0, 64)}`)
    return value ?? without
  }
  return {
    reportIntervalMs: annotation('holdfast.dev/report-interval', 'a duration such as 500ms or 5s, at most 1h', undefined, text => {
      const value = parseDurationMs(text)
      return value !== undefined && value <= twinsLimits.reportIntervalMs.value ? value : undefined
    }),
    unreported: unreportedOf(device),
    deadband: annotation('holdfast.dev/report-deadband', 'a number from 0, or property=number,…', { every: 0, some: new Map() },
      text => byProperty(text, 0, number => number.trim() !== '' && Number(number) >= 0 && Number.isFinite(Number(number))
        ? Number(number) : undefined)),
    history: annotation('holdfast.dev/history', 'all, changes or none, or property=all,…', noHistory,
      text => byProperty<HistoryMode>(text, 'none', mode => modes.find(known => known === mode.trim()))),
    problems
  }
}

const modes = ['all', 'changes', 'none'] as const
const noHistory: ByProperty<HistoryMode> = { every: 'none', some: new Map() }

/** `value`, or `property=value,property=value`; undefined where one of them is none. */
function byProperty<Value>(text: string, without: Value, read: (text: string) => Value | undefined): ByProperty<Value> | undefined {
  if (!text.includes('=')) {
    const every = read(text)
    return every === undefined ? undefined : { every, some: new Map() }
  }
  const some = new Map<string, Value>()
  for (const part of text.split(',')) {
    // A property's name may have an equals sign, a value has none.
    const at = part.lastIndexOf('=')
    const value = at === -1 ? undefined : read(part.slice(at + 1))
    if (value === undefined) return undefined
    some.set(part.slice(0, at).trim(), value)
  }
  return { every: without, some }
}

function unreportedOf(device: KubeObject): ReadonlySet<string> {
  const { spec } = device as { readonly spec?: { readonly properties?: unknown } | null }
  const properties: readonly unknown[] = Array.isArray(spec?.properties) ? spec.properties : []
  return new Set(properties.flatMap(property => {
    const { name, reportToCloud } = (property ?? {}) as { readonly name?: unknown, readonly reportToCloud?: unknown }
    return typeof name === 'string' && reportToCloud === false ? [name] : []
  }))
}
