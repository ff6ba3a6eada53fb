import { spawn } from 'node:child_process'
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LevelStore, tables } from '@holdfast/store'
import { expect, onTestFinished, test } from 'vitest'
import { apply, batchOf, openTable, sentObject } from './testing/object-harness.ts'

async function newFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-objects-kill-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return join(folder, 'db')
}

/** Resolves with the last line that the process printed before it was killed. */
function killedAt(path: string, failpoint: string, count: number): Promise<{ applied: number, sequence: number, signal: string | null }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(import.meta.dirname, '../testing/apply-process.ts'), path, failpoint, String(count)])
    let [printed, errors] = ['', '']
    child.stdout.on('data', (chunk: Buffer) => { printed += chunk.toString() })
    child.stderr.on('data', (chunk: Buffer) => { errors += chunk.toString() })
    child.on('error', reject)
    child.on('close', (_code, signal) => {
      if (signal !== 'SIGKILL') {
        reject(new Error(`ended with ${signal}: ${errors}`))
        return
      }
      const [applied = 0, sequence = 1] = printed.trim().split('\n').at(-1)!.split(' ').map(Number)
      resolve({ applied, sequence, signal })
    })
  })
}

test.each([['commit:before-write', 1], ['commit:before-write', 7], ['commit:after-write', 1], ['commit:after-write', 7]])(
  'killed at %s, the %s-th time: a batch is there as a whole or not at all', async (failpoint, count) => {
    const path = await newFolder()
    const { applied, sequence } = await killedAt(path, failpoint, count)
    expect(applied).toBe(count - 1)
    const store = await LevelStore.open({ path })
    const { table, committer } = await openTable(store)
    const stored = failpoint === 'commit:after-write' ? count : count - 1
    const keys = stored === 0 ? [] : Array.from({ length: 5 }, (_, i) => `round-${stored}/${i}`)
    expect([...table.heads('pods')].map(([key]) => key)).toEqual(keys)
    for (const key of keys) expect((await table.read('pods', key))?.value.toString()).toContain(`"hostname":"${stored}"`)
    expect([...table.up.keysFrom('pod-status', '')].map(([key]) => key)).toEqual(keys)
    expect(table.namespaces().map(([name]) => name)).toEqual(stored === 0 ? [] : [`round-${stored}`])
    expect(table.down.position('pods')).toBe(stored === 0 ? '' : `p${stored}`)
    expect(table.sequence).toBeGreaterThanOrEqual(sequence)
    expect(table.stats.damagedItems).toBe(0)
    await committer.close()
    await store.close()
  })

test('a bit flipped in a table of LevelDB is found, and only its object is dropped', async () => {
  const path = await newFolder()
  const keys = Array.from({ length: 20 }, (_, i) => `default/map-${String(i).padStart(2, '0')}`)
  const first = await LevelStore.open({ path })
  const before = await openTable(first)
  await apply(before.table.down, batchOf('configmaps', Object.fromEntries(keys.map(key =>
    [key, sentObject('configmaps', key, { data: { mark: `mark of ${key}` } })]))))
  const sound = await before.table.down.digest('configmaps')
  await before.committer.close()
  // What a start finds in the log goes into a table.
  await first.close()
  const second = await LevelStore.open({ path })
  await second.compact(Buffer.from([tables.objectHead]), Buffer.from([tables.objectNamespace + 1]))
  await second.close()
  let flips = 0
  for (const name of (await readdir(path)).filter(file => file.endsWith('.ldb'))) {
    const file = join(path, name)
    const bytes = await readFile(file)
    const at = bytes.indexOf('mark of default/map-07')
    if (at === -1) continue
    bytes[at]! ^= 1
    await writeFile(file, bytes)
    flips++
  }
  expect(flips).toBeGreaterThan(0)
  const store = await LevelStore.open({ path })
  const { table, committer } = await openTable(store)
  expect([...table.heads('configmaps')].map(([key]) => key)).toEqual(keys.filter(key => key !== 'default/map-07'))
  expect(table.stats.damagedItems).toBe(1)
  expect(await table.down.digest('configmaps')).not.toEqual(sound)
  await committer.close()
  await store.close()
})
