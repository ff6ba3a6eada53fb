import type { RecordLine } from './daemons.ts'
import { payloadOf } from './publisher.ts'
import type { Publisher } from './publisher.ts'

/** What a comparison of what was acknowledged with what the cloud log holds comes to. */
export interface Verdict {
  readonly acknowledged: number
  /** Records in the cloud log, repeats included. */
  readonly delivered: number
  /** Acknowledged, not in the log, and no gap record where they would be; by where in their publisher's sequence. */
  readonly lostPrefix: number
  readonly lostMiddle: number
  readonly lostTail: number
  /** Acknowledged, not in the log, and a gap record stands where they would be. */
  readonly covered: number
  /** Beyond the times that their sender asked for. */
  readonly twice: number
  /** There more than once because the sender, not having an acknowledgement, sent it again (L3). */
  readonly repeated: number
  /** A record whose first copy comes behind a later one's. */
  readonly inversions: number
  /** Bytes that nobody sent, or under another device or topic. */
  readonly wrong: number
  /** Offsets of an epoch that are missing without a gap record, or there twice (L2). */
  readonly holes: number
}

/** A verdict in which nothing is wrong, for comparisons: `expect(verdict).toMatchObject(flawless)`. */
export const flawless = {
  lostPrefix: 0, lostMiddle: 0, lostTail: 0, covered: 0, twice: 0, inversions: 0, wrong: 0, holes: 0
} as const
/** The same where gap records are allowed to cover what is missing. */
export const flawlessButForGaps = {
  lostPrefix: 0, lostMiddle: 0, lostTail: 0, twice: 0, inversions: 0, wrong: 0, holes: 0
} as const

export interface Gap { readonly lane: string, readonly epoch: string, readonly first: number, readonly last: number, readonly reason: string }

/** What a ledger asks a publisher. */
export type Sender = Pick<Publisher, 'options' | 'topic' | 'attempts' | 'acknowledged' | 'acknowledgedCount' | 'sequences'>

interface Seen {
  /** By sequence: copies in the log. */
  readonly copies: number[]
  /** By sequence: lane offset of the first copy. */
  readonly offsets: number[]
  highest: number
  inversions: number
}

/**
 * Reads a node's records from the cloud in commit order, and compares them with what publishers know. One verdict may
 * follow another: reading goes on from the last cursor.
 */
export class Ledger {
  readonly gaps: Gap[] = []
  /** Examples of what is wrong, for messages. */
  readonly faults: string[] = []
  readonly #node: string
  readonly #publishers = new Map<string, Sender>()
  readonly #seen = new Map<string, Seen>()
  readonly #next = new Map<string, number>()
  readonly #holes: Gap[] = []
  #offsetsTwice = 0
  #wrong = 0
  #delivered = 0
  #cursor = ''

  constructor(node: string, publishers: Iterable<Sender> = []) {
    this.#node = node
    for (const publisher of publishers) this.add(publisher)
  }

  add(publisher: Sender): void {
    this.#publishers.set(publisher.options.name, publisher)
    this.#seen.set(publisher.options.name, { copies: [], offsets: [], highest: -1, inversions: 0 })
  }

