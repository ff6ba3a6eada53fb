import { BatchError, batchNext, encodeGap, epochFromBytes, readBatchHeader } from '@holdfast/protos'
import type { BatchHeader, BootId } from '@holdfast/protos'
import type { Clock, Log, Random } from '@holdfast/runtime'
import { decodeAcked, decodeEpoch, encodeEpoch, isOutboxKey, laneKey, offsetKey, offsetOfKey } from './outbox-format.ts'
import type { EpochEntry } from './outbox-format.ts'
import type { OutboxLane } from './outbox-lane.ts'
import type { Store, StoreEntry, WriteOp } from './store.ts'
import { tables } from './tables.ts'

export interface LoadComponents {
  readonly bootId: BootId
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** The header, or undefined where the bytes are no batch. */
export function tryHeader(value: Buffer): BatchHeader | undefined {
  try {
    return readBatchHeader(value)
  } catch (error) {
    if (error instanceof BatchError) return undefined
    throw error
  }
}

/**
 * Fills a lane from what is stored (LOG-10): headers of everything held are read and checked for density; a hole or a
 * damaged header becomes a gap record `corrupt`, in place, in one synced write. `suspect`: records at the end may have
 * been lost without a trace, so a gap of unknown size ends what was there. Bodies are checked when they are sent.
 *
 * Resolves with the largest uptime stamp seen, milliseconds.
 */
export async function loadLane(lane: OutboxLane, store: Store, suspect: boolean, components: LoadComponents): Promise<number> {
  lane.reset()
  const epochEntries = await scanAll(store, tables.outboxEpoch, lane.id, 0)
  const acked = decodeAcked(await store.get(laneKey(tables.outboxAcked, lane.id)) ?? Buffer.alloc(0))
  const repairs: WriteOp[] = []
  const damage: { base: number, next: number, records: number }[] = []
  for (const entry of epochEntries) {
    const epoch = decodeEpoch(entry.key, entry.value)
    if (epoch === undefined) repairs.push({ type: 'del', key: entry.key })
    else lane.epochs.push(epoch)
  }
  lane.dropped = acked?.dropped ?? 0
  let uptimeMs = 0
  /** Where nothing was ever acknowledged nothing was trimmed: the lane begins where its first epoch does. */
  let expected = acked?.first ?? lane.epochs[0]?.start ?? 0
  let seen = false
  /** Place of a batch whose header is damaged; its end shows with the next key. */
  let damagedAt: number | undefined
  let from = expected
  const hold = (base: number, next: number, bytes: number): void => {
    if (next <= (acked?.acked ?? 0)) {
      lane.kept.push({ base, next, bytes, ackedUptimeMs: 0 })
      lane.keptBytes += bytes
    } else lane.storedBytes += bytes
  }
  for (;;) {
    const entries = await store.scan({
      gte: offsetKey(tables.outboxBatch, lane.id, from),
      lt: laneKey(tables.outboxBatch, lane.id + 1)
    })
    if (entries.length === 0) break
    for (const entry of entries) {
      const base = offsetOfKey(entry.key)
      const header = tryHeader(entry.value)
      from = base + 1
      const sound = header !== undefined && header.base === base && header.lane === lane.id
      if (seen && base < expected) {
        repairs.push({ type: 'del', key: entry.key })
        continue
      }
      if (!seen) {
        seen = true
        if (acked === undefined && (suspect || base < expected)) expected = base
        lane.first = Math.min(base, expected)
      }
      if (damagedAt !== undefined) damage.push({ base: damagedAt, next: base, records: base - damagedAt })
      else if (base > expected) damage.push({ base: expected, next: base, records: base - expected })
      damagedAt = undefined
      if (!sound) {
        damagedAt = base
        expected = base + 1
        continue
      }
      expected = batchNext(header)
      uptimeMs = Math.max(uptimeMs, header.uptimeMs)
      hold(base, expected, entry.value.length)
      if (expected > (acked?.acked ?? 0)) lane.oldestUptimeMs ??= header.uptimeMs
    }
  }
  if (!seen) lane.first = expected
  if (damagedAt !== undefined) damage.push({ base: damagedAt, next: damagedAt + 1, records: 0 })
  // The last batch of a lane is never trimmed, and an epoch begins in the commit of its first batch: an end below what was
  // acknowledged, or below the newest epoch's start, means that the end is lost.
  const knownEnd = Math.max(acked?.acked ?? 0, lane.epochs.at(-1)?.start ?? 0)
  const endLost = expected < knownEnd
  if (endLost) damage.push({ base: expected, next: knownEnd, records: 0 })
  lane.durable = lane.next = Math.max(expected, knownEnd)
  lane.acked = Math.min(acked?.acked ?? lane.first, lane.durable)
  if (damage.length > 0 || suspect || endLost) lane.epochReason = 'salvaged'
  if (lane.epochs.length === 0 || lane.epochs[0]!.start > lane.first) {
    if (lane.durable > lane.first) beginEpochAt(lane, lane.first, repairs, components, 'salvaged')
  }
  for (const gap of damage) {
    if (gap.next <= lane.first) continue
    writeGap(lane, gap, repairs, components, uptimeMs, hold)
  }
  if (suspect && lane.durable > 0) {
    beginEpochAt(lane, lane.durable, repairs, components, 'salvaged')
    writeGap(lane, { base: lane.durable, next: lane.durable + 1, records: 0 }, repairs, components, uptimeMs, hold)
    lane.durable = ++lane.next
  }
  lane.kept.sort((a, b) => a.base - b.base)
  lane.handedOut = lane.acked
  if (lane.durable > lane.acked) lane.oldestUptimeMs ??= uptimeMs
  if (repairs.length > 0) await writeSynced(store, repairs)
  return uptimeMs
}

function writeGap(lane: OutboxLane, gap: { base: number, next: number, records: number }, repairs: WriteOp[],
  components: LoadComponents, uptimeMs: number, hold: (base: number, next: number, bytes: number) => void): void {
  components.log.error('records lost to corruption', {
    lane: lane.name, first: gap.base, last: gap.next - 1, records: gap.records === 0 ? 'unknown' : gap.records
  })
  const waiting = gap.next > lane.acked
  if (waiting) lane.dropped += gap.records
  const bytes = encodeGap(gap.next - gap.base, { reason: 'corrupt', records: gap.records }, {
    lane: lane.id,
    epoch: lane.epochAt(gap.base)!.epoch,
    base: gap.base,
    bootId: components.bootId,
    wallMs: components.clock.wallMs(),
    uptimeMs,
    clockSynchronised: false
  })
  repairs.push({ type: 'put', key: offsetKey(tables.outboxBatch, lane.id, gap.base), value: bytes })
  hold(gap.base, gap.next, bytes.length)
  lane.dirty = true
}

function beginEpochAt(lane: OutboxLane, start: number, repairs: WriteOp[], components: LoadComponents,
  reason: EpochEntry['reason']): void {
  const predecessor = lane.epochAt(start)?.epoch
  const entry: EpochEntry = { start, epoch: epochFromBytes(components.random.bytes(8)), predecessor, reason }
  repairs.push({ type: 'put', key: offsetKey(tables.outboxEpoch, lane.id, start), value: encodeEpoch(entry) })
  lane.epochs = [...lane.epochs.filter(epoch => epoch.start < start), entry, ...lane.epochs.filter(epoch => epoch.start > start)]
}

/** All entries of a lane's small table from an offset on. */
async function scanAll(store: Store, table: number, lane: number, from: number): Promise<StoreEntry[]> {
  const all: StoreEntry[] = []
  let gte = offsetKey(table, lane, from)
  for (;;) {
    const page = await store.scan({ gte, lt: laneKey(table, lane + 1) })
    if (page.length === 0) return all
    all.push(...page)
    gte = offsetKey(table, lane, offsetOfKey(page.at(-1)!.key) + 1)
  }
}

export function writeSynced(store: Store, ops: readonly WriteOp[]): Promise<void> {
  return new Promise((resolve, reject) => {
    store.write(ops, { sync: true }, error => {
      if (error === undefined) resolve()
      else reject(error)
    })
  })
}

/**
 * Copies what is sound of a quarantined outbox into a new store, in steps of about 1 MiB; call before Outbox.open with
 * `suspect: true`. Resolves with the batches taken over and the entries that were damaged.
 */
export async function salvageOutbox(entries: AsyncIterable<StoreEntry>, store: Store): Promise<{ batches: number, damaged: number }> {
  let ops: WriteOp[] = []
  let bytes = 0
  const result = { batches: 0, damaged: 0 }
  for await (const { key, value } of entries) {
    if (!isOutboxKey(key)) continue
    if (key[0] === tables.outboxBatch) {
      const header = key.length === 11 ? tryHeader(value) : undefined
      if (header === undefined || header.base !== offsetOfKey(key)) {
        result.damaged++
        continue
      }
      result.batches++
    }
    ops.push({ type: 'put', key, value })
    bytes += value.length
    if (bytes > 1024 * 1024) {
      await writeSynced(store, ops)
      ops = []
      bytes = 0
    }
  }
  if (ops.length > 0) await writeSynced(store, ops)
  return result
}
