import type { NodeName } from '@holdfast/runtime'
import { SeededRandom } from '@holdfast/runtime'
import type { LaneOptions } from '@holdfast/store'

/**
 * What may go wrong in a seed, so that each oracle can be as strict as its faults allow.
 *
 * - `honest`: crashes, power cuts, links, full and failing disks. Nothing may be missing.
 * - `bounded`: the same, with lanes that give up their oldest records. Gaps `overflow` and `expired` may stand for
 * them.
 * - `cloud-loss`: the cloud log is wiped or restored from a backup, or the cluster is another one.
 * - `edge-restore`: an edge gets an older backup of its disk.
 * - `clone`: a copied data directory runs twice for a while.
 * - `edge-damage`, `cloud-damage`: a disk drops, flips and loses what it had made durable.
 */
export const faultClasses = ['honest', 'bounded', 'cloud-loss', 'edge-restore', 'clone', 'edge-damage',
  'cloud-damage'] as const
/** Seeds of their own, with State beside the Log (`statePlanOf`); those with twins are of one more class (`twinPlanOf`). */
export const stateFaultClasses = ['state', 'state-loss'] as const
export type FaultClass = (typeof faultClasses)[number] | (typeof stateFaultClasses)[number] | 'twins'

export const faultKinds = [
  'edge-kill', 'edge-power-cut', 'edge-dies-in-code', 'edge-failpoint', 'cloud-kill', 'cloud-power-cut',
    'cloud-dies-in-code',
  'cloud-failpoint', 'all-power-cut', 'link-cut', 'link-down', 'link-flaps', 'blackhole', 'slow-link',
    'edge-write-error', 'cloud-write-error',
  'edge-disk-full', 'cloud-disk-full', 'disk-stall', 'event-loop-stall', 'clock-jump', 'lane-vanishes',
  'cloud-wiped', 'cloud-restored', 'cluster-changed', 'edge-restored', 'edge-cloned',
  'edge-commit-dropped', 'edge-tail-lost', 'edge-bit-flipped', 'edge-unreadable',
  'cloud-commit-dropped', 'cloud-tail-lost', 'cloud-bit-flipped', 'cloud-unreadable',
  'watch-broken', 'cluster-restored', 'edge-state-failpoint', 'edge-state-flipped'
] as const
export type FaultKind = (typeof faultKinds)[number]

const always: readonly [FaultKind, number][] = [
  ['edge-kill', 3], ['edge-power-cut', 3], ['edge-dies-in-code', 4], ['edge-failpoint', 4], ['cloud-kill', 2],
    ['cloud-power-cut', 2],
  ['cloud-dies-in-code', 3], ['cloud-failpoint', 3], ['all-power-cut', 1], ['link-cut', 5], ['link-down', 3],
    ['link-flaps', 2],
  ['blackhole', 3], ['slow-link', 3], ['edge-write-error', 3], ['cloud-write-error', 3], ['edge-disk-full', 2],
    ['cloud-disk-full', 1],
  ['disk-stall', 2], ['event-loop-stall', 2], ['clock-jump', 2], ['lane-vanishes', 2]
]

const special: Readonly<Record<FaultClass, readonly [FaultKind, number][]>> = {
  honest: [],
  bounded: [],
  'cloud-loss': [['cloud-wiped', 6], ['cloud-restored', 8], ['cluster-changed', 3]],
  'edge-restore': [['edge-restored', 12]],
  clone: [['edge-cloned', 8]],
  'edge-damage': [['edge-commit-dropped', 5], ['edge-tail-lost', 5], ['edge-bit-flipped', 6], ['edge-unreadable', 3]],
  'cloud-damage': [['cloud-commit-dropped', 5], ['cloud-tail-lost', 5], ['cloud-bit-flipped', 6], ['cloud-unreadable',
    3]],
  state: [['watch-broken', 8], ['cluster-restored', 5], ['edge-state-failpoint', 6], ['edge-state-flipped', 6], ['cloud-kill', 6],
    ['link-cut', 6]],
  'state-loss': [['watch-broken', 8], ['edge-state-failpoint', 6]],
  twins: [['watch-broken', 8], ['edge-state-failpoint', 5], ['cloud-kill', 5], ['link-down', 6], ['clock-jump', 8]]
}

