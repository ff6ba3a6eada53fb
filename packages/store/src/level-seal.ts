import { open as openFile, readFile, readdir, rm, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'

/** LevelDB leaves files alone whose names mean nothing to it. */
const sealName = 'CLOSED'
const suspectName = 'SUSPECT'
const logName = /^\d+\.log$/

/**
 * Writes down how the logs of a closed LevelDB folder end: name, size and CRC-32, a line each. After a crash the end of a
 * log may be missing, since nobody was told that it is durable; after a close it may not, and this tells the two apart.
 */
export async function sealLogs(folder: string): Promise<void> {
  const lines = ['holdfast 1']
  for (const name of (await readdir(folder)).filter(found => logName.test(found)).toSorted()) {
    const bytes = await readFile(join(folder, name))
    lines.push(`${name} ${bytes.length} ${crc32(bytes)}`)
  }
  const file = await openFile(join(folder, sealName), 'w')
  try {
    await file.write(`${lines.join('\n')}\nend\n`)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Says, whatever becomes of this process, that entries may be missing in the folder. Idempotent. */
export async function markSuspect(folder: string): Promise<void> {
  const file = await openFile(join(folder, suspectName), 'w')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
  await syncFolder(folder)
}

export async function isMarkedSuspect(folder: string): Promise<boolean> {
  return (await namesIn(folder)).includes(suspectName)
}

/** Idempotent. */
export async function removeSuspectMark(folder: string): Promise<void> {
  await rm(join(folder, suspectName), { force: true })
  await syncFolder(folder)
}

/** Makes what was created, renamed or deleted in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await openFile(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** What is in a folder; nothing where there is none. */
export async function namesIn(folder: string): Promise<string[]> {
  return await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
}

/** To be called before the folder is opened. Idempotent. */
export async function removeSeal(folder: string): Promise<void> {
  await unlink(join(folder, sealName)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
}

/**
 * What was changed since the folder was closed. Empty where it was not closed: a crash; or where the seal is from before
 * an opening whose removal of it was lost: then logs are newer.
 */
export async function brokenSeals(folder: string): Promise<string[]> {
  const text = await readFile(join(folder, sealName), 'latin1').catch(() => '')
  const [head, ...lines] = text.split('\n')
  if (head !== 'holdfast 1' || lines.at(-2) !== 'end') return []
  const logs = (await readdir(folder)).filter(name => logName.test(name))
  const broken: string[] = []
  for (const line of lines.slice(0, -2)) {
    const [name, size, crc] = line.split(' ')
    if (name === undefined || size === undefined || crc === undefined) continue
    if (logs.includes(name)) {
      const bytes = await readFile(join(folder, name))
      if (bytes.length !== Number(size) || crc32(bytes) !== Number(crc)) {
        broken.push(`${name}: ${bytes.length} bytes, other ones than the ${size} with which it was closed`)
      }
    } else if (!logs.some(other => Number.parseInt(other, 10) > Number.parseInt(name, 10))) {
      broken.push(`${name}: missing, ${size} bytes when it was closed`)
    }
  }
  return broken
}
