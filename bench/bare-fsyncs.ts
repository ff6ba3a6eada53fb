import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LatencyHistogram, type LatencySummary } from '../test/harness/latency-histogram.ts'

/** What the disk under the daemons' folders does with nobody else: an append of 600 bytes and its fdatasync, every ms. */
export function bareFsyncs(seconds: number): LatencySummary {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-disk-'))
  const file = openSync(join(folder, 'appended'), 'w')
  const bytes = Buffer.alloc(600, 1)
  const latency = new LatencyHistogram()
  const turn = new Int32Array(new SharedArrayBuffer(4))
  const endMs = performance.now() + seconds * 1000
  try {
    for (;;) {
      const startMs = performance.now()
      if (startMs >= endMs) return latency.summary()
      writeSync(file, bytes)
      fdatasyncSync(file)
      latency.record((performance.now() - startMs) * 1000)
      Atomics.wait(turn, 0, 0, 1)
    }
  } finally {
    closeSync(file)
    rmSync(folder, { recursive: true })
  }
}
