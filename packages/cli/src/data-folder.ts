import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { HoldfastError, describeError, type PublishedEndpoints } from '@holdfast/runtime'

/** What a daemon has written about where it listens; `pid` is absent in what older releases wrote. */
export type FoundEndpoints = Omit<PublishedEndpoints, 'pid' | 'readySince'> & Partial<PublishedEndpoints>

/** `<folder>/endpoints.json`; undefined where there is none. Rejects with `UP_FILE_UNREADABLE`. */
export async function readEndpoints(folder: string): Promise<FoundEndpoints | undefined> {
  const path = join(folder, 'endpoints.json')
  return await readJson(path, 'remove it if no daemon runs on this folder')
}

/** The name in `<edge folder>/identity`; undefined where the node has not joined. Rejects with `UP_FILE_UNREADABLE`. */
export async function readNodeName(edgeFolder: string): Promise<string | undefined> {
  const path = join(edgeFolder, 'identity', 'identity.json')
  const remedy = 'restore it from a backup, or move the identity folder away and join again'
  const identity = await readJson(path, remedy)
  if (identity === undefined) return undefined
  if (typeof identity['node'] !== 'string') throw unreadable(path, 'it names no node', remedy)
  return identity['node']
}

async function readJson(path: string, remedy: string): Promise<Readonly<Record<string, unknown>> | undefined> {
  try {
    const value = JSON.parse(await readFile(path, 'utf8')) as unknown
    if (typeof value === 'object' && value !== null) return { ...value }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw unreadable(path, describeError(error), remedy, error)
  }
  throw unreadable(path, 'it is not a JSON object', remedy)
}

function unreadable(path: string, what: string, remedy: string, cause?: unknown): HoldfastError {
  return new HoldfastError('UP_FILE_UNREADABLE', `${path} cannot be used (${what}): ${remedy}`,
    cause === undefined ? undefined : { cause })
}
