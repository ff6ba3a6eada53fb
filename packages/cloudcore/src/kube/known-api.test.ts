import { mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { temporaryFolder } from '../identity/testing/identity-fixture.ts'
import { KnownApi } from './known-api.ts'

it('the first API is known from then on, another one is not until it is adopted, and then the first is not', async () => {
  await using folder = await temporaryFolder()
  const path = join(folder.path, 'kube-api')
  const known = (adopt?: string): KnownApi => new KnownApi({ path, adopt })
  expect(await known('b').admit('a')).toBeUndefined()
  expect(await known().admit('a')).toBeUndefined()
  expect(await known().admit('b')).toBe('a')
  expect(await known('c').admit('b')).toBe('a')
  expect(await known('b').admit('b')).toBeUndefined()
  expect(await readFile(path, 'utf8')).toBe('b\n')
  expect(await known('b').admit('a')).toBe('b')
})

it('an API is not taken for the first one where the file cannot be read', async () => {
  await using folder = await temporaryFolder()
  const path = join(folder.path, 'kube-api')
  await mkdir(path)
  await expect(new KnownApi({ path, adopt: undefined }).admit('a')).rejects.toMatchObject({ code: 'EISDIR' })
  await rm(path, { recursive: true })
  expect(await new KnownApi({ path, adopt: undefined }).admit('a')).toBeUndefined()
})
