import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, readdir, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { planOfClass } from './plan.ts'
import { simulate } from './simulation.ts'

const run = promisify(execFile)
const root = dirname(dirname(import.meta.dirname))
const patches = (await readdir(join(import.meta.dirname, 'mutants'))).filter(name => name.endsWith('.patch')).toSorted()
/** A mutant has to be found within so many seeds of the class that its patch names, from the one it names on, or by the tests that it names. */
const seedsMax = 80
const runMsMax = 300_000

let folder = ''
beforeAll(async () => { folder = await mkdtemp(join(tmpdir(), 'holdfast-mutants-')) })
afterAll(async () => { await rm(folder, { recursive: true, force: true }) })

/** The sources that the simulator runs, with packages that find each other in the copy. */
async function copySources(target: string): Promise<void> {
  await mkdir(join(target, 'node_modules/@holdfast'), { recursive: true })
  const isSource = (path: string): boolean => !/(^|\/)node_modules(\/|$)|\.test\.ts$|\/mutants$/.test(path)
  for (const part of ['protos', 'packages', 'test/sim', 'package.json']) {
    await cp(join(root, part), join(target, part), { recursive: true, filter: isSource })
  }
  for (const entry of await readdir(join(root, 'node_modules'))) {
    if (entry !== '@holdfast') await symlink(join(root, 'node_modules', entry), join(target, 'node_modules', entry))
  }
  await symlink(join(target, 'protos'), join(target, 'node_modules/@holdfast/protos'))
  for (const name of await readdir(join(target, 'packages'))) {
    await symlink(join(target, 'packages', name), join(target, 'node_modules/@holdfast', name))
  }
}

/** Runs seeds of a class until one fails; the line that says which, or undefined where none did. */
async function firstFailure(source: string, faultClass: string, firstSeed: number): Promise<string | undefined> {
  const environment = { PATH: process.env['PATH'], QUIET: '1', CLASS: faultClass }
  try {
    await run(process.execPath, ['test/sim/main.ts', String(firstSeed), String(seedsMax)], { cwd: source, env: environment,
      timeout: runMsMax })
    return undefined
  } catch (error) {
    const { stdout, stderr, code } = error as { stdout: string, stderr: string, code: number | null }
    if (code !== 1) throw new Error(`the mutant did not end by itself: ${stderr}`, { cause: error })
    return stdout.split('\n').find(line => /^seed \d+ /.test(line)) ?? stderr
  }
}

/** Runs a test file; true where some of it fails, and the rest shows that it runs here. */
async function testFails(source: string, path: string): Promise<boolean> {
  await cp(join(root, path), join(source, path))
  try {
    await run(process.execPath, ['node_modules/vitest/vitest.mjs', 'run', '--root', '.', path], { cwd: source,
      env: { PATH: process.env['PATH'], NO_COLOR: '1', SEED: '1' }, timeout: runMsMax })
    return false
  } catch (error) {
    const { stdout } = error as { stdout: string }
    if (!/^ *Tests +\d+ failed \| \d+ passed/m.test(stdout)) throw new Error(`the tests did not run: ${stdout}`, { cause: error })
    return true
  }
}

/** Two at a time: that is what two cores carry. */
const lanes = [Promise.resolve(), Promise.resolve()]

test('there are enough mutants', () => { expect(patches.length).toBeGreaterThanOrEqual(12) })

for (const [i, patch] of patches.entries()) {
  test.concurrent(`${basename(patch, '.patch')} is found`, { timeout: patches.length * runMsMax }, async () => {
    const turn = lanes[i % 2]!
    let done = (): void => {}
    lanes[i % 2] = new Promise(resolve => { done = resolve })
    await turn
    const source = join(folder, basename(patch, '.patch'))
    try {
      await copySources(source)
      // Fails where the patch no longer applies: then it has to be written anew.
      await run('git', ['apply', '-p1', join(import.meta.dirname, 'mutants', patch)], { cwd: source,
        env: { ...process.env, GIT_CEILING_DIRECTORIES: folder } })
      const [why, named] = (await readFile(join(import.meta.dirname, 'mutants', patch), 'utf8')).split('\n')
      const [, kind, where = '', first = '1'] = /^(Seeds|Tests): (\S+)(?: from (\d+))?$/.exec(named!)!
      if (kind === 'Tests') {
        expect(await testFails(source, where), `${where} passed although: ${why}`).toBe(true)
        return
      }
      const faultClass = where
      const failure = await firstFailure(source, faultClass, Number(first))
      expect(failure ?? 'no seed failed',
        `${seedsMax} seeds passed although: ${why}`).toMatch(/^seed \d+ \([a-z-]+\) failed/)
      const seed = Number(/^seed (\d+)/.exec(failure!)![1])
      const plan = planOfClass(seed, faultClass)
      expect((await simulate(seed, { plan })).failure, `seed ${seed} fails without the mutant too`).toBeUndefined()
      console.log(`${basename(patch, '.patch')}: ${failure!.slice(0, 160)}`)
    } finally {
      await rm(source, { recursive: true, force: true })
      done()
    }
  })
}
