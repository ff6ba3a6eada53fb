import { cp, open, readdir, stat, truncate, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { SeededRandom } from '@holdfast/runtime'

/** A copy beside a data directory of a stopped daemon. */
export async function copyOf(dataDir: string): Promise<string> {
  const place = `${dataDir}-copy`
  await cp(dataDir, place, { recursive: true })
  return place
}

/** What can happen to a file of a database between two runs. */
export const damageKinds = ['flip-log', 'flip-table', 'flip-manifest', 'flip-current', 'truncate-log', 'truncate-table',
  'truncate-manifest', 'empty-log', 'empty-table', 'empty-current', 'empty-manifest', 'remove-current', 'remove-manifest', 'remove-table', 'zero-block'] as const
export type DamageKind = typeof damageKinds[number]

const patterns: Record<string, RegExp> = {
  log: /^\d+\.log$/, table: /^\d+\.(ldb|sst)$/, manifest: /^MANIFEST-/, current: /^CURRENT$/, block: /^\d+\.(ldb|sst|log)$/
}

/** Damages one file of the LevelDB in `folder`; says what was done, or undefined where there is no such file. */
export async function damage(folder: string, kind: DamageKind, random: SeededRandom): Promise<string | undefined> {
  const [verb, which] = kind.split('-') as [string, string]
  const names: { name: string, bytes: number }[] = []
  for (const name of await readdir(folder)) {
    const { size } = await stat(join(folder, name))
    if (patterns[which]!.test(name) && size > 0) names.push({ name, bytes: size })
  }
  if (names.length === 0) return undefined
  const { name, bytes } = names[Math.floor(random.next() * names.length)]!
  const path = join(folder, name)
  const at = Math.floor(random.next() * bytes)
  switch (verb) {
    case 'flip': {
      const file = await open(path, 'r+')
      try {
        const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at)
        buffer[0]! ^= 1 << Math.floor(random.next() * 8)
        await file.write(buffer, 0, 1, at)
      } finally {
        await file.close()
      }
      break
    }
    case 'zero': {
      // A block of the disk that was never written.
      const start = Math.floor(at / 4096) * 4096
      const file = await open(path, 'r+')
      try {
        const length = Math.min(4096, bytes - start)
        await file.write(Buffer.alloc(length), 0, length, start)
      } finally {
        await file.close()
      }
      break
    }
    case 'truncate': await truncate(path, at); break
    case 'empty': await truncate(path, 0); break
    default: await unlink(path)
  }
  return `${kind} ${name} at ${at} of ${bytes}`
}
