import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it, onTestFinished } from 'vitest'
import { Fleet } from '../harness/daemons.ts'

it('connections that never say a word do not keep a daemon from stopping', async () => {
  await using fleet = await Fleet.start()
  const edge = await fleet.join('edge-1')
  await edge.start()
  const urls = [fleet.cloud, edge].flatMap(({ endpoints: { tunnel, https, mqtt, http, ops, localApi } }) => [tunnel, https, mqtt, http, ops, localApi])
    .filter(url => url !== undefined)
  expect(urls).toHaveLength(7)
  for (const url of urls) {
    const { hostname, port } = new URL(url)
    const socket = connect(Number(port), hostname)
    socket.on('error', () => {})
    onTestFinished(() => { socket.destroy() })
    await once(socket, 'connect')
  }
  expect(await edge.stop()).toBe(0)
  expect(await fleet.cloud.stop()).toBe(0)
})

it('a cloudcore that is told to stop while it starts has stopped in time', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'holdfast-stopping-'))
  onTestFinished(() => rm(dataDir, { recursive: true, force: true }))
  const launcher = fileURLToPath(new URL('../../packages/cloudcore/bin/cloudcore.js', import.meta.url))
  const sets = [`dataDir=${dataDir}`, 'tunnel.port=0', 'https.port=0', 'ops.port=0', 'kube.port=0'].flatMap(set => ['--set', set])
  const child = spawn(process.execPath, [launcher, ...sets], { stdio: ['ignore', 'ignore', 'pipe'] })
  let told = false
  let text = ''
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
    if (!told && text.includes('server certificate made')) told = child.kill('SIGTERM')
  })
  await once(child, 'close')
  expect([told, child.exitCode, text]).toEqual([true, 0, expect.not.stringContaining('not stopped in time')])
})