  /** Reads on from where it was, at `<url>/v1/records`. */
  async read(url: string): Promise<void> {
    const query = `encoding=utf8&node=${this.#node}${this.#cursor === '' ? '' : `&cursor=${encodeURIComponent(this.#cursor)}`}`
    const answer = await fetch(`${url}/v1/records?${query}`)
    if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`)
    let rest = ''
    for await (const chunk of answer.body!.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop()!
      for (const line of lines) this.#take(JSON.parse(line) as RecordLine)
    }
    if (rest !== '') throw new Error(`the stream of records ended inside a line: ${rest.slice(0, 200)}`)
  }

  #take(line: RecordLine): void {
    this.#cursor = line.cursor
    const stream = `${line.lane} ${line.epoch}`
    const { gap } = line
    const first = gap?.first ?? line.offset!
    const expected = this.#next.get(stream)
    if (expected !== undefined && first > expected) {
      this.#holes.push({ lane: line.lane, epoch: line.epoch, first: expected, last: first - 1, reason: 'hole' })
    }
    if (gap !== undefined) this.gaps.push({ lane: line.lane, epoch: line.epoch, first, last: gap.last, reason: gap.reason })
    else {
      if (expected !== undefined && first < expected) {
        this.#offsetsTwice++
        this.#fault(`offset ${first} of ${stream} again, expected ${expected}`)
      }
      this.#record(line)
    }
    this.#next.set(stream, Math.max(expected ?? 0, (gap?.last ?? first) + 1))
  }

  #record(line: RecordLine): void {
    this.#delivered++
    const [, name, text] = /^(.+?)-(\d+)-/.exec(line.payload!) ?? []
    const publisher = this.#publishers.get(name ?? '')
    const seen = this.#seen.get(name ?? '')
    const sequence = Number(text)
    if (publisher === undefined || seen === undefined || sequence >= publisher.sequences || line.topic !== publisher.topic ||
      line.payload !== payloadOf(name!, sequence, publisher.options.payloadBytesMax) || line.device !== `shop/${name}`) {
      this.#wrong++
      this.#fault(`nobody sent ${line.device} ${line.topic} ${line.payload?.slice(0, 100)}`)
      return
    }
    const copies = seen.copies[sequence] ?? 0
    seen.copies[sequence] = copies + 1
    if (copies > 0) return
    seen.offsets[sequence] = line.offset!
    if (sequence < seen.highest) {
      seen.inversions++
      this.#fault(`${name} ${sequence} for the first time behind ${seen.highest}`)
    }
    seen.highest = Math.max(seen.highest, sequence)
  }

  verdict(): Verdict {
    const sum = {
      acknowledged: 0, delivered: this.#delivered, lostPrefix: 0, lostMiddle: 0, lostTail: 0, covered: 0, twice: 0,
      repeated: 0, inversions: 0, wrong: this.#wrong, holes: this.#offsetsTwice
    }
    for (const [name, publisher] of this.#publishers) {
      const seen = this.#seen.get(name)!
      const lane = publisher.options.lane ?? 'telemetry'
      sum.acknowledged += publisher.acknowledgedCount
      sum.inversions += seen.inversions
      let before = -1
      for (let sequence = 0; sequence < publisher.sequences; sequence++) {
        const copies = seen.copies[sequence] ?? 0
        if (copies > 0) {
          before = seen.offsets[sequence]!
          const attempts = publisher.attempts[sequence]!
          if (copies > 1) sum.repeated += Math.min(copies, attempts) - 1
          if (copies > attempts) {
            sum.twice += copies - attempts
            this.#fault(`${name} ${sequence}: ${copies} copies, sent ${attempts} times`)
          }
          continue
        }
        if (publisher.acknowledged[sequence] !== true) continue
        let after = sequence + 1
        while (after <= seen.highest && (seen.copies[after] ?? 0) === 0) after++
        const behind = after <= seen.highest ? seen.offsets[after]! : Infinity
        if (this.gaps.some(gap => gap.lane === lane && gap.last > before && gap.first < behind)) sum.covered++
        else {
          if (before === -1) sum.lostPrefix++
          else if (behind === Infinity) sum.lostTail++
          else sum.lostMiddle++
          this.#fault(`${name} ${sequence} is acknowledged and not there, between offsets ${before} and ${behind} of ${lane}`)
        }
      }
    }
    for (const hole of this.#holes) {
      const missing = hole.last - hole.first + 1 - this.gaps.filter(gap => gap.epoch === hole.epoch && gap.lane === hole.lane)
        .reduce((count, gap) => count + Math.max(0, Math.min(gap.last, hole.last) - Math.max(gap.first, hole.first) + 1), 0)
      if (missing <= 0) continue
      sum.holes += missing
      this.#fault(`offsets ${hole.first}–${hole.last} of ${hole.lane} ${hole.epoch} are missing`)
    }
    return sum
  }

  #fault(text: string): void { if (this.faults.length < 20) this.faults.push(text) }
}
