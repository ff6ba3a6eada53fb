import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { SystemClock } from '@holdfast/runtime'
import { DaemonProcess, portOrFree } from './daemon-process.ts'

describe('a default port', () => {
  it('is taken where it is free, and replaced by any free one where it is not', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    expect(await portOrFree(port)).toBe(0)
    server.close()
    await once(server, 'close')
    expect(await portOrFree(port)).toBe(port)
  })
})

describe('a daemon as a child', () => {
  let folder = ''
  beforeEach(async () => { folder = await mkdtemp(join(tmpdir(), 'holdfast-daemon-')) })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  const start = (settings: readonly string[]): Promise<DaemonProcess> => DaemonProcess.start({
    name: 'cloudcore', nodePath: process.execPath, dataDir: folder, logPath: join(folder, 'cloudcore.log'), settings
  }, new SystemClock())

  it('that does not start says why, and is not taken for ready by what a crash left behind', async () => {
    await writeFile(join(folder, 'endpoints.json'), '{"ops":"http://127.0.0.1:1"}')
    await writeFile(join(folder, 'cloudcore.log'), 'the start before')
    const daemon = await start(['tunel.port=0'])
    await expect(daemon.ready(20_000, new AbortController().signal)).rejects.toMatchObject({
      code: 'UP_DAEMON_ENDED',
      message: expect.stringMatching(/^cloudcore ended with code 2; the end of .*did you mean "tunnel"/s) as string
    })
    expect(await daemon.ended).toBe(2)
    expect(await readFile(join(folder, 'cloudcore.log.1'), 'utf8')).toBe('the start before')
  })

  it('that is asked for something it never does is told so at the deadline, and ended', async () => {
    const daemon = await start(['tunnel.port=0', 'https.port=0', 'ops.port=0', 'kube.port=0'])
    await expect(daemon.waitFor('does not sing', async () => undefined, 50, new AbortController().signal))
      .rejects.toMatchObject({
        code: 'UP_NOT_READY', message: expect.stringMatching(/^cloudcore does not sing after 0\.05 s/) as string
      })
    const stop = new AbortController()
    stop.abort(new Error('enough'))
    await expect(daemon.waitFor('waits', async () => undefined, 20_000, stop.signal)).rejects.toThrow('enough')
    await daemon.stop()
    expect(daemon.running).toBe(false)
  })
})
