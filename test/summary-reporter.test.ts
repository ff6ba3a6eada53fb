import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, it } from 'vitest'

const vitest = fileURLToPath(new URL('../node_modules/vitest/vitest.mjs', import.meta.url))
const reporter = fileURLToPath(new URL('summary-reporter.ts', import.meta.url))

let folder: string
beforeEach(async () => { folder = await mkdtemp(join(tmpdir(), 'holdfast-summary-')) })
afterEach(async () => { await rm(folder, { recursive: true }) })

/** Runs the tests of these files in a folder of their own. */
async function run(files: Readonly<Record<string, string>>): Promise<{ code: unknown, lines: string[], counts: string, failures: string }> {
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text)
  const [countsFile, failuresFile] = [join(folder, 'counts'), join(folder, 'failures')]
  const [code, output] = await new Promise<[unknown, string]>(resolve => {
    execFile(process.execPath, [vitest, 'run', '--globals', '--root', folder, '--reporter', reporter], {
      env: { ...process.env, TEST_COUNTS: countsFile, TEST_FAILURES: failuresFile }
    }, (error, stdout) => { resolve([error === null ? 0 : error.code, stdout]) })
  })
  const lines = output.split('\n').filter(line => line !== '')
  return { code, lines, counts: await readFile(countsFile, 'utf8'), failures: await readFile(failuresFile, 'utf8') }
}

it('ends with the counts, and names what failed and what was not run, with the reasons', async () => {
  const { code, lines, counts, failures } = await run({
    'a.test.js': `
      it('holds', () => { expect(1).toBe(1) })
      describe('a pump', () => { it('turns', () => { expect('still').toBe('turning') }) })
      it('needs a sea', context => { context.skip('no sea here') })`,
    'b.test.js': 'throw new Error("no such harbour\\nat all")'
  })
  const failed = [
    'failed: a.test.js > a pump > turns: expected \'still\' to be \'turning\' // Object.is equality',
    'failed: b.test.js, as a whole: no such harbour'
  ]
  expect(code).toBe(1)
  expect(lines.slice(-4)).toEqual(['not run here: a.test.js > needs a sea: no sea here', ...failed, '1 passed, 2 failed, 1 skipped'])
  expect(counts).toBe('1 2 1\n')
  expect(failures).toBe(`${failed.join('\n')}\n`)
})

it('counts what fails outside any test', async () => {
  const { code, lines, failures } = await run({
    'a.test.js': 'it("goes", () => new Promise(done => { setImmediate(() => { setImmediate(done); throw new Error("left alone") }) }))'
  })
  expect(code).toBe(1)
  expect(lines.slice(-2)).toEqual(['failed: outside any test: left alone', '1 passed, 1 failed, 0 skipped'])
  expect(failures).toBe('failed: outside any test: left alone\n')
})
