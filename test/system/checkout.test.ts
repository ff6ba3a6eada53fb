import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { check, missing, run } from './programs.ts'

const root = join(import.meta.dirname, '../..')
/** Where a machine's own Node is: not the one that npm puts in front for scripts. */
const path = ['/usr/local/bin', '/usr/bin', '/bin'].join(':')

it('a fresh clone works with npm and an older Node alone', async ({ skip }) => {
  const reason = missing('git')
  skip(reason !== undefined, reason)
  const environment = { PATH: path, HOME: process.env['HOME'] ?? '/' }
  const version = (await run('sh', ['-c', 'node --version && npm --version'], { environment })).stdout
  skip(!/^v(20|22|23)\./.test(version), `needs Node.js 20 to 23 with npm in ${path}; found ${version.trim() || 'none'}`)
  skip((await run('git', ['-C', root, 'rev-parse', 'HEAD'])).code !== 0, 'needs the history: this copy is not a git checkout')

  const folder = await mkdtemp(join(tmpdir(), 'holdfast-system-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const clone = join(folder, 'holdfast')
  await check('git', ['-c', 'advice.detachedHead=false', 'clone', '--quiet', root, clone])
  const options = { cwd: clone, environment, withinMs: 240_000 }
  await check('npm', ['ci', '--prefer-offline', '--no-audit', '--no-fund'], options)

  // The launchers find Node 24 of the project; what a user types first answers.
  for (const program of ['cli/bin/holdfast.js', 'edgecore/bin/edgecore.js', 'cloudcore/bin/cloudcore.js']) {
    const name = program.split('/').at(-1)!.replace('.js', '')
    expect(await check('node', [`packages/${program}`, '--help'], options)).toMatch(new RegExp(`^(Usage: )?${name}`, 'm'))
  }
  // npm puts Node 24 in front for every script.
  expect(await check('npm', ['exec', '--', 'node', '--version'], options)).toMatch(/^v24\./m)
  expect(await check('npm', ['run', 'docs', '--', '--check'], options)).toContain('docs/generate.ts')
}, 300_000)
