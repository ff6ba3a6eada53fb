import { access, constants, mkdir, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { describeError, HoldfastError } from './errors.ts'

/**
 * Makes a folder and those above it; leaves one that is there as it is. Rejects with the system's error.
 *
 * Not `mkdir` with `recursive`: where a folder is there and nothing can be made in it, as in /proc, that one tries for
 * ever.
 */
export async function makeFolder(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, { mode })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST' && (await stat(path)).isDirectory()) return
    const above = dirname(resolve(path))
    if (code !== 'ENOENT' || await stat(above).then(() => true, () => false)) throw error
    await makeFolder(above, mode)
    await makeFolder(path, mode)
  }
}

/** Makes the folder that `setting` names where it is missing, 0750. Rejects with `DATA_FOLDER_UNUSABLE`. */
export async function openDataFolder(setting: string, path: string): Promise<void> {
  try {
    await makeFolder(path, 0o750)
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const remedy = code === 'EACCES' || code === 'EPERM' ? 'give it to the user that this runs as, or set another folder'
      : code === 'EEXIST' || code === 'ENOTDIR' ? 'a file is in the way: set a folder, or the place for one'
      : code === 'EROFS' ? 'mount it writable, or set another folder'
      : 'set a folder in which files can be made'
    throw new HoldfastError('DATA_FOLDER_UNUSABLE', `${setting} ${path} cannot be used (${describeError(error)}): ${remedy}`,
      { cause: error })
  }
}
