import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join as joinPath } from 'node:path'
import { describe, expect, it } from 'vitest'
import { join, type JoinOptions } from './join.ts'

const token = `hf1.${'A'.repeat(43)}.00aa11bb22cc.${'B'.repeat(43)}`

/** A port of 127.0.0.1 that nobody listens on. */
async function closedPort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  const { port } = server.address() as { port: number }
  await new Promise<void>(resolve => { server.close(() => resolve()) })
  return port
}

describe('holdfast join', () => {
  it.each<[Partial<JoinOptions>, RegExp]>([
    [{ server: 'http://cloud:10002' }, /--server "http:.*https:\/\/HOST:PORT/],
    [{ server: 'cloud:port' }, /--server/],
    [{ server: 'https://cloud/v1/join' }, /--server/],
    [{ token: 'secret' }, /--token: expected what `holdfast token create` printed/],
    [{ token: token.slice(0, 40) }, /--token/],
    [{ node: 'Edge_1' }, /--node "Edge_1": expected labels/]
  ])('explains what is wrong in %j without touching the network', async (wrong, message) => {
    const options = { server: 'https://127.0.0.1:1', token, node: 'edge-1', dataDir: '/nonexistent' }
    const failed = join({ ...options, ...wrong })
    await expect(failed).rejects.toMatchObject({
      code: 'JOIN_OPTION_INVALID', message: expect.stringMatching(message) as string
    })
    await expect(failed).rejects.not.toThrow(/secret|BBBB/)
  })

  it('does not look at the network while there is an identity', async () => {
    const dataDir = await mkdtemp(joinPath(tmpdir(), 'holdfast-join-'))
    try {
      await mkdir(joinPath(dataDir, 'identity'))
      await writeFile(joinPath(dataDir, 'identity', 'node.key'), 'x')
      await expect(join({ server: 'https://127.0.0.1:1', token, node: 'edge-1', dataDir }))
        .rejects.toMatchObject({ code: 'JOIN_IDENTITY_EXISTS', message: expect.stringContaining('--force') as string })
    } finally {
      await rm(dataDir, { recursive: true })
    }
  })

  it('finds out that the data directory cannot be made before it uses the token', async () => {
    await expect(join({ server: 'https://127.0.0.1:1', token, node: 'edge-1', dataDir: '/dev/null/edge' }))
      .rejects.toMatchObject({ code: 'JOIN_NOT_WRITTEN', message: expect.stringContaining('has not been sent') as string })
  })

  it('says which server does not answer', async () => {
    const port = await closedPort()
    await expect(join({ server: `127.0.0.1:${port}`, token, node: 'edge-1', dataDir: '/nonexistent' }))
      .rejects.toMatchObject({
        code: 'JOIN_UNREACHABLE', message: expect.stringContaining(`127.0.0.1:${port}`) as string
      })
  })
})
