import type { Epoch, GapReason } from '@holdfast/protos'
import type { Attempt } from './ledger.ts'
import type { FaultClass } from './plan.ts'
import type { LogEntry } from './reader.ts'
import type { Simulation } from './simulation.ts'

/** Reasons for which acknowledged records may be missing, by what went wrong. */
const gapsAllowed: Readonly<Record<FaultClass, readonly GapReason[]>> = {
  honest: [],
  bounded: ['overflow', 'expired'],
  'cloud-loss': ['cloud-lost', 'cloud-log-new'],
  'edge-restore': [],
  clone: [],
  // Where the acknowledged offset is lost along with the first batches, the cloud is who notices.
  'edge-damage': ['corrupt', 'cloud-lost'],
  'cloud-damage': ['cloud-corrupt', 'cloud-lost', 'cloud-log-new'],
  state: [],
  twins: [],
  'state-loss': ['corrupt', 'cloud-lost', 'cloud-log-new']
}

/**
 * The oracles over the whole cloud log, in commit order (fault matrix O1–O4).
 *
 * - each stream's offsets are dense, and each is there once;
 * - each append of a record is there once at most, and its bytes are those that were sent;
 * - records of a device are in the order of their appends;
 * - each acknowledged one is there, or a gap stands in its place whose reason the faults allow.
 */
