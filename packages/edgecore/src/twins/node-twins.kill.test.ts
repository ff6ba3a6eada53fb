import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readBatchHeader, readRecords } from '@holdfast/protos'
import { SystemClock } from '@holdfast/runtime'
import { LevelStore } from '@holdfast/store'
import { expect, onTestFinished, test } from 'vitest'
import type { DeviceId } from './device-twins.ts'
import { decodeUpTwin } from './twin-format.ts'
import { openTwins, valuesOf } from './testing/twin-harness.ts'

/** For machines that have much else to do. */
const patiently = { timeout: 15_000 }

async function newFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-twins-kill-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return join(folder, 'db')
}

/** Resolves with the number of the last report that was acknowledged before the process was killed. */
function killedAt(path: string, failpoint: string, count: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(import.meta.dirname, '../testing/report-process.ts'), path, failpoint, String(count)])
    let [printed, errors] = ['', '']
    child.stdout.on('data', (chunk: Buffer) => { printed += chunk.toString() })
    child.stderr.on('data', (chunk: Buffer) => { errors += chunk.toString() })
    child.on('error', reject)
    child.on('close', (_code, signal) => {
      if (signal === 'SIGKILL') resolve(Number(printed.trim().split('\n').at(-1)))
      else reject(new Error(`ended with ${signal}: ${errors}`))
    })
  })
}

test.each([['commit:before-write', 3], ['commit:before-write', 8], ['commit:after-write', 3], ['commit:after-write', 8]])(
  'L1: killed at %s, the %s-th time: twin, history and what goes up are of one report', async (failpoint, count) => {
    const path = await newFolder()
    const acknowledged = await killedAt(path, failpoint, count)
    const store = await LevelStore.open({ path })
    onTestFinished(() => store.close())
    await using harness = await openTwins(store, { clock: new SystemClock(), seed: 3 })
    const { twins, outbox, table, committer } = harness
    const stored = (twins.get('default/a' as DeviceId)!.twin.reported.get('n')?.value ?? 0) as number
    expect(stored).toBeGreaterThanOrEqual(acknowledged)
    expect(stored).toBeLessThanOrEqual(acknowledged + 1)
    for (const id of ['default/a', 'default/b'] as DeviceId[]) {
      expect(valuesOf(twins, id, 'desired')).toEqual({ n: 'on' })
      expect(valuesOf(twins, id, 'reported')).toEqual({ n: stored })
    }
    const batches = await outbox.scan(outbox.lane('telemetry')!, 0, 1 << 20)
    const numbers = batches.flatMap(({ bytes }) => readRecords(bytes, readBatchHeader(bytes))).map(({ device, payload }) =>
      [device, (JSON.parse(Buffer.from(payload).toString()) as { data: { n: { value: string } } }).data.n.value])
    expect(numbers).toEqual(Array.from({ length: stored }, (_, n) => [['default/a', String(n + 1)], ['default/b', String(n + 1)]]).flat())
    await expect.poll(() => twins.reports.pending, patiently).toBe(0)
    await committer.flush()
    expect(decodeUpTwin(table.upItem('twins', 'default/b')!.value)!.twin.reported.get('n')?.value).toBe(stored)
    expect(twins.stats.damagedTwins).toBe(0)
  }, 60_000)
