// Watches the ConfigMaps of a Kubernetes API, each watch on a connection of its own:
// `node k-watchers.ts PORT TOKEN CA_FILE WATCHES FROM EVENTS`, where FROM is the resourceVersion to begin after and EVENTS is
// how many are to come. Prints a line when all are open, and answers commands, lines of JSON on standard input.
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { createInterface } from 'node:readline'
import { LatencyHistogram, type LatencySummary } from '../test/harness/latency-histogram.ts'
import { sharedUs } from './k-process.ts'

export interface JudgeCommand {
  /** resourceVersions that every watch must have been sent, one by one. */
  readonly first: number
  readonly last: number
  /** When each was answered to its writer, as k-writer.ts leaves it. */
  readonly answersFile: string
  /** How long to wait for the last ones. */
  readonly withinMs: number
}

export interface Judgement {
  readonly events: number
  readonly lost: number
  /** Events whose resourceVersion is not above the one before, or that nobody wrote. */
  readonly disordered: number
  /** Watches that ended before the time. */
  readonly dropped: number
  /** From the answer to the writer to the event; an event that was faster counts as 0. */
  readonly latency: LatencySummary
}

const [port = '', token = '', caFile = '', watches = '', from = '', events = ''] = process.argv.slice(2)
const ca = readFileSync(caFile)
const agent = new Agent({ ca, keepAlive: false, maxSockets: Infinity })
const needle = Buffer.from('"resourceVersion":"')
const begin = Number(from)
const room = Number(events)

/** One watch: it takes in lines without decoding more than their resourceVersion. */
class RawWatch {
  /** When the event with resourceVersion FROM + 1 + i came; 0: it did not. */
  readonly arrivedUs = new Float64Array(room)
  last = begin
  count = 0
  disordered = 0
  ended = false
  #rest: Buffer = Buffer.alloc(0)

  async open(): Promise<void> {
    const path = `/api/v1/namespaces/default/configmaps?watch=true&resourceVersion=${from}`
    await new Promise<void>((resolve, reject) => {
      const end = (): void => { this.ended = true }
      const sent = request({ host: '127.0.0.1', port, path, agent, headers: { authorization: `Bearer ${token}` } }, answer => {
        answer.on('data', (chunk: Buffer) => { this.#take(chunk) }).on('close', end).on('error', end)
        if (answer.statusCode === 200) resolve()
        else reject(new Error(`a watch is answered with ${answer.statusCode}`))
      })
      sent.on('error', error => {
        end()
        reject(error)
      })
      sent.end()
    })
  }

  #take(chunk: Buffer): void {
    const atUs = sharedUs()
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    let start = 0
    for (let end = bytes.indexOf(10); end !== -1; end = bytes.indexOf(10, start)) {
      this.#event(bytes, start, end, atUs)
      start = end + 1
    }
    this.#rest = start === bytes.length ? Buffer.alloc(0) : Buffer.from(bytes.subarray(start))
  }

  #event(bytes: Buffer, start: number, end: number, atUs: number): void {
    const found = bytes.indexOf(needle, start)
    let revision = 0
    if (found !== -1 && found < end) {
      for (let at = found + needle.length; bytes[at] !== 0x22; at++) revision = revision * 10 + bytes[at]! - 0x30
    }
    this.count++
    if (revision <= this.last || revision > begin + room) this.disordered++
    else this.arrivedUs[revision - begin - 1] = atUs
    this.last = Math.max(this.last, revision)
  }
}

const all = Array.from({ length: Number(watches) }, () => new RawWatch())
await Promise.all(all.map(watch => watch.open()))
console.log('{}')

async function judge({ first, last, answersFile, withinMs }: JudgeCommand): Promise<Judgement> {
  const deadline = performance.now() + withinMs
  while (all.some(watch => watch.last < last && !watch.ended) && performance.now() < deadline) {
    await new Promise(resolve => setTimeout(resolve, 10))
  }
  const bytes = readFileSync(answersFile)
  const answeredUs = new Float64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8)
  const histogram = new LatencyHistogram()
  let lost = 0
  for (const { arrivedUs } of all) {
    for (let revision = first; revision <= last; revision++) {
      const atUs = arrivedUs[revision - begin - 1]!
      if (atUs === 0) lost++
      else histogram.record(atUs - answeredUs[revision - first]!)
    }
  }
  return {
    events: all.reduce((sum, { count }) => sum + count, 0),
    lost,
    disordered: all.reduce((sum, { disordered }) => sum + disordered, 0),
    dropped: all.filter(({ ended }) => ended).length,
    latency: histogram.summary()
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await judge(JSON.parse(line) as JudgeCommand)))
}
process.exit(0)