export interface PlannedFault { readonly kind: FaultKind, readonly atMs: number }

export interface Plan {
  readonly seed: number
  readonly faultClass: FaultClass
  readonly edges: readonly { readonly name: NodeName, readonly devices: readonly { readonly device: string,
    readonly lane: string, readonly window: number }[] }[]
  readonly lanes: Readonly<Record<string, LaneOptions>>
  readonly payloadBytesMax: number
  /** How long things go wrong, milliseconds. */
  readonly chaosMs: number
  /** Records published meanwhile. */
  readonly records: number
  readonly windowBytes: number
  readonly segmentEntries: number
  readonly faults: readonly PlannedFault[]
  /** Once all is healed, everything is acknowledged within this. */
  readonly convergeMs: number
  /** Changes of State meanwhile; undefined: the seed is about the Log alone. */
  readonly stateChanges?: number
}

const classShare: readonly [FaultClass, number][] = [
  ['honest', 40], ['bounded', 14], ['cloud-loss', 12], ['edge-restore', 8], ['clone', 6], ['edge-damage', 11],
    ['cloud-damage', 9]
]

/** Everything about a seed that is decided before it runs. */
export function planOf(seed: number): Plan {
  const random = new SeededRandom(seed ^ 0x5eed)
  const faultClass = pick(classShare, random)
  const bounded = faultClass === 'bounded'
  const keepBytes = random.chance(0.5) ? 0 : 4096 * random.integer(1, 8)
  const lane = (priority: LaneOptions['priority'], overflow: LaneOptions['overflow'], bytesMax: number,
    ageMaxMs?: number): LaneOptions => ({
    priority, overflow, bytesMax, ageMaxMs, keepBytes, keepAgeMs: random.chance(0.5) ? 10_000 : 3_600_000,
    commitIntervalMs: random.chance(0.25) ? random.integer(5, 300) : 0
  })
  const dropOldest = bounded && random.chance(0.7)
  const lanes: Record<string, LaneOptions> = {
    alarms: lane('high', 'reject', 2 ** 22),
    telemetry: lane('normal', dropOldest ? 'drop-oldest' : 'reject', dropOldest ? 16_384 : random.chance(0.3) ?
      40_000 : 2 ** 24,
      bounded && (!dropOldest || random.chance(0.3)) ? random.integer(5_000, 20_000) : undefined),
    bulk: lane('low', 'reject', random.chance(0.5) ? 60_000 : 2 ** 24)
  }
  const nodes = faultClass === 'clone' || random.chance(0.5) ? 1 : random.integer(2, 3)
  const edges = Array.from({ length: nodes }, (_, node) => ({
    name: `node-${node}` as NodeName,
    devices: Array.from({ length: random.integer(2, 4) }, (_unused, device) => ({
      device: `plant/n${node}-d${device}`,
      lane: device === 0 ? 'telemetry' : pick([['telemetry', 4], ['alarms', 2], ['bulk', 3]] as const, random),
      window: random.chance(0.3) ? 1 : random.integer(2, 40)
    }))
  }))
  const chaosMs = random.integer(90_000, 240_000)
  const choices = [...always, ...special[faultClass]]
  const count = random.integer(11, 20)
  const faults: PlannedFault[] = Array.from({ length: count }, () => ({
    kind: pick(choices, random), atMs: chaosMs * (0.03 + 0.9 * random.next())
  }))
  // Whatever was drawn: some restarts of each side, and one of what the class is about.
  for (const kind of ['edge-power-cut', 'edge-dies-in-code', 'cloud-kill'] as const) {
    faults.push({ kind, atMs: chaosMs * (0.1 + 0.8 * random.next()) })
  }
  if (special[faultClass].length > 0) {
    faults.push({ kind: pick(special[faultClass], random), atMs: chaosMs * (0.3 + 0.6 * random.next()) })
  }
  return {
    seed, faultClass, edges, lanes, chaosMs, faults: faults.toSorted((a, b) => a.atMs - b.atMs),
    payloadBytesMax: random.chance(0.3) ? 35_000 : 600,
    records: random.integer(450, 800),
    windowBytes: random.chance(0.3) ? 16_384 : random.chance(0.5) ? 262_144 : 4 * 1024 * 1024,
    segmentEntries: random.integer(8, 200),
    convergeMs: faultClass === 'clone' ? 15 * 60_000 : 150_000
  }
}

