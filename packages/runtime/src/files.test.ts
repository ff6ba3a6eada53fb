import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { EndpointsFile, endpointUrl } from './endpoints.ts'
import { writeFileAtomic } from './files.ts'

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'holdfast-files-'))
  onTestFinished(() => rm(path, { recursive: true }))
  return path
}

test('a file is replaced as a whole, with its mode, and nothing else is left', async () => {
  const path = await folder()
  await writeFileAtomic(join(path, 'key'), 'old')
  await writeFileAtomic(join(path, 'key'), 'new', 0o600)
  expect(await readFile(join(path, 'key'), 'utf8')).toBe('new')
  expect((await stat(join(path, 'key'))).mode & 0o777).toBe(0o600)
  expect(await readdir(path)).toEqual(['key'])
})

test('a write that fails leaves the old content and no temporary file', async () => {
  const path = await folder()
  await mkdir(join(path, 'taken'))
  await expect(writeFileAtomic(join(path, 'taken'), 'x')).rejects.toThrow()
  expect(await readdir(path)).toEqual(['taken'])
  await expect(writeFileAtomic(join(path, 'none', 'x'), 'x')).rejects.toMatchObject({ code: 'ENOENT' })
})

test('endpoints are there while a program is ready, and only then', async () => {
  const path = await folder()
  await writeFile(join(path, 'endpoints.json'), '{"mqtt":"left by a crash"}')
  {
    await using file = await EndpointsFile.open(path)
    expect(await readdir(path)).toEqual([])
    await file.publish({ mqtt: 'mqtt://127.0.0.1:1', ops: 'http://127.0.0.1:2' })
    expect(JSON.parse(await readFile(file.path, 'utf8')))
      .toEqual({
        mqtt: 'mqtt://127.0.0.1:1', ops: 'http://127.0.0.1:2', pid: process.pid,
        readySince: expect.stringMatching(/^\d{4}-.*Z$/) as string
      })
  }
  expect(await readdir(path)).toEqual([])
})

test('endpoints of another process are left alone', async () => {
  const path = await folder()
  await using file = await EndpointsFile.open(path)
  await writeFile(file.path, '{"pid":1}')
  await file.withdraw()
  expect(await readdir(path)).toEqual(['endpoints.json'])
  await file.publish({})
  await writeFile(file.path, '{"pid":1}')
  await file.withdraw()
  expect(await readFile(file.path, 'utf8')).toBe('{"pid":1}')
})

test('an endpoint is an address that this machine can connect to', () => {
  expect(endpointUrl('wss', '0.0.0.0', 1)).toBe('wss://127.0.0.1:1')
  expect(endpointUrl('http', '::', 2)).toBe('http://[::1]:2')
  expect(endpointUrl('mqtt', 'edge.example', 3)).toBe('mqtt://edge.example:3')
})
