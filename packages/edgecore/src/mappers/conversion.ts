import { textOf } from '@holdfast/device-twin'
import type { Json } from '@holdfast/device-twin'
import { z } from 'zod'
import { mapperLimits as limits } from './limits.ts'

const scalar = z.union([z.string().max(1024), z.number(), z.boolean()], { error: 'expected a text, number or boolean' })

/** The setting `conversion` of a visitor: between what the device says and the property's value, both ways. */
export const conversionSettings = z.union([
  z.strictObject({
    map: z.record(z.string().max(1024), scalar).refine(map => Object.keys(map).length <= limits.mapEntries.value, {
      error: `expected at most ${limits.mapEntries.value} entries`
    })
  }),
  z.strictObject({
    scale: z.number().refine(value => value !== 0, { error: 'expected a number other than 0' }).default(1),
    offset: z.number().default(0)
  })
], {
  error: 'expected {scale, offset}, numbers, or {map: {"<what the device says>": <value>}}'
})

export type Conversion = z.output<typeof conversionSettings>

/** Digits that survive a conversion: what a device measured has fewer, and 3 × 0.1 is 0.3. */
const digits = 12

/** The property's value of what the device said; `undefined` where that cannot be converted. */
export function fromDevice(raw: Json, conversion: Conversion | undefined): Json | undefined {
  if (conversion === undefined) return raw
  if ('map' in conversion) {
    const text = textOf(raw)
    return Object.hasOwn(conversion.map, text) ? conversion.map[text] : undefined
  }
  const number = numberOf(raw)
  return number === undefined ? undefined : rounded(number * conversion.scale + conversion.offset)
}

/** What to tell the device for a property's value; `undefined` where there is nothing that means it. */
export function toDevice(value: Json, conversion: Conversion | undefined): Json | undefined {
  if (conversion === undefined) return value
  if ('map' in conversion) {
    const text = textOf(value)
    return Object.entries(conversion.map).find(([, mapped]) => textOf(mapped) === text)?.[0]
  }
  const number = numberOf(value)
  return number === undefined ? undefined : rounded((number - conversion.offset) / conversion.scale)
}

function numberOf(value: Json): number | undefined {
  const number = typeof value === 'number' ? value : typeof value === 'string' && value.trim() !== '' ? Number(value) : NaN
  return Number.isFinite(number) ? number : undefined
}

function rounded(value: number): number | undefined {
  return Number.isFinite(value) ? Number(value.toPrecision(digits)) : undefined
}

/** In words, for a problem. */
export function describeConversion(conversion: Conversion): string {
  return 'map' in conversion ? `one of ${Object.keys(conversion.map).slice(0, 8).join(', ')}` : 'a number'
}