/** A seed with the twins of devices: the histories of State, with other faults and other changes. */
export function twinPlanOf(seed: number): Plan {
  const random = new SeededRandom(seed ^ 0x7415)
  const plan = statePlanOf(seed)
  const choices = [...always.filter(([kind]) => kind !== 'lane-vanishes'), ...special.twins]
  const faults: PlannedFault[] = Array.from({ length: random.integer(6, 16) }, () => ({
    kind: pick(choices, random), atMs: plan.chaosMs * (0.03 + 0.9 * random.next())
  }))
  // Of its own: what it takes away, the other oracles cannot ask for.
  if (random.chance(0.2)) faults.push({ kind: 'cluster-restored', atMs: plan.chaosMs * (0.2 + 0.5 * random.next()) })
  else if (new SeededRandom(seed ^ 0xbac4).chance(0.25)) faults.push({ kind: 'edge-restored', atMs: plan.chaosMs * (0.1 + 0.5 * random.next()) })
  return {
    ...plan, faultClass: 'twins', faults: faults.toSorted((a, b) => a.atMs - b.atMs), records: 20, stateChanges: random.integer(100, 300)
  }
}

/** The plan of a seed of a class; undefined: of whichever class the seed is in the Log's own plans. */
export function planOfClass(seed: number, faultClass: string | undefined): Plan {
  return faultClass === 'twins' ? twinPlanOf(seed) : faultClass?.startsWith('state') === true ? statePlanOf(seed) : planOf(seed)
}

/** The same for a seed with State: a shorter history, less of the Log, and what goes wrong with State. */
export function statePlanOf(seed: number): Plan {
  const random = new SeededRandom(seed ^ 0x57a7e)
  const faultClass = pick([['state', 3], ['state-loss', 1]] as const, random)
  const { lanes, windowBytes, segmentEntries } = planOf(seed)
  const chaosMs = random.integer(40_000, 120_000)
  const lane: LaneOptions = { ...lanes['telemetry']!, overflow: 'reject', bytesMax: 2 ** 24, ageMaxMs: undefined }
  const choices = [...always.filter(([kind]) => kind !== 'lane-vanishes'), ...special[faultClass]]
  const faults: PlannedFault[] = Array.from({ length: random.integer(6, 14) }, () => ({
    kind: pick(choices, random), atMs: chaosMs * (0.03 + 0.9 * random.next())
  }))
  faults.push({ kind: 'cloud-kill', atMs: chaosMs * (0.2 + 0.7 * random.next()) })
  // One kind of loss a seed: what several together may take from the Log is the business of the seeds about the Log.
  const loss = pick([['edge-restored', 3], ['cluster-changed', 2], ['edge-unreadable', 1]] as const, random)
  if (faultClass === 'state-loss') faults.push({ kind: loss, atMs: chaosMs * (0.2 + 0.5 * random.next()) })
  return {
    seed, faultClass, chaosMs, lanes: { telemetry: lane }, windowBytes, segmentEntries,
    edges: Array.from({ length: random.integer(1, 2) }, (_, node) => ({
      name: `node-${node}` as NodeName, devices: [{ device: `plant/n${node}-d0`, lane: 'telemetry', window: random.integer(1, 20) }]
    })),
    faults: faults.toSorted((a, b) => a.atMs - b.atMs),
    payloadBytesMax: 600,
    records: random.integer(40, 120),
    convergeMs: 200_000,
    stateChanges: random.integer(80, 240)
  }
}

export function pick<T>(choices: readonly (readonly [T, number])[], random: SeededRandom): T {
  let sum = 0
  for (const [, weight] of choices) sum += weight
  let at = random.next() * sum
  for (const [choice, weight] of choices) {
    at -= weight
    if (at < 0) return choice
  }
  return choices.at(-1)![0]
}
