import type { DeviceArrivals } from './arrivals.ts'
import type { AckFile } from './load-generator.ts'
import type { ArrivalsFile } from './reader.ts'

type Range = readonly [number, number]

/** Where in a device's records the lost ones lie, when they are one run: its beginning, its end, or between. */
export interface LostRecords {
  readonly prefix: number
  readonly middle: number
  readonly tail: number
}

/** What became of everything that senders were told is safe. */
export interface Verdict {
  readonly acknowledged: number
  /** Different records that arrived, acknowledged or not. */
  readonly inCloud: number
  /** Acknowledged, and did not arrive. */
  readonly lost: number
  readonly lostBy: LostRecords
  /** Offsets' worth of records that gap records in the cloud log stand for. */
  readonly inGaps: number
  /** Arrivals beyond the first that the sender did not cause. */
  readonly twice: number
  /** Arrivals beyond the first of records that their sender had sent again as new. */
  readonly repeatedBySender: number
  readonly outOfOrder: number
  /** Arrived, and nobody had sent it. */
  readonly unknown: number
  /** Some devices and sequences for whoever looks for the cause. */
  readonly examples: readonly string[]
}

interface Sent { readonly ranges: Range[], readonly unacknowledged: Range[], readonly repeated: Range[] }

const examplesMax = 10

/** Compares what senders were told with what a reader got. A device may have had several senders in turn. */
export function check(acks: readonly AckFile[], arrivals: ArrivalsFile): Verdict {
  const senders = new Map<number, Sent>()
  for (const { device, first, next, unacknowledged, repeated } of acks.flatMap(file => file.devices)) {
    let sent = senders.get(device)
    if (sent === undefined) senders.set(device, sent = { ranges: [], unacknowledged: [], repeated: [] })
    if (next > first) sent.ranges.push([first, next - 1])
    sent.unacknowledged.push(...unacknowledged)
    sent.repeated.push(...repeated)
  }
  const arrived = new Map(arrivals.devices.map(device => [device.device, device]))
  const examples: string[] = []
  const example = (text: string): void => { if (examples.length < examplesMax) examples.push(text) }
  const total = { acknowledged: 0, lost: 0, prefix: 0, middle: 0, tail: 0, twice: 0, repeatedBySender: 0, unknown: 0 }
  for (const [device, sent] of senders) {
    const promised = sent.ranges.flatMap(range => subtract(range, sent.unacknowledged))
    const got = arrived.get(device)
    total.acknowledged += size(promised)
    const missing: Range[] = got === undefined ? [[0, Infinity]] : [...got.missing, [got.next, Infinity]]
    const lost = promised.flatMap(range => missing.flatMap(hole => intersect(range, hole)))
    const lowest = Math.min(...promised.map(range => range[0]))
    const highest = Math.max(...promised.map(range => range[1]))
    for (const range of lost) {
      const count = size([range])
      total.lost += count
      if (range[1] === highest) total.tail += count
      else if (range[0] === lowest) total.prefix += count
      else total.middle += count
      example(`lost: device ${device}, ${range[0]} to ${range[1]}`)
    }
  }
  for (const got of arrivals.devices) {
    const sent = senders.get(got.device)
    const here = sent?.ranges
      .reduce((count, range) => count + size([range]) - size(holes(got, range)), 0) ?? 0
    total.unknown += got.unique - here
    if (got.unique > here) example(`not sent: device ${got.device}, ${got.unique - here} records`)
    for (const [sequence, times] of got.repeated) {
      const allowed = sent?.repeated.filter(range => sequence >= range[0] && sequence <= range[1]).length ?? 0
      total.repeatedBySender += Math.min(times, allowed)
      total.twice += Math.max(0, times - allowed)
      if (times > allowed) {
        example(`twice: device ${got.device}, ${sequence}, ${times} more, sent again ${allowed} times`)
      }
    }
    if (got.inversions > 0) example(`out of order: device ${got.device}, ${got.inversions} records`)
  }
  return {
    acknowledged: total.acknowledged,
    inCloud: arrivals.devices.reduce((count, device) => count + device.unique, 0),
    lost: total.lost,
    lostBy: { prefix: total.prefix, middle: total.middle, tail: total.tail },
    inGaps: arrivals.gaps.reduce((count, gap) => count + gap.records, 0),
    twice: total.twice,
    repeatedBySender: total.repeatedBySender,
    outOfOrder: arrivals.devices.reduce((count, device) => count + device.inversions, 0),
    unknown: total.unknown,
    examples
  }
}

/** True where nothing was lost, doubled, turned round or invented. */
export function isFlawless(verdict: Verdict): boolean {
  return verdict.lost === 0 && verdict.twice === 0 && verdict.outOfOrder === 0 && verdict.unknown === 0
}

const size = (ranges: readonly Range[]): number => ranges.reduce((count, [first, last]) => count + last - first + 1, 0)

function intersect(a: Range, b: Range): Range[] {
  const first = Math.max(a[0], b[0])
  const last = Math.min(a[1], b[1])
  return first <= last ? [[first, last]] : []
}

function subtract(range: Range, from: readonly Range[]): Range[] {
  let left: Range[] = [range]
  for (const [first, last] of from) {
    left = left.flatMap(([a, b]) => last < a || first > b
      ? [[a, b] as Range]
      : [[a, first - 1] as Range, [last + 1, b] as Range].filter(([x, y]) => x <= y))
  }
  return left
}

/** Sequences of `range` that did not arrive. */
function holes(got: DeviceArrivals, range: Range): Range[] {
  return [...got.missing, [got.next, Infinity] as Range].flatMap(hole => intersect(range, hole))
}
