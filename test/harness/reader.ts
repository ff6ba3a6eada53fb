// Reads every record of a cloud log and accounts for it, a process of its own: `node test/harness/reader.ts --url …`.
import { writeFileSync } from 'node:fs'
import { get, type ClientRequest, type IncomingMessage } from 'node:http'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import {
  BatchStreamDecoder, batchStreamType, cursorAt, forEachRecord, readGap, type ReaderBatch
} from '@holdfast/protos'
import { Arrivals, type DeviceArrivals } from './arrivals.ts'
import { LatencyHistogram, type LatencySummary } from './latency-histogram.ts'
import { monotonicUs } from './marker.ts'

/** A gap record: offsets that stand for records that are not available any more. */
export interface GapArrival {
  readonly node: string
  readonly lane: string
  readonly epoch: string
  readonly first: number
  readonly last: number
  readonly records: number
  readonly reason: string
}

/** What arrived between two `phase` commands. Times are of the machine's monotonic clock, microseconds; -1: none. */
export interface ReaderPhase {
  readonly startUs: number
  readonly firstUs: number
  readonly lastUs: number
  /** Records that arrived for the first time. */
  readonly records: number
  readonly seconds: number
  readonly ratePerSecond: number
  /** From sending to the reader, of the records sent in this phase whenever they arrived, by group of devices. */
  readonly latency: Readonly<Record<string, LatencySummary>>
  readonly perSecond: readonly number[]
}

export interface ReaderProgress {
  readonly kind: 'progress'
  readonly unique: number
  /** Records that arrived once more. */
  readonly repeated: number
  readonly inversions: number
  readonly foreign: number
  readonly gaps: number
  readonly connections: number
  readonly firstUs: number
  readonly lastUs: number
  /** Since the line before. */
  readonly recent: Readonly<Record<string, LatencySummary>>
  readonly recentRecords: number
}

/** The last line of standard output. */
export interface ReaderResult {
  readonly kind: 'final'
  readonly unique: number
  readonly repeated: number
  readonly inversions: number
  readonly foreign: number
  readonly gaps: readonly GapArrival[]
  /** Payload bytes of everything that arrived. */
  readonly payloadBytes: number
  /** Times that the log answered a cursor with 410, and the reader began at the log's first record. */
  readonly rewinds: number
  readonly connections: number
  readonly firstUs: number
  readonly phases: Readonly<Record<string, ReaderPhase>>
  readonly cpuSeconds: number
}

/** `--report-file`: what the checker compares with the senders' accounts. */
export interface ArrivalsFile {
  readonly devices: readonly DeviceArrivals[]
  readonly gaps: readonly GapArrival[]
}

const help = `node test/harness/reader.ts --url http://127.0.0.1:9091 [options]
  --format batch|ndjson   --node N --lane L --cursor C
  --group NAME:FIRST-LAST latencies of these devices apart; may be repeated
  --report-file PATH      what arrived, by device
  --owned                 end when standard input ends
Lines on standard input: "progress" prints a line, "phase NAME" begins a phase, "stop" prints the last line and ends.`

const reconnectMs = 20

interface Group { readonly name: string, readonly first: number, readonly last: number }

type Place = 'node' | 'lane' | 'epoch'
type Line = Pick<GapArrival, Place> & {
  readonly payload: string
  readonly cursor: string
  readonly gap?: Omit<GapArrival, Place>
}
type Histograms = Record<string, LatencyHistogram>

class Phase {
  firstUs = -1
  lastUs = -1
  records = 0
  readonly perSecond: number[] = []
  readonly name: string
  readonly startUs = monotonicUs()
  endUs = Infinity
  readonly latency: Histograms

  constructor(name: string, latency: Histograms) {
    this.name = name
    this.latency = latency
  }

  result(): ReaderPhase {
    const seconds = (Math.min(this.endUs, monotonicUs()) - this.startUs) / 1e6
    return {
      startUs: this.startUs, firstUs: this.firstUs, lastUs: this.lastUs, records: this.records, seconds,
      ratePerSecond: Math.round(this.records / seconds), latency: summaries(this.latency),
      perSecond: Array.from(this.perSecond, count => count ?? 0)
    }
  }
}

