import { open, stat, statfs, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Free space of the file system that holds a database, and a reserve on it. */
export interface DiskSpace {
  /** Bytes that this process may still write. */
  freeBytes(): Promise<number>
  /** Size of the reserve. */
  readonly ballastBytes: number
  /** Makes the reserve where it is missing; stops where it is given up meanwhile. */
  keepBallast(): Promise<void>
  /** Gives the reserve back to the file system. Idempotent. */
  giveUpBallast(): Promise<void>
}

/** The real one: a file of zeros that is really written, since a sparse file reserves nothing. */
export class FileDiskSpace implements DiskSpace {
  readonly ballastBytes: number
  readonly #path: string
  #wanted = false

  /** `path` of the ballast file; its folder exists. 0 bytes: no ballast. */
  constructor(path: string, ballastBytes: number) {
    this.#path = path
    this.ballastBytes = ballastBytes
  }

  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(dirname(this.#path))
    return bavail * bsize
  }

  async keepBallast(): Promise<void> {
    if (this.ballastBytes === 0) return
    const found = await stat(this.#path).catch(() => undefined)
    if (found?.size === this.ballastBytes) return
    this.#wanted = true
    const file = await open(this.#path, 'w', 0o600)
    try {
      const chunk = Buffer.alloc(Math.min(1024 * 1024, this.ballastBytes))
      for (let at = 0; at < this.ballastBytes && this.#wanted; at += chunk.length) {
        await file.write(chunk, 0, Math.min(chunk.length, this.ballastBytes - at), at)
      }
      if (this.#wanted) await file.sync()
    } catch (error) {
      await unlink(this.#path).catch(() => undefined)
      throw error
    } finally {
      await file.close()
    }
  }

  async giveUpBallast(): Promise<void> {
    this.#wanted = false
    await unlink(this.#path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
    })
  }
}
