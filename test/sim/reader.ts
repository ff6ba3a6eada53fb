import { batchNext, checkBatchBody, forEachRecord, readBatchHeader, readGap } from '@holdfast/protos'
import type { Epoch, GapReason } from '@holdfast/protos'
import { tables } from '@holdfast/store'
import type { StoreEntry } from '@holdfast/store'
import type { LevelLog } from '../../packages/cloudcore/src/log/level-log.ts'
import type { Attempt, Ledger } from './ledger.ts'

/** Kind byte of a gap in a batch header (docs/spec/log.md). */
const gapKind = 2

/** One entry of the cloud log. */
export interface LogEntry {
  readonly node: string
  readonly lane: string
  readonly epoch: Epoch
  readonly base: number
  readonly next: number
  readonly gap: { readonly reason: GapReason, readonly records: number } | undefined
  readonly attempts: readonly Attempt[]
}

/** Reads the whole cloud log in commit order, and identifies every record by its bytes. */
export async function readCloudLog(log: LevelLog, ledger: Ledger): Promise<LogEntry[]> {
  const entries: LogEntry[] = []
  for await (const page of log.read({}, new AbortController().signal)) {
    for (const { node, lane, batch, header } of page) {
      const { epoch, base } = header
      const attempts: Attempt[] = []
      let gap: LogEntry['gap']
      if (header.kind === 'gap') gap = readGap(batch, header)
      else {
        forEachRecord(batch, header, (_offset, _timestampMs, topic, payload) => {
          attempts.push(ledger.identify(payload, topic.device))
        })
      }
      entries.push({ node, lane, epoch, base, next: batchNext(header), gap, attempts })
    }
  }
  return entries
}

/** Keys of the gap records on an edge's disk. */
export function gapsOn(entries: readonly StoreEntry[]): Set<string> {
  const found = new Set<string>()
  for (const { key, value } of entries) {
    if (key[0] === tables.outboxBatch && value[3] === gapKind) found.add(key.toString('hex'))
  }
  return found
}

/** Ids of the attempts whose bytes lie on an edge's disk, whole. */
export function attemptsOn(entries: readonly StoreEntry[], ledger: Ledger): Set<number> {
  const found = new Set<number>()
  for (const { key, value } of entries) {
    if (key[0] !== tables.outboxBatch) continue
    try {
      const header = readBatchHeader(value)
      if (header.kind === 'gap') continue
      // A flipped bit may wait in a body until it is sent.
      checkBatchBody(value, header)
      forEachRecord(value, header, (_offset, _timestampMs, topic, payload) => { found.add(ledger.identify(payload,
        topic.device).id) })
    } catch {
      // Damaged: it is not there.
    }
  }
  return found
}
