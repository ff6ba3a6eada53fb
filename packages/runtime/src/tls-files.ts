import { chmod, readdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { syncFolder } from './files.ts'
import { makeFolder } from './folders.ts'

/** Permissions of files that hold keys or secrets: their owner alone. */
export const privateFileMode = 0o600

/** Makes a folder that only its owner can enter (0700), with its parents; it is there after a power cut. */
export async function makePrivateFolder(path: string): Promise<void> {
  await makeFolder(path, 0o700)
  await chmod(path, 0o700)
  await syncFolder(dirname(path))
}

/** Removes what a crash inside `writeFileAtomic` left in a folder. Only for the one process that writes there. */
export async function removeTemporaries(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (name.endsWith('.tmp')) await rm(join(folder, name), { force: true })
  }
}
