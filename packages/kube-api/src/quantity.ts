import { StatusError } from './status-error.ts'

/** How a quantity is written, and written again: `1500m`, `1536Mi`, `1e3`. */
export type QuantityFormat = 'decimal-si' | 'binary-si' | 'decimal-exponent'

/** `unscaled` times ten to the power of `exponent`, exactly. At the finest a billionth. */
export interface Quantity {
  readonly unscaled: bigint
  readonly exponent: number
  readonly format: QuantityFormat
}

/** 400 with what the real server says; decoding an object puts the kind before it. */
export class QuantityError extends StatusError {
  constructor(message: string) {
    super(400, 'BadRequest', message)
    this.name = 'QuantityError'
  }
}

/** Characters of a quantity: far more than any has, and few enough that its digits are no work. */
const textLengthMax = 128

const badFormat = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
const badNumber = 'unable to parse numeric part of quantity'
const badSuffix = 'unable to parse quantity\'s suffix'

/** Sign, whole digits, digits behind the point, suffix. */
const shape = /^([-+]?)(\d*)(?:\.(\d*))?([eEinumkKMGTP]*[-+]?\d*)$/

const decimalExponents: Readonly<Record<string, number>> =
  { n: -9, u: -6, m: -3, '': 0, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 }
const binaryExponents: Readonly<Record<string, number>> = { Ki: 10, Mi: 20, Gi: 30, Ti: 40, Pi: 50, Ei: 60 }

const suffixOf = (table: Readonly<Record<string, number>>, exponent: number): string | undefined =>
  Object.keys(table).find(suffix => table[suffix] === exponent)

const nano = -9
const binaryMax = 2n ** 63n - 1n

interface Parts {
  readonly negative: boolean
  readonly whole: string
  /** Undefined: no point. */
  readonly fraction: string | undefined
  readonly base: 2 | 10
  readonly exponent: number
  readonly format: QuantityFormat
}

function split(text: string): Parts {
  if (text.length > textLengthMax) throw new QuantityError(badNumber)
  const match = text === '' ? null : shape.exec(text)
  if (match === null) throw new QuantityError(badFormat)
  const [, sign, whole, fraction, suffix] = match as unknown as [string, string, string, string | undefined, string]
  const parts = { negative: sign === '-', whole: whole.replace(/^0+/, ''), fraction, ...scaleOf(suffix) }
  // The real server takes a suffix alone for zero, as long as it reads it without effort.
  if (whole === '' && (fraction ?? '') === '' && !isSimple(parts)) throw new QuantityError(badNumber)
  return parts
}

function scaleOf(suffix: string): Pick<Parts, 'base' | 'exponent' | 'format'> {
  if (Object.hasOwn(decimalExponents, suffix)) return { base: 10, exponent: decimalExponents[suffix]!, format: 'decimal-si' }
  if (Object.hasOwn(binaryExponents, suffix)) return { base: 2, exponent: binaryExponents[suffix]!, format: 'binary-si' }
  // Nine digits: more means nothing, and exponents can be added without a thought.
  if (/^[eE][-+]?\d{1,9}$/.test(suffix)) return { base: 10, exponent: Number(suffix.slice(1)), format: 'decimal-exponent' }
  throw new QuantityError(badSuffix)
}

const digitsOf = ({ whole, fraction = '' }: Parts): string => `${whole || '0'}${fraction}`

/** Few enough digits that the real server calculates with an integer; that decides some of what it accepts and keeps. */
function isSimple(parts: Parts): boolean {
  const { fraction = '', base, exponent } = parts
  const count = digitsOf(parts).length
  return base === 10
    ? count <= 18 && exponent - fraction.length >= nano
    : fraction === '' && count + Math.trunc(exponent * 3 / 10) + 1 <= 15
}

function amountOf(parts: Parts): Quantity {
  const { negative, whole, fraction = '', base, exponent, format } = parts
  const digits = BigInt(`${whole}${fraction}` || '0')
  let amount = base === 2
    ? trimmed({ unscaled: digits << BigInt(exponent), exponent: -fraction.length, format })
    : trimmed({ unscaled: digits, exponent: exponent - fraction.length, format })
  amount = roundedUp(amount, nano)
  if (format === 'binary-si') {
    if (orderOf(amount, { unscaled: binaryMax, exponent: 0 }) > 0) amount = { unscaled: binaryMax, exponent: 0, format }
    if (amount.unscaled > 0n && orderOf(amount, { unscaled: 1n, exponent: 0 }) < 0) amount = { ...amount, format: 'decimal-si' }
  }
  return negative ? { ...amount, unscaled: -amount.unscaled } : amount
}

