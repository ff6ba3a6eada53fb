import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { Fleet, type Daemon } from '../harness/daemons.ts'

/** Starts the same program on the same data directory; its exit code and what it said. */
async function startSecond(daemon: Daemon, ...sets: string[]): Promise<{ readonly code: number | null, readonly text: string }> {
  const launcher = fileURLToPath(new URL(`../../packages/${daemon.name}/bin/${daemon.name}.js`, import.meta.url))
  const ports = ['tunnel', 'https', 'ops', 'mqtt', 'http'].filter(part => part in daemon.endpoints).map(part => `${part}.port=0`)
  const all = [`dataDir=${daemon.dataDir}`, ...ports, ...sets]
  const child = spawn(process.execPath, [launcher, ...all.flatMap(set => ['--set', set])], { stdio: ['ignore', 'ignore', 'pipe'] })
  let text = ''
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => { text += chunk })
  await once(child, 'close')
  return { code: child.exitCode, text }
}

it('a second daemon on a data directory is refused, and changes nothing that the first one has written', async () => {
  await using fleet = await Fleet.start()
  const edge = await fleet.join('edge-1')
  await edge.start()
  const files = [
    join(fleet.cloud.dataDir, 'endpoints.json'), join(fleet.cloud.dataDir, 'identity', 'server.pem'),
    join(edge.dataDir, 'endpoints.json')
  ]
  const read = (): Promise<string[]> => Promise.all(files.map(path => readFile(path, 'utf8')))
  const before = await read()
  for (const second of [await startSecond(fleet.cloud, 'serverNames=[other.example]'), await startSecond(edge)]) {
    expect(second.code).toBe(1)
    expect(second.text).toContain('STORE_LOCKED')
  }
  expect(await read()).toEqual(before)
})
