import { open as openFile, readFile, readdir, rm, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { syncFolder } from '@holdfast/runtime'

/** LevelDB leaves files alone whose names mean nothing to it. */
const sealName = 'CLOSED'
const suspectName = 'SUSPECT'
const openingsName = 'OPENINGS'
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
  if (!await isMarkedSuspect(folder)) return
  await rm(join(folder, suspectName))
  await syncFolder(folder)
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

/** After so many openings in a row that no close followed, tables are verified before the next. */
const openingsUnverifiedMax = 3

/**
 * Notes that the folder is about to be opened. True where its tables have to be verified before: LevelDB meets some
 * damage with an abort of the process, which leaves nothing behind but this note. It is that the opening before did not
 * reach `noteOpened`, or that several in a row were not closed: reads and compactions abort, too. Best effort and not
 * fsynced: an abort leaves the system's memory alone, and where a note is missing nothing is verified.
 */
export async function noteOpening(folder: string): Promise<boolean> {
  const [head, count, opened] = (await readFile(join(folder, openingsName), 'latin1').catch(() => '')).split(/[ \n]/)
  const before = head === 'holdfast-1' ? Number(count) || 0 : 0
  const verify = (before > 0 && opened !== 'opened') || before >= openingsUnverifiedMax
  await writeFile(join(folder, openingsName), `holdfast-1 ${verify ? 1 : before + 1} opening\n`).catch(() => undefined)
  return verify
}

/** What was noted last has been opened, and read by all who load something from it. */
export async function noteOpened(folder: string): Promise<void> {
  const path = join(folder, openingsName)
  const note = await readFile(path, 'latin1').catch(() => '')
  if (note.endsWith(' opening\n')) await writeFile(path, note.replace(' opening\n', ' opened\n')).catch(() => undefined)
}

/** The folder was closed. */
export async function forgetOpenings(folder: string): Promise<void> { await rm(join(folder, openingsName), { force: true }) }