class RecordReader {
  readonly #url: string
  readonly #query: URLSearchParams
  readonly #batches: boolean
  readonly #groups: readonly Group[]
  readonly #arrivals = new Arrivals()
  readonly #gaps: GapArrival[] = []
  /** Newest last. */
  readonly #phases: Phase[]
  #recent: Histograms
  #recentUnique = 0
  #firstUs = -1
  #lastUs = -1
  #payloadBytes = 0
  #rewinds = 0
  #connections = 0
  #request: ClientRequest | undefined
  #stopped = false

  constructor(url: string, query: URLSearchParams, batches: boolean, groups: readonly Group[]) {
    this.#url = url
    this.#query = query
    this.#batches = batches
    this.#groups = groups
    this.#phases = [new Phase('all', this.#histograms())]
    this.#recent = this.#histograms()
  }

  connect(): void {
    if (this.#stopped) return
    const again = (): void => { setTimeout(() => { this.connect() }, reconnectMs) }
    const headers = this.#batches ? { accept: batchStreamType } : {}
    const request = get(`${this.#url}/v1/records?${this.#query}`, { agent: false, headers })
    this.#request = request
    request.on('error', again)
    request.on('response', response => {
      if (response.statusCode === 200) {
        this.#connections++
        response.on('error', () => {}).on('close', again)
        if (this.#batches) this.#readBatches(response)
        else this.#readLines(response)
      } else void this.#refused(response).then(again, again)
    })
  }

  phase(name: string): void {
    const phase = new Phase(name, this.#histograms())
    this.#phases.at(-1)!.endUs = phase.startUs
    this.#phases.push(phase)
  }

  progress(): ReaderProgress {
    const { unique, repeated, inversions, foreign } = this.#arrivals
    const progress: ReaderProgress = {
      kind: 'progress',
      unique,
      repeated,
      inversions,
      foreign,
      gaps: this.#gaps.length,
      connections: this.#connections,
      firstUs: this.#firstUs,
      lastUs: this.#lastUs,
      recent: summaries(this.#recent),
      recentRecords: unique - this.#recentUnique
    }
    this.#recent = this.#histograms()
    this.#recentUnique = unique
    return progress
  }

  stop(): void {
    this.#stopped = true
    this.#request?.destroy()
  }

  report(): ArrivalsFile { return { devices: this.#arrivals.devices(), gaps: this.#gaps } }

  result(): ReaderResult {
    const { unique, repeated, inversions, foreign } = this.#arrivals
    const { user, system } = process.cpuUsage()
    return {
      kind: 'final',
      unique,
      repeated,
      inversions,
      foreign,
      gaps: this.#gaps,
      payloadBytes: this.#payloadBytes,
      rewinds: this.#rewinds,
      connections: this.#connections,
      firstUs: this.#firstUs,
      phases: Object.fromEntries(this.#phases.map(phase => [phase.name, phase.result()])),
      cpuSeconds: (user + system) / 1e6
    }
  }

  #histograms(): Histograms {
    return Object.fromEntries(this.#groups.map(group => [group.name, new LatencyHistogram()]))
  }

  #readBatches(response: IncomingMessage): void {
    const decoder = new BatchStreamDecoder()
    response.on('data', (chunk: Buffer) => {
      const nowUs = monotonicUs()
      for (const item of decoder.push(chunk)) {
        this.#takeBatch(item, nowUs)
        this.#query.set('cursor', cursorAt(item.cursorPrefix, item.endIndex))
      }
    })
  }

  #takeBatch({ node, lane, batch, header, skip }: ReaderBatch, nowUs: number): void {
    if (header.kind === 'gap') {
      const { reason, records } = readGap(batch, header)
      const last = header.base + header.count - 1
      this.#gaps.push({ node, lane, epoch: header.epoch, first: header.base, last, records, reason })
      return
    }
    const first = header.base + skip
    forEachRecord(batch, header, (offset, _timestampMs, _topic, payload) => {
      if (offset >= first) this.#take(payload, nowUs)
    })
  }

  #readLines(response: IncomingMessage): void {
    let rest = ''
    response.setEncoding('utf8').on('data', (text: string) => {
      const nowUs = monotonicUs()
      const lines = (rest + text).split('\n')
      rest = lines.pop()!
      for (const line of lines) {
        const { node, lane, epoch, gap, payload, cursor } = JSON.parse(line) as Line
        if (gap === undefined) this.#take(Buffer.from(payload, 'base64'), nowUs)
        else this.#gaps.push({ node, lane, epoch, ...gap })
        this.#query.set('cursor', cursor)
      }
    })
  }

  #take(payload: Buffer, nowUs: number): void {
    this.#payloadBytes += payload.length
    if (this.#firstUs === -1) this.#firstUs = nowUs
    this.#lastUs = nowUs
    const arrivals = this.#arrivals
    if (arrivals.add(payload) !== 'first') return
    const phase = this.#phases.at(-1)!
    if (phase.firstUs === -1) phase.firstUs = nowUs
    phase.lastUs = nowUs
    phase.records++
    const second = Math.floor((nowUs - phase.startUs) / 1e6)
    phase.perSecond[second] = (phase.perSecond[second] ?? 0) + 1
    const { device, sentUs } = arrivals.marker
    const sentIn = phase.startUs <= sentUs ? phase : this.#phases.findLast(each => each.startUs <= sentUs)
    for (const group of this.#groups) {
      if (device < group.first || device > group.last) continue
      sentIn?.latency[group.name]!.record(nowUs - sentUs)
      this.#recent[group.name]!.record(nowUs - sentUs)
      return
    }
  }

  /** Anything but 200: a cursor that the log does not know any more, or not now. */
  async #refused(response: IncomingMessage): Promise<void> {
    let text = ''
    for await (const chunk of response.setEncoding('utf8')) text += String(chunk)
    if (response.statusCode === 410) {
      this.#rewinds++
      this.#query.set('cursor', (JSON.parse(text) as { firstCursor: string }).firstCursor)
    } else if (response.statusCode !== 503) {
      console.error(`${response.statusCode}: ${text}`)
      process.exit(4)
    }
  }
}

function summaries(histograms: Histograms): Record<string, LatencySummary> {
  return Object.fromEntries(Object.entries(histograms).map(([name, histogram]) => [name, histogram.summary()]))
}

function parseGroup(text: string): Group {
  const match = /^([a-z-]+):(\d+)-(\d+)$/.exec(text)
  if (match === null) throw new RangeError(`--group: expected NAME:FIRST-LAST, got "${text}"`)
  return { name: match[1]!, first: Number(match[2]), last: Number(match[3]) }
}

function main(): void {
  const { values } = parseArgs({
    options: {
      help: { type: 'boolean' },
      url: { type: 'string' },
      format: { type: 'string', default: 'batch' },
      node: { type: 'string' },
      lane: { type: 'string' },
      cursor: { type: 'string' },
      group: { type: 'string', multiple: true, default: [] },
      'report-file': { type: 'string' },
      owned: { type: 'boolean', default: false }
    }
  })
  if (values.help === true || values.url === undefined) {
    console.log(help)
    process.exitCode = values.help === true ? 0 : 2
    return
  }
  const query = new URLSearchParams({ follow: 'true' })
  for (const name of ['node', 'lane', 'cursor'] as const) if (values[name] !== undefined) query.set(name, values[name])
  const groups = [...values.group.map(parseGroup), { name: 'all', first: 0, last: Infinity }]
  const reader = new RecordReader(values.url, query, values.format === 'batch', groups)
  const end = (): void => {
    reader.stop()
    if (values['report-file'] !== undefined) writeFileSync(values['report-file'], JSON.stringify(reader.report()))
    process.stdout.write(JSON.stringify(reader.result()) + '\n', () => process.exit(0))
  }
  const commands = createInterface({ input: process.stdin })
  commands.on('line', line => {
    const [command, name] = line.split(' ')
    if (command === 'progress') console.log(JSON.stringify(reader.progress()))
    else if (command === 'phase' && name !== undefined) reader.phase(name)
    else if (command === 'stop') end()
  })
  commands.on('close', () => { if (values.owned) process.exit(3) })
  process.on('SIGTERM', end)
  process.on('SIGINT', end)
  reader.connect()
}

if (import.meta.main) main()
