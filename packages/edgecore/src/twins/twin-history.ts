import { textOf } from '@holdfast/device-twin'
import type { PropertyWrite } from '@holdfast/device-twin'
import type { DeviceId } from './device-twins.ts'
import { settingOf, wantsHistory } from './device-settings.ts'
import type { HeldTwin } from './held-twin.ts'
import { twinsLimits } from './limits.ts'

/** KubeEdge's topic for a device's data (TWN-40). */
export function historyTopic(id: DeviceId): string { return `$ke/events/device/${id}/data/update` }

export interface AppliedReport {
  readonly writes: ReadonlyMap<string, PropertyWrite>
  readonly after: HeldTwin
  /** Properties whose value is another one now. */
  readonly changed: ReadonlySet<string>
  readonly stale: ReadonlySet<string>
  readonly nowMs: number
}

/** Payloads of the records that a report leaves in the Log (TWN-40): none, one, or where one would be too large one a property. */
export function historyPayloads({ writes, after, changed, stale, nowMs }: AppliedReport): Buffer[] {
  const { history } = after.settings
  if (!wantsHistory(after.settings)) return []
  const data: [string, unknown][] = []
  for (const [name, { timestamp, type = after.rules.properties?.get(name)?.type?.toLowerCase() }] of writes) {
    const mode = settingOf(history, name)
    const entry = after.twin.reported.get(name)
    if (mode === 'none' || stale.has(name) || mode === 'changes' && !changed.has(name)) continue
    if (entry === undefined || entry.deleted) continue
    const metadata = {
      timestamp: timestamp === undefined || timestamp === 0 || timestamp > nowMs ? nowMs : timestamp,
      ...type !== undefined && { type }
    }
    data.push([name, { value: textOf(entry.value), metadata }])
  }
  if (data.length === 0) return []
  const payload = (part: readonly [string, unknown][]): Buffer =>
    Buffer.from(JSON.stringify({ event_id: '', timestamp: nowMs, data: Object.fromEntries(part) }))
  const whole = payload(data)
  return whole.length <= twinsLimits.historyRecordBytes.value ? [whole] : data.map(part => payload([part]))
}
