import { textOf } from './json.ts'
import type { Json } from './json.ts'
import type { DeviceRules } from './rules.ts'
import type { Entry, Twin } from './twin.ts'
import { coerce } from './value.ts'

/**
 * What the device is to be told (TWN-26): desired values that its model allows, and that it does not report. Empty if and only
 * if reported satisfies desired.
 */
export function delta(twin: Twin, rules: DeviceRules): ReadonlyMap<string, Json> {
  const told = new Map<string, Json>()
  for (const [property, entry] of twin.desired) {
    const wanted = allowedDesired(property, entry, rules)
    if (wanted === undefined) continue
    const reported = twin.reported.get(property)
    if (reported === undefined || reported.deleted === true || textUnder(reported, property, rules) !== textOf(wanted)) {
      told.set(property, wanted)
    }
  }
  return told
}

/** The value as the model has it now; undefined where there is none, or the model does not allow it (TWN-25). */
function allowedDesired(property: string, { value, deleted }: Entry, { properties }: DeviceRules): Json | undefined {
  if (deleted === true) return undefined
  if (properties === undefined) return value
  const rule = properties.get(property)
  if (rule === undefined || rule.access === 'ReadOnly') return undefined
  const read = coerce(value, rule, property)
  return 'value' in read ? read.value : undefined
}

function textUnder({ value }: Entry, property: string, { properties }: DeviceRules): string {
  const read = coerce(value, properties?.get(property), property)
  return textOf('value' in read ? read.value : value)
}
