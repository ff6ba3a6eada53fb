import { execFile } from 'node:child_process'
import { copyFile, mkdtemp, mkdir, readFile, readdir, rename, rm, truncate, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { HoldfastError, silentLog, SystemClock } from '@holdfast/runtime'
import type { Clock, Log } from '@holdfast/runtime'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { LevelStore, levelStoreOpener, salvageStore } from './level-store.ts'
import type { FillStore, StoreOpener } from './store.ts'
import { collected, storeSuite, written } from './testing/store-suite.ts'

storeSuite('LevelStore', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'level-store-'))
  return {
    open: () => LevelStore.open({ path: join(folder, 'db') }),
    dispose: () => rm(folder, { recursive: true, force: true })
  }
}, { endures: true, crashes: false, fails: false })

/** A value that tells of its key, so that a wrong one is seen. */
function valueOf(n: number): Buffer { return Buffer.alloc(200, `value of ${n};`) }

function keyOf(n: number): Buffer { return Buffer.from(`key${String(n).padStart(6, '0')}`) }

describe('a LevelStore and its opener', () => {
  let folder: string
  let path: string
  let quarantineDir: string
  let opener: StoreOpener
  const damages: unknown[] = []
  const log: Log = { ...silentLog, warn: (message: string, fields?: object) => { damages.push({ message, ...fields }) } }
  const clock: Clock = Object.assign(new SystemClock(), { wallMs: () => 1_925_093_106_000 })

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'level-store-'))
    path = join(folder, 'db')
    quarantineDir = join(folder, 'quarantine')
    damages.length = 0
    opener = levelStoreOpener({ path, quarantineDir, writeBufferBytes: 64 * 1024 }, { log, clock })
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  /** Keys 0 up to `count`, in commits of ten: with 64 KiB of write buffer, most in tables and the rest in the log. */
  async function fill(count: number): Promise<void> {
    const store = await opener.open()
    for (let n = 0; n < count; n += 10) {
      const numbers = Array.from({ length: 10 }, (_, i) => n + i)
      await written(store, numbers.map(i => ({ type: 'put', key: keyOf(i), value: valueOf(i) })))
    }
    // Closed earlier, LevelDB may leave what it was about to write into a table in a second log.
    await vi.waitUntil(async () => (await filesOf(path, '.log')).length === 1, { timeout: 10_000 })
    await store.close()
  }

  async function filesOf(place: string, suffix: string): Promise<string[]> {
    return (await readdir(place)).filter(name => name.endsWith(suffix)).map(name => join(place, name))
  }

  /** The files as they are at one moment: again where some came or went meanwhile, as when a table takes the place of a log. */
  async function copyFiles(copy: string): Promise<void> {
    // CURRENT first: the files that it leads to may have successors, but are deleted only later.
    const list = async (): Promise<string[]> => (await readdir(path)).toSorted(currentFirst)
    for (;;) {
      const names = await list()
      await mkdir(copy)
      for (const name of names) if (name !== 'LOCK') await copyFile(join(path, name), join(copy, name)).catch(() => {})
      if ((await list()).join() === names.join()) return
      await rm(copy, { recursive: true })
    }
  }

  async function flipBit(file: string, at: number): Promise<void> {
    const bytes = await readFile(file)
    bytes[at]! ^= 0x10
    await writeFile(file, bytes)
  }

  /** Puts an empty store in the place of the one that is there. */
  function quarantine(): Promise<string> { return opener.rebuild(async () => {}) }

  /** The numbers of the keys that were salvaged, each with its right value. */
  async function salvaged(place: string): Promise<Set<number>> {
    const numbers = new Set<number>()
    for await (const { key, value } of salvageStore(place, log)) {
      const n = Number(key.toString().slice(3))
      expect(key).toEqual(keyOf(n))
      expect(value.equals(valueOf(n)), `value of ${n}`).toBe(true)
      expect(numbers.has(n), `${n} came twice`).toBe(false)
      numbers.add(n)
    }
    return numbers
  }

  it('moves a store to the quarantine, under a name of its own each time', async () => {
    await fill(100)
    const first = await quarantine()
    expect(first).toBe(join(quarantineDir, '1925093106000-0'))
    await fill(10)
    const second = await quarantine()
    expect(second).toBe(join(quarantineDir, '1925093106000-1'))
    expect((await salvaged(first)).size).toBe(100)
    expect((await salvaged(second)).size).toBe(10)
    expect(damages).toEqual([expect.objectContaining({ place: first }), expect.objectContaining({ place: second })])
    await rm(path, { recursive: true })
    await expect(quarantine()).rejects.toMatchObject({ code: 'STORE_FAILED' })
    expect(await readdir(quarantineDir)).toHaveLength(2)
  })

  describe('rebuilding', () => {
    /** Takes everything over, key by key; rejects before the one that `stopAt` names. */
    const takeOver = (stopAt = Infinity): FillStore => async (entries, store) => {
      let n = 0
      for await (const { key, value } of entries) {
        if (n++ === stopAt) throw new HoldfastError('STORE_FAILED', 'ENOSPC')
        await written(store, [{ type: 'put', key, value }])
      }
    }
    const keysIn = async (): Promise<number> => {
      const store = await opener.open()
      const page = await store.scan({ gte: Buffer.of(0), lt: Buffer.of(0xff), values: false })
      await store.close()
      return page.length
    }

    it('that is cut short leaves nothing half done: the store is corrupt until it has been through', async () => {
      await fill(100)
      await expect(opener.rebuild(takeOver(40))).rejects.toMatchObject({ code: 'STORE_FAILED' })
      // As a start does: it must not take the forty for the store, or set them aside.
      for (let start = 0; start < 2; start++) await expect(opener.open()).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
      await expect(opener.rebuild(takeOver(70))).rejects.toMatchObject({ code: 'STORE_FAILED' })
      const place = await opener.rebuild(takeOver())
      expect(await keysIn()).toBe(100)
      expect((await salvaged(place)).size).toBe(100)
      expect(await readdir(quarantineDir)).toEqual(['1925093106000-0'])
      expect((await readdir(folder)).toSorted()).toEqual(['db', 'quarantine'])
    })

    it('is left alone by a second process', async () => {
      await fill(100)
      const second = levelStoreOpener({ path, quarantineDir }, { log: silentLog, clock })
      await opener.rebuild(async (entries, store) => {
        await expect(second.open()).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
        await expect(second.rebuild(takeOver())).rejects.toMatchObject({ code: 'STORE_LOCKED' })
        await takeOver()(entries, store)
      })
      expect(await keysIn()).toBe(100)
    })

    it('counts from the renaming on: what is left to tidy up behind it is tidied at the next opening', async () => {
      await fill(100)
      const place = await opener.rebuild(takeOver())
      await rename(place, `${place}.unfinished`)
      expect(await keysIn()).toBe(100)
      expect(await readdir(quarantineDir)).toEqual(['1925093106000-0'])
    })

    it('makes the store suspect until it is trusted, over restarts', async () => {
      await fill(100)
      expect(await opener.suspect()).toBe(false)
      await opener.rebuild(takeOver())
      for (let start = 0; start < 3; start++) {
        expect(await opener.suspect()).toBe(true)
        expect(await keysIn()).toBe(100)
      }
      await opener.trust()
      expect(await opener.suspect()).toBe(false)
      expect(await keysIn()).toBe(100)
    })
  })

  it('stays suspect until it is trusted, though an opening takes the traces of the damage away', async () => {
    await fill(10)
    const [logFile] = await filesOf(path, '.log')
    await flipBit(logFile!, 100)
    for (let start = 0; start < 3; start++) {
      expect(await opener.suspect()).toBe(true)
      await (await opener.open()).close()
    }
    await opener.trust()
    expect(await opener.suspect()).toBe(false)
  })

  it('salvages from logs and tables the newest version of every key, and leaves the place as it was', async () => {
    await fill(2000)
    const store = await opener.open()
    await written(store, [{ type: 'del', key: keyOf(5) }, { type: 'put', key: keyOf(6), value: Buffer.from('newest') }])
    await written(store, [{ type: 'put', key: keyOf(7), value: Buffer.alloc(100_000, 'x') }])
    await store.close()
    const place = await quarantine()
    expect((await filesOf(place, '.ldb')).length).toBeGreaterThan(1)
    const before = await readdir(place)
    const entries = new Map<string, Buffer>()
    for await (const { key, value } of salvageStore(place, log)) entries.set(key.toString(), value)
    expect(entries.size).toBe(1999)
    expect(entries.has(String(keyOf(5)))).toBe(false)
    expect(entries.get(String(keyOf(6)))?.toString()).toBe('newest')
    expect(entries.get(String(keyOf(7)))?.length).toBe(100_000)
    expect(entries.get(String(keyOf(8)))).toEqual(valueOf(8))
    expect(await readdir(place)).toEqual(before)
  })

  it('salvages what lies before the cut of a truncated log', async () => {
    await fill(100)
    const place = await quarantine()
    const [log] = await filesOf(place, '.log')
    await truncate(log!, 12_000)
    const numbers = await salvaged(place)
    expect(numbers.size).toBe(50)
    expect(numbers.has(0) && numbers.has(49)).toBe(true)
  })

  it('salvages all but one commit of a log with a flipped bit, wherever it is', async () => {
    await fill(200)
    const place = await quarantine()
    const [log] = await filesOf(place, '.log')
    const original = await readFile(log!)
    for (const at of [0, 3, 6, 9, 20, 500, 2300, 11_111, 33_000, original.length - 1]) {
      await flipBit(log!, at)
      const numbers = await salvaged(place)
      expect(numbers.size, `bit at ${at}`).toBe(190)
      await writeFile(log!, original)
    }
    // A flipped length: what follows cannot be found before the next block of 32 KiB.
    await flipBit(log!, 5)
    expect((await salvaged(place)).size).toBeGreaterThanOrEqual(40)
    expect(damages.at(-1)).toMatchObject({ message: 'salvage left out damaged parts', place })
  })

  it('salvages all but a block of a table with a flipped bit, also when it hits index or footer', { timeout: 60_000 }, async () => {
    await fill(1000)
    const place = await quarantine()
    const whole = await salvaged(place)
    expect(whole.size).toBe(1000)
    for (const table of (await filesOf(place, '.ldb')).slice(0, 3)) {
      const original = await readFile(table)
      const { length } = original
      const spots = [0, 1, 2, 5000, length >> 1, length - 60, length - 45, length - 4]
      for (const at of spots) {
        await flipBit(table, at)
        expect((await salvaged(place)).size, `bit at ${at} of ${length}`).toBeGreaterThanOrEqual(979)
        await writeFile(table, original)
      }
      for (const at of spots) await flipBit(table, at)
      // All the flips together: without an index, what lies behind a damaged block cannot be found.
      const rest = await salvaged(place)
      expect([...rest].every(n => whole.has(n))).toBe(true)
      await writeFile(table, original)
    }
  })

  it('salvages the blocks before the cut of a truncated table', async () => {
    await fill(400)
    const place = await quarantine()
    const [table] = await filesOf(place, '.ldb')
    const { length } = await readFile(table!)
    expect(length).toBeGreaterThan(50_000)
    await truncate(table!, length - 20_000)
    const rest = (await salvaged(place)).size
    expect(rest).toBeGreaterThan(280)
    expect(rest).toBeLessThan(320)
    await truncate(table!, 0)
    expect((await salvaged(place)).size).toBeLessThan(200)
  })

  it('survives noise of any kind in a place that it salvages', async () => {
    await fill(300)
    const place = await quarantine()
    const files = [...await filesOf(place, '.ldb'), ...await filesOf(place, '.log')]
    for (const file of files) {
      const original = await readFile(file)
      for (let round = 0; round < 40; round++) {
        const noisy = Buffer.from(original)
        for (let n = 0; n <= round; n++) {
          noisy[(n * 7919 + round * 104_729) % noisy.length] = (n * 31 + round * 17) & 0xff
        }
        await writeFile(file, noisy)
        await salvaged(place)
      }
      await writeFile(file, original)
    }
    await mkdir(join(place, '000999.ldb'))
    await writeFile(join(place, '000998.ldb'), Buffer.alloc(10))
    await writeFile(join(place, '000997.log'), Buffer.alloc(40_000, 1))
    expect((await salvaged(place)).size).toBe(300)
    await expect(collected(salvageStore(join(folder, 'nowhere'), log))).rejects.toMatchObject({ code: 'STORE_FAILED' })
  })

  it.each([
    ['CURRENT is missing', async (db: string) => unlink(join(db, 'CURRENT'))],
    ['CURRENT is empty', async (db: string) => truncate(join(db, 'CURRENT'))],
    ...[0, 4, 10, 15].map(at =>
      [`a bit of CURRENT is flipped, at ${at}`, async (db: string) => flipBit(join(db, 'CURRENT'), at)] as const),
    ['the manifest is empty', async (db: string) => truncate(await manifestOf(db))],
    ['the manifest is missing', async (db: string) => unlink(await manifestOf(db))],
    ['a bit of the manifest is flipped', async (db: string) => flipBit(await manifestOf(db), 20)],
    ['a table is missing', async (db: string) => unlink((await filesOf(db, '.ldb'))[0]!)]
  ] as const)('is corrupt, not emptied, where %s (L11)', async (_what, damage) => {
    await fill(1000)
    await damage(path)
    await expect(opener.open()).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
    await expect(opener.open()).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
    const place = await quarantine()
    expect((await salvaged(place)).size).toBeGreaterThan(700)
    const fresh = await opener.open()
    expect(await fresh.scan({ gte: Buffer.of(0), lt: Buffer.of(0xff) })).toEqual([])
    await fresh.close()
  })

  describe('damage on which LevelDB aborts the process', { timeout: 60_000 }, () => {
    const program = fileURLToPath(new URL('testing/open-process.ts', import.meta.url))

    /** A process of its own opens the store: how far it came, and the signal or the error that ended it. */
    async function opened(): Promise<string> {
      const { promise, resolve } = Promise.withResolvers<string>()
      execFile(process.execPath, [program, folder], (error, stdout, stderr) => {
        resolve(`${stdout.replaceAll('\n', ' ')}${error?.signal ?? /STORE_\w+/.exec(stderr)?.[0]}`)
      })
      return await promise
    }

    const anew = (): StoreOpener => levelStoreOpener({ path, quarantineDir }, { log, clock })

    /** Changes one byte of a table's first block, whose entries begin: shared bytes of the key, own ones, value's, key. */
    async function change(at: number, byte: number): Promise<void> {
      const table = (await filesOf(path, '.ldb'))[0]!
      const bytes = await readFile(table)
      bytes[at] = byte
      await writeFile(table, bytes)
    }

    it('is met once: the next opening verifies the tables and finds it', async () => {
      await fill(1000)
      await change(1, 3)
      expect(await opened()).toBe('SIGABRT')
      await expect(anew().open()).rejects.toMatchObject({
        code: 'STORE_CORRUPT', message: expect.stringMatching(/\d+\.ldb: block at 0 /) as string
      })
      expect((await salvaged(await quarantine())).size).toBeGreaterThan(970)
    })

    it('is met three times where reading passes it by and only a compaction does not', async () => {
      await fill(1000)
      // The first key comes behind the second now.
      await change(4, 'z'.charCodeAt(0))
      for (let n = 0; n < 3; n++) expect(await opened()).toBe('trusted SIGABRT')
      await expect(anew().open()).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
    })

    it('is not looked for behind fewer kills, nor behind a close', async () => {
      await fill(1000)
      const verified = (): boolean => damages.some(damage => (damage as { message: string }).message.includes('verified'))
      for (let n = 0; n < 2; n++) expect(await opened()).toBe('trusted compacted SIGKILL')
      const store = await anew().open()
      expect(verified()).toBe(false)
      await store.close()
      for (let n = 0; n < 3; n++) expect(await opened()).toBe('trusted compacted SIGKILL')
      // What a kill leaves of a table that was being written.
      await writeFile(join(path, '009999.ldb'), Buffer.alloc(10_000, 7))
      await (await anew().open()).close()
      expect(verified()).toBe(true)
      expect(await readdir(path)).not.toContain('OPENINGS')
    })

    it('is looked for in a copy, too, that came without the lock', async () => {
      await fill(1000)
      await rm(join(path, 'LOCK'))
      await writeFile(join(path, 'OPENINGS'), 'holdfast-1 1 opening\n')
      await (await anew().open()).close()
      expect(damages.some(damage => (damage as { message: string }).message.includes('verified'))).toBe(true)
    })

    it('is not looked for while another process has the store open, whose files change under the eyes', async () => {
      await fill(1000)
      const store = await anew().open()
      await writeFile(join(path, 'OPENINGS'), 'holdfast-1 1 opening\n')
      await change(4, 'z'.charCodeAt(0))
      expect(await opened()).toBe('STORE_LOCKED')
      expect(await readdir(folder)).toEqual(['db'])
      await store.close()
    })
  })

  it('opens a folder in which the making of a database was cut short', async () => {
    await mkdir(path)
    await writeFile(join(path, 'MANIFEST-000001'), '')
    await fill(10)
  })

  it('says STORE_FAILED, with the reason, where the path is no folder', async () => {
    await writeFile(path, '')
    const opening = expect(opener.open()).rejects
    await opening.toMatchObject({ code: 'STORE_FAILED', message: expect.stringContaining('ENOTDIR') })
  })

  it('holds every acknowledged write in its files at any moment: a copy of them opens with all of it', async () => {
    const store = await opener.open()
    for (let n = 0; n < 500; n++) {
      await written(store, [{ type: 'put', key: keyOf(n), value: valueOf(n) }], n % 2 === 0)
      if (n % 50 !== 49) continue
      const copy = join(folder, `copy${n}`)
      await copyFiles(copy)
      const salvageOfCopy = await salvaged(copy)
      expect(salvageOfCopy.size).toBe(n + 1)
    }
    await store.close()
  })

  it('says that another process has it open', async () => {
    const store = await opener.open()
    await expect(opener.open()).rejects.toMatchObject({
      code: 'STORE_LOCKED', message: expect.stringContaining(': another process has it open: stop that one') as string
    })
    await store.close()
  })

  it('names itself where one of its logs cannot be read', async () => {
    await mkdir(join(path, '000009.log'), { recursive: true })
    await expect(opener.suspect()).rejects.toMatchObject({
      name: 'HoldfastError', message: expect.stringContaining(`${path}: `) as string
    })
  })

  it('is inaccessible, not damaged, where the process may open no more files', async () => {
    const store = await opener.open()
    await written(store, [{ type: 'put', key: keyOf(1), value: valueOf(1) }], true)
    await store.close()
    const script = `
      import { openSync } from 'node:fs'
      import { SystemClock, silentLog } from '@holdfast/runtime'
      import { Database } from ${JSON.stringify(join(import.meta.dirname, 'database.ts'))}
      import { LevelStore, levelStoreOpener } from ${JSON.stringify(join(import.meta.dirname, 'level-store.ts'))}
      await import('level')
      const options = { path: ${JSON.stringify(path)}, quarantineDir: ${JSON.stringify(quarantineDir)} }
      // Its own modules are loaded by a first round.
      await (await LevelStore.open(options)).close()
      try { for (;;) openSync('/dev/null') } catch {}
      const opener = levelStoreOpener(options, { log: silentLog, clock: new SystemClock() })
      const codes = []
      await opener.open().catch(error => codes.push(error.code))
        await Database.open({ freeFloorBytes: 0 }, {
        opener, clock: new SystemClock(), log: silentLog, salvage: () => { codes.push('salvaged') },
        space: { freeBytes: async () => 2 ** 40, keepBallast: async () => {}, giveUpBallast: async () => {} }
      }).catch(error => codes.push(error.code))
      console.log(codes.join())`
    const { stdout } = await promisify(execFile)('sh', ['-c', 'ulimit -n 64; exec "$0" --input-type=module -e "$1"',
      process.execPath, script], { cwd: import.meta.dirname })
    expect(stdout.trim()).toBe('STORE_INACCESSIBLE,STORE_INACCESSIBLE')
    expect(await readdir(folder)).toEqual(['db'])
    expect((await opener.open().then(async again => ({ value: await again.get(keyOf(1)), closed: await again.close() }))).value)
      .toEqual(valueOf(1))
  })

  it('stays failed after a write that the system refused, and works again once reopened', async () => {
    // A limit on the size of files stands for a full disk: it needs no file system of its own.
    const script = `
      import { LevelStore } from ${JSON.stringify(join(import.meta.dirname, 'level-store.ts'))}
      const path = ${JSON.stringify(path)}
      let store = await LevelStore.open({ path })
      const write = (n, length) => new Promise(resolve => store.write(
        [{ type: 'put', key: Buffer.from('k' + n), value: Buffer.alloc(length) }], { sync: true }, resolve))
      const outcomes = []
      let n = 0
      for (let error; error === undefined; n++) {
        error = await write(n, 30000)
        if (error !== undefined) outcomes.push(error.code, error.message)
      }
      outcomes.push((await write(n, 1)).code)
      outcomes.push((await new Promise(resolve => store.write([], { sync: true }, resolve))).code)
      await store.close()
      store = await LevelStore.open({ path })
      outcomes.push(await write(n, 1) ?? 'written')
      const page = await store.scan({ gte: Buffer.from('k'), lt: Buffer.from('l'), bytesMax: 1e9, values: false })
      outcomes.push(page.length >= n)
      await store.close()
      console.log(JSON.stringify(outcomes))`
    const { stdout } = await promisify(execFile)('bash', ['-c', 'trap "" XFSZ; ulimit -f 256; exec "$@"', 'bash',
      process.execPath, '--input-type=module', '-e', script])
    expect(JSON.parse(stdout)).toEqual(['STORE_FAILED', expect.stringContaining('File too large'), 'STORE_FAILED',
      'STORE_FAILED', 'written', true])
  })

  it('gives empty values where only keys are asked for, from tables too', async () => {
    await fill(100)
    const store = await opener.open()
    const page = await store.scan({ gte: Buffer.of(0), lt: Buffer.of(0xff), values: false })
    expect(page.every(({ value }) => value.length === 0)).toBe(true)
    await store.close()
  })
})

async function manifestOf(db: string): Promise<string> {
  return join(db, (await readdir(db)).find(name => name.startsWith('MANIFEST'))!)
}

function currentFirst(a: string, b: string): number {
  return Number(b === 'CURRENT') - Number(a === 'CURRENT') || a.localeCompare(b)
}