/** Zeros at the end of the digits go into the exponent. */
function trimmed({ unscaled, exponent, format }: Quantity): Quantity {
  if (unscaled === 0n) return { unscaled, exponent: 0, format }
  let [digits, power] = [unscaled, exponent]
  while (digits % 10n === 0n) [digits, power] = [digits / 10n, power + 1]
  return { unscaled: digits, exponent: power, format }
}

/** Away from zero to a multiple of ten to the power of `least`: who asks for little gets some. */
function roundedUp(quantity: Quantity, least: number): Quantity {
  const { unscaled, exponent, format } = quantity
  if (exponent >= least || unscaled === 0n) return quantity
  const [digits, sign] = unscaled < 0n ? [-unscaled, -1n] : [unscaled, 1n]
  const places = least - exponent
  const unit = places > textLengthMax ? undefined : 10n ** BigInt(places)
  const units = unit === undefined ? 1n : (digits + unit - 1n) / unit
  return trimmed({ unscaled: sign * units, exponent: least, format })
}

type Amount = Pick<Quantity, 'unscaled' | 'exponent'>

/** Compares by the number of digits first, so that no exponent is ever written out. */
function orderOf(a: Amount, b: Amount): -1 | 0 | 1 {
  const [signA, signB] = [signOf(a), signOf(b)]
  if (signA !== signB) return signA < signB ? -1 : 1
  if (signA === 0) return 0
  const [placesA, placesB] = [placesOf(a), placesOf(b)]
  if (placesA !== placesB) return (placesA < placesB) === (signA > 0) ? -1 : 1
  const least = Math.min(a.exponent, b.exponent)
  const [digitsA, digitsB] = [a, b].map(({ unscaled, exponent }) => unscaled * 10n ** BigInt(exponent - least)) as [bigint, bigint]
  return digitsA < digitsB ? -1 : digitsA > digitsB ? 1 : 0
}

const signOf = ({ unscaled }: Amount): -1 | 0 | 1 => unscaled < 0n ? -1 : unscaled > 0n ? 1 : 0
/** Digits before the point; negative where there are zeros behind it first. */
const placesOf = ({ unscaled, exponent }: Amount): number => (unscaled < 0n ? -unscaled : unscaled).toString().length + exponent

/**
 * A quantity as k8s.io/apimachinery/pkg/api/resource of 1.32 reads it: what is finer than a billionth is rounded away from
 * zero, and a quantity with a binary suffix is at most 2^63 − 1. Throws QuantityError.
 */
export const parseQuantity = (text: string): Quantity => amountOf(split(text))

/**
 * The text that the real server serves for a quantity that it was sent. One that needs no change stays as it is, `+5` and
 * `1.500` included; others get the largest suffix that leaves no fraction. Throws QuantityError.
 *
 * Unlike there, a decimal above 999E is written with an exponent instead of losing its suffix, and with it its size.
 */
export function canonicalQuantity(text: string): string {
  const parts = split(text)
  return isKept(parts) ? text : formatQuantity(amountOf(parts))
}

/** The real server keeps a text that it reads without effort and finds to be in order. */
function isKept(parts: Parts): boolean {
  const digits = digitsOf(parts)
  return isSimple(parts) && (parts.base === 10
    ? (parts.exponent - (parts.fraction?.length ?? 0)) % 3 === 0 && !digits.endsWith('000') && !digits.startsWith('0')
    : BigInt(digits) % 8n !== 0n)
}

/** The canonical form (quantity.go, "Before serializing"). */
export function formatQuantity(quantity: Quantity): string {
  const { unscaled, exponent, format } = trimmed(quantity)
  if (unscaled === 0n) return '0'
  if (format === 'binary-si' && exponent >= 0 && placesOf({ unscaled, exponent }) <= 20) {
    let [digits, power] = [unscaled * 10n ** BigInt(exponent), 0]
    if (digits >= 1024n || digits <= -1024n) {
      for (; digits % 1024n === 0n; power += 10) digits /= 1024n
      return `${digits}${suffixOf(binaryExponents, power) ?? ''}`
    }
  }
  const power = Math.floor(exponent / 3) * 3
  const digits = unscaled * 10n ** BigInt(exponent - power)
  const suffix = format === 'decimal-exponent' ? undefined : suffixOf(decimalExponents, power)
  return `${digits}${suffix ?? (power === 0 ? '' : `e${power}`)}`
}

/** -1, 0 or 1, as the first quantity is less than, equal to or greater than the second. Throws QuantityError. */
export const quantityOrder = (a: string, b: string): -1 | 0 | 1 => orderOf(parseQuantity(a), parseQuantity(b))

/** -1, 0 or 1. Throws QuantityError. */
export const quantitySign = (text: string): -1 | 0 | 1 => signOf(parseQuantity(text))
