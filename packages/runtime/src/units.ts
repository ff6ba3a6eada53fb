import { z } from 'zod'

const byteUnits = [['GiB', 2 ** 30], ['MiB', 2 ** 20], ['KiB', 2 ** 10]] as const
const timeUnits = [['d', 86_400_000], ['h', 3_600_000], ['m', 60_000], ['s', 1000], ['ms', 1]] as const

/** `512MiB`, `64KiB`, `1.5GiB`, `0`, or plain bytes; undefined where the text is none of these. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(GiB|MiB|KiB|B)?$/.exec(text.trim())
  if (match === null) return undefined
  const unit = byteUnits.find(([name]) => name === match[2])?.[1] ?? 1
  const value = Number(match[1]) * unit
  return Number.isSafeInteger(value) ? value : undefined
}

/** The shortest exact form: `512MiB`, or plain bytes. `parseBytes` reads it back. */
export function formatBytes(value: number): string {
  const unit = value === 0 ? undefined : byteUnits.find(([, size]) => value % size === 0)
  return unit === undefined ? String(value) : `${value / unit[1]}${unit[0]}`
}

/** Milliseconds of `500ms`, `10s`, `5m`, `12h`, `7d` or `0`; undefined where the text is none of these. */
export function parseDurationMs(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/.exec(text.trim())
  if (match === null) return text.trim() === '0' ? 0 : undefined
  const unit = timeUnits.find(([name]) => name === match[2])?.[1] ?? 1
  const value = Number(match[1]) * unit
  return Number.isSafeInteger(value) ? value : undefined
}

/** The shortest exact form: `7d`, `90s`. `parseDurationMs` reads it back. */
export function formatDurationMs(value: number): string {
  if (value === 0) return '0s'
  const unit = timeUnits.find(([, size]) => value % size === 0)
  return `${value / unit![1]}${unit![0]}`
}

export interface Bounds {
  /** Smallest accepted value. Default 0. */
  readonly min?: number
  /** Largest accepted value; every option has one. */
  readonly max: number
}

/** What a setting's type says of itself, for messages and the reference page. */
export interface SettingType {
  /** One word or two: `size`, `duration`, `whole number`. */
  readonly type: string
  /** The end of the sentence `expected …`. */
  readonly expected: string
  /** Bounds as a reader would write them, or '' where the type says all. */
  readonly bounds: string
  /** The value as a configuration file would hold it. */
  readonly format?: (value: never) => unknown
}

/** What the setting types below say of themselves. Filled while schemas are built, read by `describeSettings`. */
export const settingTypes = z.registry<SettingType>()

function scalar<T>(about: SettingType, read: (input: unknown) => T | undefined) {
  const schema = z.unknown().transform((input, context): T => {
    const value = read(input)
    if (value !== undefined) return value
    context.addIssue({ code: 'custom', params: { settingType: true }, input })
    return z.NEVER
  })
  return schema.register(settingTypes, about)
}

const within = (value: number | undefined, min: number, max: number): number | undefined =>
  value === undefined || !Number.isSafeInteger(value) || value < min || value > max ? undefined : value

/** A size in bytes. Accepts `512MiB`, `64KiB` or a plain number of bytes; gives bytes. */
export function bytes(bounds: Bounds) {
  const { min = 0, max } = bounds
  const range = `${formatBytes(min)} to ${formatBytes(max)}`
  return scalar({
    type: 'size',
    expected: `a size such as 512MiB, from ${range}`,
    bounds: range,
    format: (value: number) => formatBytes(value)
  }, input => within(typeof input === 'number' ? input : parseBytes(String(input)), min, max))
}

/** A span of time. Accepts `500ms`, `10s`, `5m`, `12h`, `7d`, `0`; gives milliseconds. A bare number is refused. */
export function durationMs(bounds: Bounds) {
  const { min = 0, max } = bounds
  const range = `${formatDurationMs(min)} to ${formatDurationMs(max)}`
  return scalar({
    type: 'duration',
    expected: `a duration such as 10s, from ${range}`,
    bounds: range,
    format: (value: number) => formatDurationMs(value)
  }, input => within(typeof input === 'string' || input === 0 ? parseDurationMs(String(input)) : undefined, min, max))
}

/** A whole number; its unit, if it has one, belongs in the setting's name. */
export function whole(bounds: Bounds) {
  const { min = 0, max } = bounds
  return scalar({ type: 'whole number', expected: `a whole number from ${min} to ${max}`, bounds: `${min} to ${max}` },
    input => within(typeof input === 'number' ? input : undefined, min, max))
}

/** A TCP port; 0 means any free one. */
export function tcpPort() {
  return scalar({ type: 'port', expected: 'a port from 0 to 65535', bounds: '0 (any free one) to 65535' },
    input => within(typeof input === 'number' ? input : undefined, 0, 65_535))
}

export interface TextRules {
  /** The end of the sentence `expected …`. */
  readonly expected: string
  readonly pattern: RegExp
  /** What the pattern cannot say. */
  readonly accepts?: (text: string) => boolean
  /** Longest accepted text, in UTF-16 code units. */
  readonly lengthMax: number
}

/** Text of a stated form. */
export function textOf(rules: TextRules) {
  return scalar({ type: 'text', expected: rules.expected, bounds: `at most ${rules.lengthMax} characters` },
    input => {
      const fits = typeof input === 'string' && input.length <= rules.lengthMax && rules.pattern.test(input) &&
        rules.accepts?.(input) !== false
      return fits ? input : undefined
    })
}

/** One word of a closed set. */
export function oneOf<const Word extends string>(words: readonly [Word, ...Word[]]) {
  return scalar({ type: 'word', expected: `one of ${words.join(', ')}`, bounds: words.join(', ') },
    input => words.find(word => word === input))
}

/** An address to listen on or to connect to: a host name, an IPv4 or an IPv6 address. */
export function hostAddress() {
  return textOf({
    expected: 'a host name or an address such as 127.0.0.1', pattern: /^[A-Za-z0-9._:-]+$/, lengthMax: 253
  })
}

/** Where a tunnel is: `wss://host:port`. */
export function tunnelUrl() {
  return textOf({
    expected: 'a URL such as wss://cloud.example:10000, its port at most 65535', pattern: /^wss:\/\/[^\s/?#@]+\/?$/,
    accepts: text => URL.canParse(text) && new URL(text).port !== '0', lengthMax: 512
  })
}

/** A folder or file of the machine. */
export function filePath() {
  return textOf({ expected: 'a path such as /var/lib/holdfast', pattern: /^[^\0]+$/, lengthMax: 4096 })
}
