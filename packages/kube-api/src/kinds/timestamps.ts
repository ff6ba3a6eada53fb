import { formatTimestamp } from '@holdfast/runtime'

const format = /^(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))$/

/** Days from 1970-01-01 to a day of the Gregorian calendar. */
function daysOf(year: number, month: number, day: number): number {
  const shifted = month <= 2 ? year - 1 : year
  const era = Math.floor(shifted / 400)
  const yearOfEra = shifted - era * 400
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1
  return era * 146_097 + yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear - 719_468
}

function daysInMonth(year: number, month: number): number {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28
  return [4, 6, 9, 11].includes(month) ? 30 : 31
}

export interface Timestamp {
  /** Since 1970, whole seconds as ms. */
  readonly secondsMs: number
  /** Beyond the seconds; 0 to 999,999. */
  readonly micros: number
}

/** RFC 3339; undefined where it is not. */
export function parseTimestamp(text: string): Timestamp | undefined {
  const parts = format.exec(text)
  if (parts === null) return undefined
  const [year, month, day, hour, minute, second] = parts.slice(1, 7).map(Number) as [number, number, number, number, number, number]
  const offsetMinutes = parts[8] === undefined ? 0 : (Number(parts[9]) * 60 + Number(parts[10])) * (parts[8] === '-' ? -1 : 1)
  if (month < 1 || month > 12 || day < 1 || day > daysInMonth(year, month) || hour > 23 || minute > 59 || second > 59
    || Number(parts[9] ?? 0) > 24 || Number(parts[10] ?? 0) > 60) return undefined
  const minutes = (daysOf(year, month, day) * 24 + hour) * 60 + minute - offsetMinutes
  return { secondsMs: (minutes * 60 + second) * 1000, micros: Number((parts[7] ?? '').padEnd(6, '0').slice(0, 6)) }
}

/** As `metav1.Time` is written: `2026-11-21T11:14:49Z`. */
export function timeText({ secondsMs }: Timestamp): string {
  return formatTimestamp(secondsMs).replace(/\.\d+Z$/, 'Z')
}

/** As `metav1.MicroTime` is written: `2026-11-21T11:14:49.000123Z`. */
export function microTimeText({ secondsMs, micros }: Timestamp): string {
  return formatTimestamp(secondsMs).replace(/\.\d+Z$/, `.${String(micros).padStart(6, '0')}Z`)
}

/** How long ago a timestamp is, as the real server's tables say it; `<unknown>` where there is none. */
export function ageText(timestamp: unknown, nowMs: number): string {
  const parsed = typeof timestamp === 'string' ? parseTimestamp(timestamp) : undefined
  return parsed === undefined ? '<unknown>' : durationText(nowMs - parsed.secondsMs - parsed.micros / 1000)
}

/** `HumanDuration` of k8s.io/apimachinery/pkg/util/duration. */
export function durationText(durationMs: number): string {
  const seconds = Math.trunc(durationMs / 1000)
  if (seconds < -1) return '<invalid>'
  if (seconds < 0) return '0s'
  if (seconds < 120) return `${seconds}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 10) return parts(minutes, 'm', seconds % 60, 's')
  if (minutes < 180) return `${minutes}m`
  const hours = Math.floor(minutes / 60)
  if (hours < 8) return parts(hours, 'h', minutes % 60, 'm')
  if (hours < 48) return `${hours}h`
  const days = Math.floor(hours / 24)
  if (hours < 24 * 8) return parts(days, 'd', hours % 24, 'h')
  if (hours < 24 * 365 * 2) return `${days}d`
  const years = Math.floor(days / 365)
  return hours < 24 * 365 * 8 ? parts(years, 'y', days % 365, 'd') : `${years}y`
}

const parts = (large: number, largeUnit: string, small: number, smallUnit: string): string =>
  `${large}${largeUnit}${small === 0 ? '' : `${small}${smallUnit}`}`
