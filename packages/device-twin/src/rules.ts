import { isRecord } from './json.ts'
import type { KubeJson } from './json.ts'
import { readStamps } from './stamps.ts'
import { isPropertyName, propertyItems } from './value.ts'
import { writerOf } from './version.ts'

/** Types of KubeEdge's DeviceModel. */
export const propertyTypes = ['INT', 'FLOAT', 'DOUBLE', 'STRING', 'BOOLEAN', 'BYTES', 'STREAM'] as const
export type PropertyType = (typeof propertyTypes)[number]

/** What a DeviceModel says of one property. */
export interface PropertyRule {
  readonly name: string
  /** Undefined: any value. */
  readonly type: PropertyType | undefined
  readonly access: 'ReadWrite' | 'ReadOnly'
  readonly minimum: number | undefined
  readonly maximum: number | undefined
  /** Carried through, never computed with. */
  readonly unit: string | undefined
}

/**
 * What holds for the properties of one device. `properties` undefined: it has no model, or one that is not here, and any
 * property may be written.
 */
export interface DeviceRules {
  readonly properties: ReadonlyMap<string, PropertyRule> | undefined
  /** Properties that the Device itself lists: they are not optional, so that nobody but the cloud deletes them (TWN-24). */
  readonly listed: ReadonlySet<string>
  /** How long the same value again is not worth storing, milliseconds (TWN-21). */
  readonly freshnessMs: number
}

/**
 * The rules of a Device and the DeviceModel that it names (undefined: it names none, or one that is not here). Never throws:
 * what is malformed in either says nothing.
 */
export function readRules({ device, model, freshnessMs }: {
  readonly device: KubeJson
  readonly model: KubeJson | undefined
  readonly freshnessMs: number
}): DeviceRules {
  return { properties: model === undefined ? undefined : modelProperties(model), listed: listedProperties(device), freshnessMs }
}

function modelProperties(model: KubeJson): ReadonlyMap<string, PropertyRule> {
  const rules = new Map<string, PropertyRule>()
  for (const item of propertyItems(model)) {
    if (!isRecord(item) || !isPropertyName(item['name']) || rules.has(item['name'])) continue
    const { name, type, accessMode, minimum, maximum, unit } = item
    rules.set(name, {
      name,
      type: propertyTypes.find(each => each === type),
      access: accessMode === 'ReadOnly' ? 'ReadOnly' : 'ReadWrite',
      minimum: readBound(minimum), maximum: readBound(maximum),
      unit: typeof unit === 'string' ? unit : undefined
    })
  }
  return rules
}

/** Bounds are text in v1beta1 (`"100"`), and numbers in other hands. */
function readBound(bound: unknown): number | undefined {
  const number = typeof bound === 'string' && bound.trim() !== '' ? Number(bound) : bound
  return typeof number === 'number' && Number.isFinite(number) ? number : undefined
}

/**
 * What the Device lists, but for properties that only a node's desired value brought there (TWN-15): what a node added it may
 * take away.
 */
function listedProperties(device: KubeJson): ReadonlySet<string> {
  const listed = new Set<string>()
  const stamps = readStamps(device)
  for (const item of propertyItems(device)) {
    if (!isRecord(item) || !isPropertyName(item['name'])) continue
    const stamp = stamps.get(item['name'])
    const bare = Object.keys(item).every(member => member === 'name' || member === 'desired')
    if (!bare || stamp === undefined || writerOf(stamp.version) === 'cloud') listed.add(item['name'])
  }
  return listed
}
