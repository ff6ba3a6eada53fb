import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { loadIdentity } from './identity.ts'

async function dataDirWith(files: Readonly<Record<string, string>>): Promise<string> {
  const dataDir = await mkdtemp(join(tmpdir(), 'holdfast-node-'))
  onTestFinished(() => rm(dataDir, { recursive: true }))
  await mkdir(join(dataDir, 'identity'))
  for (const [name, content] of Object.entries(files)) await writeFile(join(dataDir, 'identity', name), content)
  return dataDir
}

const description = { version: 1, node: 'edge-1', clusterUid: 'u', serverUrl: 'wss://cloud:10000/v1/tunnel' }
const rest = { 'node.key': 'k', 'node.crt': 'c', 'ca.crt': 'a' }

describe('a node\'s identity', () => {
  it('that is not there yet says how to join', async () => {
    const dataDir = await dataDirWith({})
    await expect(loadIdentity(dataDir)).rejects.toMatchObject({
      code: 'NODE_NOT_JOINED', message: expect.stringContaining(`--node NAME --data-dir ${dataDir}`) as string
    })
  })

  it.each([
    ['identity.json', { ...rest, 'identity.json': '{"version":1,' }],
    ['identity.json', { ...rest, 'identity.json': JSON.stringify({ ...description, version: 2 }) }],
    ['identity.json', { ...rest, 'identity.json': JSON.stringify({ ...description, serverUrl: 'http://x' }) }],
    ['node.key', { ...rest, 'identity.json': JSON.stringify(description) }],
    ['ca.crt', { 'node.key': 'k', 'node.crt': 'c', 'identity.json': JSON.stringify(description) }]
  ])('that is damaged names %s', async (name, files) => {
    const dataDir = await dataDirWith(files)
    await expect(loadIdentity(dataDir)).rejects.toMatchObject({
      code: 'NODE_IDENTITY_UNREADABLE', message: expect.stringContaining(join(dataDir, 'identity', name)) as string
    })
  })
})
