import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { until } from './daemons.ts'
import type { Daemon } from './daemons.ts'

const library = ['x86_64-linux-gnu', 'aarch64-linux-gnu']
  .map(triplet => `/usr/lib/${triplet}/faketime/libfaketime.so.1`).find(existsSync)

/** Why no clock can be faked here; undefined where it can. */
export const fakeClockAbsent = library === undefined ? 'needs libfaketime (Debian: apt-get install faketime)' : undefined

/** What puts libfaketime under a program; the monotonic clock stays the machine's. */
export const fakeClockEnvironment = { LD_PRELOAD: library ?? '', FAKETIME_DONT_FAKE_MONOTONIC: '1' }

/** The wall clock of daemons that are started with `environment`: what a file says, in libfaketime's words (`+1d`, `@1970-01-01 00:00:10`). */
export class FakeClock {
  readonly environment: Readonly<Record<string, string>>
  readonly #file: string

  constructor(folder: string) {
    this.#file = join(folder, 'clock')
    // Read anew after a second; every call would cost a file read.
    this.environment = { ...fakeClockEnvironment, FAKETIME_TIMESTAMP_FILE: this.#file, FAKETIME_CACHE_DURATION: '1' }
  }

  /** For daemons that are started afterwards; one that runs reads it within a second. */
  async set(time: string): Promise<void> { await writeFile(this.#file, `${time}\n`) }

  /** The step to the true time under a daemon that runs; resolves when the daemon has it. */
  async setRight(daemon: Daemon): Promise<void> {
    await this.set('+0')
    await until(`${daemon.name} has the true time`, async () => Math.abs(await timeOf(daemon) - Date.now()) < 5000)
  }
}

/** A daemon's wall clock in milliseconds, as it dates its answers: whole seconds. */
export async function timeOf(daemon: Daemon): Promise<number> {
  const answer = await fetch(`${daemon.endpoints.ops}/healthz`)
  await answer.arrayBuffer()
  return Date.parse(answer.headers.get('date') ?? '')
}
