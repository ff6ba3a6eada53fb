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
