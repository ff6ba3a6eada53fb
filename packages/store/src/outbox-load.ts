import { BatchError, batchNext, checkBatchBody, encodeGap, epochFromBytes, laneNamePattern, readBatchHeader,
  readGap } from '@holdfast/protos'
import type { BatchHeader, BootId, GapBody } from '@holdfast/protos'
import type { Clock, Log, Random } from '@holdfast/runtime'
import { decodeAcked, decodeEpoch, decodeLane, encodeEpoch, encodeLane, isOutboxKey, laneEnd, laneKey, offsetKey,
  offsetOfKey,
  tableEnd } from './outbox-format.ts'
import type { EpochEntry } from './outbox-format.ts'
import type { HeldBatch, OutboxLane } from './outbox-lane.ts'
import { salvageTables } from './salvage-tables.ts'
import type { Store, StoreEntry, WriteOp } from './store.ts'
import { tables } from './tables.ts'
import { writeSynced } from './write-synced.ts'

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

/** What a stored gap says; of a damaged one only that something is missing. */
export function tryGap(value: Buffer, header: BatchHeader): GapBody {
  try {
    checkBatchBody(value, header)
    return readGap(value, header)
  } catch (error) {
    if (error instanceof BatchError) return { reason: 'corrupt', records: 0 }
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
export async function loadLane(lane: OutboxLane, store: Store, suspect: boolean,
  components: LoadComponents): Promise<number> {
  lane.reset()
  const epochEntries = await scanAll(store, tables.outboxEpoch, lane.id)
  const ackedKey = laneKey(tables.outboxAcked, lane.id)
  const ackedValue = await store.get(ackedKey)
  const acked = decodeAcked(ackedKey, ackedValue ?? Buffer.alloc(0))
  const ackedDamaged = acked === undefined && ackedValue !== undefined
  const repairs: WriteOp[] = []
  const damage: LostRange[] = []
  const gaps: { readonly header: BatchHeader, readonly value: Buffer }[] = []
  for (const { key, value } of epochEntries) {
    const entry = decodeEpoch(key, value)
    if (entry === undefined) repairs.push({ type: 'del', key })
    else lane.epochs.push({ start: entry.start, epoch: entry.epoch, predecessor: entry.predecessor,
      reason: entry.reason })
  }
  let endSuspect = suspect
  lane.dropped = acked?.dropped ?? 0
  let uptimeMs = 0
  /** Where nothing was ever acknowledged nothing was trimmed: the lane begins where its first epoch does. */
  let expected = acked?.first ?? lane.epochs[0]?.start ?? 0
  let seen = false
  /** Place of a batch whose header is damaged; its end shows with the next key. */
  let damagedAt: number | undefined
  let from = offsetKey(tables.outboxBatch, lane.id, expected)
  // When it was acknowledged is not written down: for the local cache its age counts from when it arrived.
  const hold = (base: number, next: number, bytes: number, arrivedMs: number): void => {
    if (next <= (acked?.acked ?? 0)) {
      lane.kept.push({ base, next, bytes, ackedUptimeMs: arrivedMs })
      lane.keptBytes += bytes
    } else lane.storedBytes += bytes
  }
  for (;;) {
    const entries = await store.scan({ gte: from, lt: laneEnd(tables.outboxBatch, lane.id) })
    if (entries.length === 0) break
    from = keyBehind(entries.at(-1)!.key)
    for (const entry of entries) {
      const base = offsetOfKey(entry.key)
      const header = tryHeader(entry.value)
      const sound = header !== undefined
      if (!Number.isSafeInteger(base) || (header !== undefined && (header.base !== base || header.lane !== lane.id))) {
        // Its key is damaged: it says nothing of this place, and is missing from its own.
        repairs.push({ type: 'del', key: entry.key })
        endSuspect = true
        continue
      }
      if (seen && base < expected) {
        repairs.push({ type: 'del', key: entry.key })
        continue
      }
      if (!seen) {
        seen = true
        if (acked === undefined && (suspect || ackedDamaged || base < expected)) expected = base
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
      restoreEpoch(lane, header, repairs)
      expected = batchNext(header)
      uptimeMs = Math.max(uptimeMs, header.uptimeMs)
      if (header.kind === 'gap') gaps.push({ header, value: entry.value })
      else hold(base, expected, entry.value.length, header.uptimeMs)
      if (expected > (acked?.acked ?? 0)) lane.oldestUptimeMs ??= header.uptimeMs
    }
  }
  if (!seen) lane.first = expected
  if (damagedAt !== undefined) damage.push({ base: damagedAt, next: damagedAt + 1, records: 0 })
  // The last batch of a lane is never trimmed, and an epoch begins in the commit of its first batch: an end below what
  // was
  // acknowledged, or below the newest epoch's start, means that the end is lost.
  const knownEnd = Math.max(acked?.acked ?? 0, lane.epochs.at(-1)?.start ?? 0)
  const endLost = expected < knownEnd
  if (endLost) damage.push({ base: expected, next: knownEnd, records: 0 })
  lane.durable = lane.next = Math.max(expected, knownEnd)
  lane.acked = Math.min(acked?.acked ?? lane.first, lane.durable)
  if (damage.length > 0 || endSuspect || endLost) lane.epochReason = 'salvaged'
  if (lane.epochs.length === 0 || lane.epochs[0]!.start > lane.first) {
    if (lane.durable > lane.first) beginEpochAt(lane, lane.first, repairs, components, 'salvaged')
  }
  // Every epoch is known by now, those found again too.
  for (const gap of damage.flatMap(lost => splitAtEpochs(lane, lost))) {
    if (gap.next <= lane.first) continue
    writeGap(lane, gap, repairs, components, uptimeMs, hold)
  }
  for (const { header, value } of gaps) {
    const parts = gapParts(lane, header, value)
    for (const { base, next, bytes } of parts) hold(base, next, bytes.length, header.uptimeMs)
    if (parts.length > 1) repairs.push(...parts.map(({ base, bytes }): WriteOp => ({
      type: 'put', key: offsetKey(tables.outboxBatch, lane.id, base), value: bytes
    })))
  }
  if (endSuspect) {
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

/** Offsets that cannot be read; `records` 0: nobody knows how many were acknowledged. */
interface LostRange { readonly base: number, readonly next: number, readonly records: number }

/** No batch reaches over an epoch's end: the cloud would wait for ever for what the next epoch begins with. */
function splitAtEpochs(lane: OutboxLane, { base, next, records }: LostRange): LostRange[] {
  const starts = lane.epochs.map(({ start }) => start).filter(start => base < start && start < next)
  let left = records
  return [base, ...starts].map((first, i) => {
    const end = starts[i] ?? next
    const part = { base: first, next: end, records: Math.min(left, end - first) }
    left -= part.records
    return part
  })
}

/** A stored gap as it has to lie there: in parts where it reaches over an epoch's end. */
export function gapParts(lane: OutboxLane, header: BatchHeader, value: Buffer): HeldBatch[] {
  const next = batchNext(header)
  const { reason, records } = tryGap(value, header)
  const parts = splitAtEpochs(lane, { base: header.base, next, records })
  if (parts.length === 1) return [{ base: header.base, next, bytes: value }]
  return parts.map(part => ({
    base: part.base,
    next: part.next,
    bytes: encodeGap(part.next - part.base, { reason, records: part.records }, {
      ...header, epoch: lane.epochAt(part.base)!.epoch, base: part.base
    })
  }))
}

function writeGap(lane: OutboxLane, gap: LostRange, repairs: WriteOp[],
  components: LoadComponents, uptimeMs: number,
  hold: (base: number, next: number, bytes: number, arrivedMs: number) => void): void {
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
  hold(gap.base, gap.next, bytes.length, uptimeMs)
  lane.dirty = true
}

function beginEpochAt(lane: OutboxLane, start: number, repairs: WriteOp[], components: LoadComponents,
  reason: EpochEntry['reason']): void {
  const predecessor = lane.epochAt(start)?.epoch
  putEpoch(lane, { start, epoch: epochFromBytes(components.random.bytes(8)), predecessor, reason }, repairs)
}

/**
 * Where the entry of an epoch is gone, its batches still name it: it begins where the first of them is. In a
 * re-identified
 * stretch stored names are old ones on purpose, until the first batch that was appended to it.
 */
function restoreEpoch(lane: OutboxLane, header: BatchHeader, repairs: WriteOp[]): void {
  const covering = lane.epochAt(header.base)
  if (covering?.epoch === header.epoch || covering?.reason === 're-identified') return
  if (lane.epochs.some(({ epoch }) => epoch === header.epoch)) return
  putEpoch(lane, { start: header.base, epoch: header.epoch, predecessor: covering?.epoch, reason: 'salvaged' }, repairs)
}

function putEpoch(lane: OutboxLane, entry: EpochEntry, repairs: WriteOp[]): void {
  const key = offsetKey(tables.outboxEpoch, lane.id, entry.start)
  repairs.push({ type: 'put', key, value: encodeEpoch(key, entry, lane.name) })
  lane.epochs = [...lane.epochs.filter(({ start }) => start !== entry.start), entry].toSorted((a,
    b) => a.start - b.start)
}

/**
 * Names of the lanes that are stored, by id. Where a lane's own entry is damaged its epochs name it; where none does,
 * it
 * is the one of `configured` that is missing, or else `lane-<id>`: its records are sent all the same.
 */
export async function loadLaneNames(store: Store, configured: readonly string[]):
Promise<{ readonly names: Map<number, string>, readonly repairs: WriteOp[] }> {
  const names = new Map<number, string>()
  const repairs: WriteOp[] = []
  for (const { key, value } of await scanAll(store, tables.outboxLane)) {
    const name = decodeLane(key, value)
    if (name === undefined) repairs.push({ type: 'del', key })
    else names.set(key.readUInt16BE(1), name)
  }
  const nameless: number[] = []
  for (const id of await lanesWithoutEntry(store, names)) {
    const named = (await scanAll(store, tables.outboxEpoch, id)).map(({ key, value }) => decodeEpoch(key, value)?.lane)
    const found = named.findLast(name => name !== undefined && laneNamePattern.test(name) &&
      ![...names.values()].includes(name))
    if (found !== undefined) names.set(id, found)
    // A key that is damaged may name a lane that never was.
    else if (await hasBatch(store, id)) nameless.push(id)
    if (found !== undefined) repairs.push(laneOp(id, found))
  }
  const missing = configured.filter(name => ![...names.values()].includes(name))
  for (const id of nameless) {
    const name = nameless.length === 1 && missing.length === 1 ? missing[0]! : `lane-${id}`
    names.set(id, name)
    repairs.push(laneOp(id, name))
  }
  return { names, repairs }
}

/** Ids that the keys of epochs and batches name and `names` lacks. */
async function lanesWithoutEntry(store: Store, names: ReadonlyMap<number, string>): Promise<Set<number>> {
  const ids = new Set<number>()
  for (const table of [tables.outboxEpoch, tables.outboxBatch]) {
    for (let id = 0; id <= 0xffff; id++) {
      const [entry] = await store.scan({ gte: laneKey(table, id), lt: tableEnd(table), limit: 1, values: false })
      if (entry === undefined || entry.key.length < 3) break
      id = entry.key.readUInt16BE(1)
      if (!names.has(id)) ids.add(id)
    }
  }
  return ids
}

function laneOp(id: number, name: string): WriteOp {
  const key = laneKey(tables.outboxLane, id)
  return { type: 'put', key, value: encodeLane(key, name) }
}

async function hasBatch(store: Store, id: number): Promise<boolean> {
  for (const { value } of await store.scan({ gte: laneKey(tables.outboxBatch, id), lt: laneEnd(tables.outboxBatch,
    id) })) {
    if (tryHeader(value)?.lane === id) return true
  }
  return false
}

/** All entries of a small table; of one lane, where one is named. */
async function scanAll(store: Store, table: number, lane?: number): Promise<StoreEntry[]> {
  const all: StoreEntry[] = []
  let gte = lane === undefined ? Buffer.from([table]) : laneKey(table, lane)
  const lt = lane === undefined ? tableEnd(table) : laneEnd(table, lane)
  for (;;) {
    const page = await store.scan({ gte, lt })
    if (page.length === 0) return all
    all.push(...page)
    gte = keyBehind(page.at(-1)!.key)
  }
}

/** The first key that there can be behind `key`. */
function keyBehind(key: Buffer): Buffer { return Buffer.concat([key, Buffer.of(0)]) }

/**
 * Copies what is sound of a quarantined outbox into a new store, in steps of about 1 MiB; call before Outbox.open with
 * `suspect: true`. Resolves with the batches taken over and the entries that were damaged.
 */
export async function salvageOutbox(entries: AsyncIterable<StoreEntry>, store: Store): Promise<{ batches: number,
  damaged: number }> {
  const result = { batches: 0, damaged: 0 }
  const rest = salvageTables(entries, store, ({ key, value }) => {
    if (!isOutboxKey(key)) return 'leave'
    if (key[0] !== tables.outboxBatch) return 'take'
    const header = key.length === 11 ? tryHeader(value) : undefined
    const sound = header !== undefined && header.base === offsetOfKey(key)
    result[sound ? 'batches' : 'damaged']++
    return sound ? 'take' : 'leave'
  })
  // Nothing is passed on, so that the first step is the last.
  await rest.next()
  return result
}
