import type { GapReason } from './batch.ts'
import { BatchError, batchNext, forEachRecord, readGap } from './batch.ts'
import type { ReaderBatch } from './batch-stream.ts'
import { cursorAt } from './batch-stream.ts'

/** Media type of newline-delimited JSON. */
export const ndjsonType = 'application/x-ndjson'
export const payloadEncodings = ['base64', 'utf8'] as const
export type PayloadEncoding = (typeof payloadEncodings)[number]

export interface RecordsNdjsonOptions {
  /** Only records of this device, `<namespace>/<name>`; gaps are shown all the same: they may hide some of its records. */
  readonly device?: string | undefined
  readonly encoding: PayloadEncoding
  /** At most so many lines, records and gaps together. Default: no bound. */
  readonly limit?: number | undefined
  /** What stands in the gap that takes the place of a batch whose body cannot be read. */
  readonly unreadable: Extract<GapReason, 'corrupt' | 'cloud-corrupt'>
}

/**
 * Shows batches as lines of JSON (docs/spec/log.md, "Reading"). Pure. One line a record:
 * `{"node","epoch","lane","offset","timestamp","device","topic","payload","cursor"}`; one line a gap:
 * `{"node","epoch","lane","gap":{"first","last","records","reason"},"cursor"}`.
 */
export class RecordsNdjson {
  /** Batches whose body could not be read. */
  unreadable = 0
  /** Lines that may still be written. */
  #left: number
  readonly #options: RecordsNdjsonOptions
  readonly #stamp = timestampFormatter()

  constructor(options: RecordsNdjsonOptions) {
    this.#options = options
    this.#left = options.limit ?? Infinity
  }

  /** True once `limit` lines have been written. */
  get done(): boolean { return this.#left <= 0 }

  /** The lines of one batch, each with its newline; '' where nothing of it is asked for. */
  lines(item: ReaderBatch): string {
    if (this.done) return ''
    const { header } = item
    try {
      if (header.kind === 'records') return this.#records(item)
      const gap = readGap(item.batch, header)
      return this.#gap(item, header.base, gap.records, gap.reason)
    } catch (error) {
      if (!(error instanceof BatchError)) throw error
      this.unreadable++
      const first = header.kind === 'records' ? header.base + item.skip : header.base
      return this.#gap(item, first, batchNext(header) - first, this.#options.unreadable)
    }
  }

  #records(item: ReaderBatch): string {
    const { header, cursorPrefix, endIndex } = item
    const { device, encoding } = this.#options
    const head = `{"node":${JSON.stringify(item.node)},"epoch":"${header.epoch}","lane":${JSON.stringify(item.lane)},"offset":`
    const first = header.base + item.skip
    const last = batchNext(header) - 1
    const origins = new Map<object, string>()
    let left = this.#left
    let out = ''
    forEachRecord(item.batch, header, (offset, timestampMs, topic, payload) => {
      if (offset < first || left <= 0 || (device !== undefined && topic.device !== device)) return
      left--
      let origin = origins.get(topic)
      if (origin === undefined) {
        origin = `","device":${JSON.stringify(topic.device)},"topic":${JSON.stringify(topic.topic)},"payload":`
        origins.set(topic, origin)
      }
      const text = encoding === 'base64' ? `"${payload.toString('base64')}"` : JSON.stringify(payload.toString('utf8'))
      const cursor = cursorAt(cursorPrefix, offset === last ? endIndex : offset - header.base + 1)
      out += `${head}${offset},"timestamp":"${this.#stamp(timestampMs)}${origin}${text},"cursor":"${cursor}"}\n`
    }, item.correctionMs)
    this.#left = left
    return out
  }

  #gap(item: ReaderBatch, first: number, records: number, reason: GapReason): string {
    this.#left--
    return `{"node":${JSON.stringify(item.node)},"epoch":"${item.header.epoch}","lane":${JSON.stringify(item.lane)},"gap":` +
      `{"first":${first},"last":${batchNext(item.header) - 1},"records":${records},"reason":"${reason}"},` +
      `"cursor":"${cursorAt(item.cursorPrefix, item.endIndex)}"}\n`
  }
}

const yearEndMs = 253_402_300_799_999

/**
 * RFC 3339 text in UTC with milliseconds, clamped to the years 1970 to 9999. Keeps the last second: records of a batch
 * share it.
 */
export function timestampFormatter(): (wallMs: number) => string {
  let knownSecond = -1
  let text = ''
  return wallMs => {
    const ms = Math.min(Math.max(Math.floor(wallMs), 0), yearEndMs)
    const second = Math.floor(ms / 1000)
    if (second !== knownSecond) {
      knownSecond = second
      text = secondText(second)
    }
    return `${text}.${String(ms % 1000).padStart(3, '0')}Z`
  }
}

/** `YYYY-MM-DDThh:mm:ss`. Days to a civil date: Hinnant, "chrono-Compatible Low-Level Date Algorithms". */
function secondText(second: number): string {
  const dayNumber = Math.floor(second / 86_400)
  const ofDay = second % 86_400
  const shifted = dayNumber + 719_468
  const era = Math.floor(shifted / 146_097)
  const dayOfEra = shifted - era * 146_097
  const yearOfEra = Math.floor((dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) -
    Math.floor(dayOfEra / 146_096)) / 365)
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const monthFromMarch = Math.floor((5 * dayOfYear + 2) / 153)
  const day = dayOfYear - Math.floor((153 * monthFromMarch + 2) / 5) + 1
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
  const two = (value: number): string => String(value).padStart(2, '0')
  return `${String(year).padStart(4, '0')}-${two(month)}-${two(day)}T${two(Math.floor(ofDay / 3600))}:` +
    `${two(Math.floor(ofDay / 60) % 60)}:${two(ofDay % 60)}`
}
