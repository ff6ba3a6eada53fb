import { throughput } from './a-throughput.ts'
import { latency } from './b-latency.ts'
import type { BenchRow } from './bench-row.ts'
import { singleCommits } from './c2-single-commits.ts'
import { outageRow } from './c-outage.ts'
import { memory } from './d-memory.ts'
import { wireBytes } from './e-wire-bytes.ts'
import { generatorCeiling } from './generator-ceiling.ts'
import { twins } from './f-twins.ts'
import { kill } from './h-kill.ts'
import { diskBytes } from './i-disk-bytes.ts'
import { stuckSubscriber } from './j-stuck-subscriber.ts'
import { watchFanOut } from './k-watch-fanout.ts'
import { edgeObjects } from './l-edge-objects.ts'

/** Every question that is asked, in the order of the page. */
export const benchRows: readonly BenchRow[] = [
  generatorCeiling, throughput, latency, outageRow, singleCommits, memory, wireBytes, twins, kill, diskBytes, stuckSubscriber,
  watchFanOut, edgeObjects
]