export function checkLog(simulation: Simulation, entries: readonly LogEntry[]): { repeated: number, gaps: number } {
  const { world, ledger, plan } = simulation
  const streams = new Map<string, { next: number, start: number }>()
  const seen = new Map<Attempt, LogEntry>()
  const newest = new Map<string, Attempt>()
  const gaps = new Map<string, LogEntry[]>()
  /** A damaged log notes what it lost behind what it had: the gap for a hole comes later. */
  const holes: { readonly entry: LogEntry, readonly first: number, readonly end: number }[] = []
  const allowed = gapsAllowed[plan.faultClass]
  const describe = (entry: LogEntry): string =>
    `${entry.node}/${entry.lane} ${entry.epoch} [${entry.base}, ${entry.next})`
  for (const entry of entries) {
    const { epoch, base, next, gap } = entry
    // A lane whose name was lost with most of its disk is sent under its number, and perhaps not for the first time.
    const nameless = entry.lane.startsWith('lane-')
    const streamName = nameless ? `${entry.node}/${entry.lane}/${epoch}` : epoch
    const stream = streams.get(streamName)
    const ofCloud = gap?.reason === 'cloud-corrupt'
    if (stream === undefined) streams.set(streamName, { next, start: base })
    else if (base === stream.next) stream.next = next
    else if (base > stream.next) {
      holes.push({ entry, first: stream.next, end: base })
      stream.next = next
    } else world.expect(ofCloud && next <= stream.next, () => `${describe(entry)}: not dense, ${stream.next} is next`)
    if (gap !== undefined) {
      world.expect(allowed.includes(gap.reason),
        () => `${describe(entry)}: a gap ${gap.reason} in class ${plan.faultClass}`)
      if (gap.reason === 'overflow' || gap.reason === 'expired') {
        world.expect(gap.records === next - base, () => `${describe(entry)}: a gap of ${gap.records} records`)
      }
      const key = `${entry.node}/${entry.lane}`
      const list = gaps.get(key)
      if (list === undefined) gaps.set(key, [entry])
      else list.push(entry)
      continue
    }
    world.expect(entry.attempts.length === next - base, () => `${describe(entry)}: ${entry.attempts.length} records`)
    for (const [i, attempt] of entry.attempts.entries()) {
      if (nameless) {
        if (!seen.has(attempt)) seen.set(attempt, entry)
        continue
      }
      const before = seen.get(attempt)?.lane.startsWith('lane-') === true ? undefined : seen.get(attempt)
      world.expect(before === undefined,
        () => `attempt ${attempt.id} of ${attempt.device} is there twice: ${describe(before!)} and ${describe(entry)}`)
      seen.set(attempt, entry)
      world.expect(entry.lane === attempt.lane && entry.node === attempt.edge.options.name, () =>
        `attempt ${attempt.id} of ${attempt.edge.name}/${attempt.lane} is in ${describe(entry)}`)
      world.expect(attempt.offset === undefined || attempt.offset === base + i, () =>
        `attempt ${attempt.id} was durable at offset ${attempt.offset}, it is at ${base + i} of ${describe(entry)}`)
      // A damaged cloud log that misses the end of an epoch gets it again, behind the epoch that followed.
      const line = plan.faultClass === 'cloud-damage' ? `${attempt.device} ${epoch}` : attempt.device
      const device = newest.get(line)
      // A second backup may bring back what the first one had replaced, behind what came meanwhile.
      world.expect(device === undefined || device.id < attempt.id || attempt.excused !== undefined, () =>
        `${attempt.device}: attempt ${attempt.id} comes after ${device!.id}, in ${describe(entry)}`)
      newest.set(line, attempt)
    }
  }
  // Of a salvaged cloud log nobody knows where its epochs began and ended: what is missing there need not show.
  const lossMayHide = simulation.cloud.salvaged
  for (const { entry, first, end } of lossMayHide ? [] : holes) {
    const repairs = entries.filter(({ epoch, lane, gap }) => epoch === entry.epoch && entry.lane === lane &&
      gap?.reason === 'cloud-corrupt')
    for (let offset = first; offset < end; offset++) {
      world.expect(repairs.some(({ base, next }) => base <= offset && offset < next), () =>
        `${describe(entry)}: not dense, ${first} is next, and no gap says where ${offset} is`)
    }
  }
  checkStarts(simulation, streams)
  let repeated = 0
  const delivered = new Set<string>()
  for (const attempt of ledger.attempts) {
    const name = `${attempt.device} ${attempt.seq}`
    if (seen.has(attempt)) {
      if (delivered.has(name)) repeated++
      delivered.add(name)
      continue
    }
    if (!attempt.acknowledged || attempt.excused !== undefined || lossMayHide) continue
    const covering = gaps.get(`${attempt.edge.options.name}/${attempt.lane}`)?.find(gap => covers(gap, attempt))
    world.expect(covering !== undefined, () =>
      `LOST: attempt ${attempt.id} (${attempt.device} ${attempt.seq}), acknowledged at ` +
      `${attempt.edge.name}/${attempt.lane} offset ${attempt.offset}; the log has ` +
      entries.filter(({ node, lane }) => node === attempt.edge.options.name && lane === attempt.lane)
        .map(({ epoch, base, next, gap }) =>
          `${epoch.slice(0, 4)}[${base}, ${next})${gap === undefined ? '' : ` ${gap.reason} ${gap.records}`}`).join(', '))
  }
  let gapCount = 0
  for (const list of gaps.values()) gapCount += list.length
  return { repeated, gaps: gapCount }
}

/** A gap that does not know how many records it stands for ends what was there: it covers a tail. */
function covers({ base, next, gap }: LogEntry, { offset }: Attempt): boolean {
  return offset !== undefined && base <= offset && (offset < next || gap!.records === 0)
}

/** While no fault took anything away, every stream is there from its epoch's start to where the edge says it ends. */
function checkStarts({ world, edges, cloud }: Simulation, streams: ReadonlyMap<Epoch | string, { next: number,
  start: number }>): void {
  for (const edge of edges) {
    if (!edge.honest || !cloud.honest) continue
    for (const lane of edge.running!.outbox.lanes) {
      for (const entry of lane.epochs) {
        const end = lane.epochEnd(entry)
        const stream = streams.get(entry.epoch)
        if (end === entry.start) {
          world.expect(stream === undefined,
            () => `${edge.name}/${lane.name}: epoch ${entry.epoch} is empty here, not in the cloud`)
          continue
        }
        world.expect(stream?.start === entry.start && stream.next === end, () =>
          `${edge.name}/${lane.name}: epoch ${entry.epoch} is [${entry.start}, ${end}), ` +
          `in the cloud [${stream?.start}, ${stream?.next})`)
      }
    }
  }
}
