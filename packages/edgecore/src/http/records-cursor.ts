import { cursorAt } from '@holdfast/protos'
import type { Epoch } from '@holdfast/protos'
import { invariant } from '@holdfast/runtime'
import type { OutboxLane } from '@holdfast/store'

/** How far a reader is in one lane: it has read everything below `offset`, the last of it under `epochTag`. */
export interface LanePlace {
  /** At least 1: a lane of which nothing was read has no place. */
  readonly offset: number
  /** First four bytes of the epoch of the record before `offset`: offsets of another history are told apart. */
  readonly epochTag: number
}

/** By lane id. */
export type Places = ReadonlyMap<number, LanePlace>

const format = 1
const laneBytes = 12
/** Format, lanes, and four digits: the items of the first lane's batch that were read. */
const cursorPattern = /^[A-Za-z0-9_-]{22,250}$/

export function epochTag(epoch: Epoch): number { return Number.parseInt(epoch.slice(0, 8), 16) }

/**
 * The part that the cursors of a batch have in common: `batch` is where it begins, under its own epoch; the other lanes
 * stand still. A batch of records at `offset` has cursors 1 … count behind this; behind a gap, `offset` is its end and
 * the index 0.
 */
export function cursorPrefix(lane: number, batch: LanePlace, others: Places): string {
  const entries = [[lane, batch] as const, ...[...others].filter(([id]) => id !== lane)]
  const bytes = Buffer.alloc(1 + laneBytes * entries.length)
  bytes[0] = format
  for (const [i, [id, place]] of entries.entries()) {
    const at = 1 + laneBytes * i
    bytes.writeUInt16BE(id, at)
    bytes.writeUIntBE(place.offset, at + 2, 6)
    bytes.writeUInt32BE(place.epochTag, at + 8)
  }
  return bytes.toString('base64url')
}

/** The places, at least one, as a cursor: where to go on from. */
export function encodePlaces(places: Places): string {
  const [first] = places
  invariant(first !== undefined, 'a cursor names at least one lane')
  return cursorAt(cursorPrefix(first[0], first[1], places), 0)
}

/** Undefined where the text is not a cursor of this format. */
export function decodeCursor(text: string): Places | undefined {
  if (!cursorPattern.test(text)) return undefined
  const prefix = text.slice(0, -4)
  const bytes = Buffer.from(prefix, 'base64url')
  const whole = (bytes.length - 1) % laneBytes === 0 && bytes.toString('base64url') === prefix
  if (bytes[0] !== format || !whole) return undefined
  const index = Buffer.from(text.slice(-4), 'base64url').readUIntBE(0, 3)
  const places = new Map<number, LanePlace>()
  for (let at = 1; at < bytes.length; at += laneBytes) {
    const offset = bytes.readUIntBE(at + 2, 6) + (at === 1 ? index : 0)
    if (offset === 0) return undefined
    places.set(bytes.readUInt16BE(at), { offset, epochTag: bytes.readUInt32BE(at + 8) })
  }
  return places
}

/**
 * Why a reader cannot go on from `place`: `expired` where records behind it are not held any more, `foreign` where what it
 * has read is not what this lane held there.
 */
export function placeProblem(lane: OutboxLane, place: LanePlace): 'expired' | 'foreign' | undefined {
  if (place.offset > lane.durable) return 'foreign'
  if (place.offset < lane.first) return 'expired'
  // Epochs of which nothing is held are forgotten.
  const entry = lane.epochAt(place.offset - 1)
  return entry === undefined || epochTag(entry.epoch) === place.epochTag ? undefined : 'foreign'
}
