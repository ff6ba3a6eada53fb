import { readFileSync } from 'node:fs'

/** What a process holds and has used so far, from /proc. */
export interface ProcessUsage {
  /** Heap and stacks. */
  readonly rssAnonBytes: number
  /** Mapped files, such as program text and database tables. */
  readonly rssFileBytes: number
  readonly cpuSeconds: number
  /** Bytes that it caused to be written to disk; without the file system's own. */
  readonly writtenBytes: number
}

/** Linux counts processor time in hundredths of a second for user space, on every architecture. */
const ticksPerSecond = 100

export function usageOf(pid: number): ProcessUsage {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const bytesOf = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The name in parentheses may hold anything; user and system time are the 12th and 13th field behind it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const written = /^write_bytes: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))
  return {
    rssAnonBytes: bytesOf('RssAnon'),
    rssFileBytes: bytesOf('RssFile'),
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / ticksPerSecond,
    writtenBytes: Number(written?.[1] ?? 0)
  }
}

/** Children of a process, such as the program under strace. */
export function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(text => text !== '').map(Number)
}
