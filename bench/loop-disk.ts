import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { NotRun } from './bench-row.ts'

const run = promisify(execFile)

/** An ext4 file system in a file, so that every byte that reaches its disk is counted: the file system's own too. */
export class LoopDisk implements AsyncDisposable {
  readonly path: string
  readonly #folder: string
  readonly #device: string

  private constructor(folder: string, device: string) {
    this.#folder = folder
    this.#device = device
    this.path = join(folder, 'mounted')
  }

  /** Rejects with NotRun where this is not allowed. */
  static async mount(bytes: number): Promise<LoopDisk> {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-disk-'))
    const image = join(folder, 'image')
    let device = ''
    try {
      await writeFile(image, '')
      await truncate(image, bytes)
      await run('mkfs.ext4', ['-q', '-E', 'lazy_itable_init=0,lazy_journal_init=0', image])
      device = (await run('losetup', ['--find', '--show', image])).stdout.trim()
      await mkdir(join(folder, 'mounted'))
      await run('mount', [device, join(folder, 'mounted')])
      return new LoopDisk(folder, device)
    } catch (error) {
      if (device !== '') await run('losetup', ['--detach', device]).catch(() => {})
      await rm(folder, { recursive: true, force: true })
      const reason = (error as { stderr?: string, message: string }).stderr ?? String(error)
      throw new NotRun(`no loop device: ${reason.trim().split('\n')[0]}`)
    }
  }

  /** Bytes that have reached the device, after all that waits has. */
  async writtenBytes(): Promise<number> {
    await run('sync', ['--file-system', this.path])
    const stat = await readFile(`/sys/block/${basename(this.#device)}/stat`, 'utf8')
    // The seventh number counts sectors written, of 512 bytes whatever the device.
    return Number(stat.trim().split(/\s+/)[6]) * 512
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run('umount', [this.path])
    await run('losetup', ['--detach', this.#device])
    await rm(this.#folder, { recursive: true, force: true })
  }
}
