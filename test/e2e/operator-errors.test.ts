import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { join as joinNode } from '../../packages/cli/src/join.ts'
import { Fleet } from '../harness/daemons.ts'

interface End { readonly code: number, readonly text: string }

/** Runs one of the programs to its end; text is its standard error. */
function run(name: 'cloudcore' | 'edgecore' | 'holdfast', ...args: string[]): Promise<End> {
  const folder = name === 'holdfast' ? 'cli' : name
  const launcher = fileURLToPath(new URL(`../../packages/${folder}/bin/${name}.js`, import.meta.url))
  return new Promise(resolve => {
    execFile(process.execPath, [launcher, ...args], (error, _output, text) =>
      resolve({ code: error === null ? 0 : Number(error.code), text }))
  })
}

const lastLine = ({ text }: End): Record<string, unknown> => JSON.parse(text.trim().split('\n').at(-1)!) as Record<string, unknown>

it('what an operator can mend is one line, without a stack', async () => {
  await using fleet = await Fleet.start()
  await using folder = await temporaryFolder()
  const { tunnel } = fleet.cloud.endpoints
  const port = new URL(tunnel!).port
  const dataDir = join(folder.path, 'edge')
  const cases: [End, string][] = [
    [await run('cloudcore', '--set', `dataDir=${folder.path}`, '--set', 'https.port=0', '--set', 'ops.port=0', '--set', 'kube.port=0',
      '--set', `tunnel.port=${port}`), `LISTEN_FAILED: tunnel: cannot listen on 0.0.0.0:${port}: another process listens there: stop it, or set tunnel.port`],
    [await run('edgecore', '--set', `dataDir=${dataDir}`), 'NODE_NOT_JOINED: '],
    [await run('edgecore', '--set', 'dataDir=/proc/holdfast'), 'DATA_FOLDER_UNUSABLE: dataDir /proc/holdfast cannot be used']
  ]
  for (const [end, error] of cases) {
    expect(end.code).toBe(1)
    expect(lastLine(end)).toEqual({
      time: expect.any(String) as string, level: 'error', message: 'stopped by a fault',
      program: expect.any(String) as string, error: expect.stringContaining(error) as string
    })
  }
})

it('the wrong port is called so', async () => {
  await using fleet = await Fleet.start()
  await using folder = await temporaryFolder()
  const { tunnel, ops } = fleet.cloud.endpoints
  const { token } = await (await fetch(`${ops}/v1/tokens`, { method: 'POST' })).json() as { token: string }
  for (const url of [tunnel!, ops!]) {
    await expect(joinNode({ server: `https://127.0.0.1:${new URL(url).port}`, token, node: 'edge-1', dataDir: folder.path }))
      .rejects.toMatchObject({ code: 'JOIN_ANSWER_INVALID', message: expect.stringMatching(/is not the HTTPS port of cloudcore .*10002/) as string })
  }
  const refused = await fetch(`${ops}/v1/tokens`, { method: 'POST', body: '{"uses":0}' })
  expect([refused.status, await refused.json()]).toEqual([400, expect.objectContaining({ code: 'TOKEN_REQUEST_INVALID' })])
  const edge = await fleet.join('edge-1')
  await edge.start()
  const nodes = await run('holdfast', 'get', 'nodes', '--cloud', edge.endpoints.ops!)
  expect(nodes).toEqual({ code: 1, text: expect.stringContaining('[CLOUD_ANSWER_INVALID]') as string })
})

async function temporaryFolder(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'holdfast-operator-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}
