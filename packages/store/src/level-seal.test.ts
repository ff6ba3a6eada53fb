import { mkdtemp, readdir, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { SystemClock, silentLog } from '@holdfast/runtime'
import { levelStoreOpener } from './level-store.ts'
import type { Store, StoreOpener } from './store.ts'

let folder = ''
let opener: StoreOpener

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-seal-'))
  opener = levelStoreOpener({ path: join(folder, 'db'), quarantineDir: join(folder, 'quarantine') }, { log: silentLog, clock: new SystemClock() })
})
afterEach(async () => { await rm(folder, { recursive: true, force: true }) })

const put = (store: Store, key: string): Promise<void> => new Promise((resolve, reject) => {
  store.write([{ type: 'put', key: Buffer.from(key), value: Buffer.alloc(100, key) }], { sync: true },
    error => { if (error === undefined) resolve(); else reject(error) })
})
const log = async (): Promise<string> => join(folder, 'db', (await readdir(join(folder, 'db'))).find(name => name.endsWith('.log'))!)

describe('the seal of a closed LevelDB', () => {
  it('is whole after a close, however often', async () => {
    for (let i = 0; i < 3; i++) {
      expect(await opener.suspect()).toBe(false)
      const store = await opener.open()
      await put(store, `key ${i}`)
      await store.close()
    }
    expect(await opener.suspect()).toBe(false)
  })

  it('shows a log that was cut between two records, emptied or removed', async () => {
    for (const harm of [(path: string) => truncate(path, 0), (path: string) => truncate(path, 50), (path: string) => rm(path)]) {
      const store = await opener.open()
      await put(store, 'key')
      await store.close()
      await harm(await log())
      expect(await opener.suspect()).toBe(true)
    }
  })

  it('is not there while the store is open: what a crash cuts off was not acknowledged', async () => {
    await (await opener.open()).close()
    const store = await opener.open()
    await put(store, 'key')
    await truncate(await log(), 50)
    expect(await opener.suspect()).toBe(false)
    await store.close()
  })
})
