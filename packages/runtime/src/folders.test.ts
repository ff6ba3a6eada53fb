import { chmod, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { makeFolder, openDataFolder } from './folders.ts'

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'holdfast-folders-'))
  onTestFinished(() => rm(path, { recursive: true, force: true }))
  return path
}

test('a folder is made with those above it, and left as it is where it is there', async () => {
  const path = await folder()
  await makeFolder(join(path, 'a', 'b', 'c'), 0o700)
  await chmod(join(path, 'a'), 0o755)
  await makeFolder(join(path, 'a'), 0o700)
  expect((await stat(join(path, 'a', 'b', 'c'))).mode & 0o777).toBe(0o700)
  expect((await stat(join(path, 'a'))).mode & 0o777).toBe(0o755)
})

test('where no folder can be made that is an error, not a wait for ever', async () => {
  await expect(openDataFolder('dataDir', '/proc/holdfast/cloud')).rejects.toMatchObject({
    code: 'DATA_FOLDER_UNUSABLE', message: expect.stringMatching(/^dataDir \/proc\/holdfast\/cloud cannot be used \(.*set a folder/) as string
  })
})

test('a file in the way is named, with what to do', async () => {
  const file = join(await folder(), 'file')
  await writeFile(file, '')
  for (const path of [file, join(file, 'below')]) {
    await expect(openDataFolder('dataDir', path)).rejects.toMatchObject({
      code: 'DATA_FOLDER_UNUSABLE', message: expect.stringContaining('a file is in the way') as string
    })
  }
})
