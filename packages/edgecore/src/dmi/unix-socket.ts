import { chmod, lstat, unlink } from 'node:fs/promises'
import { connect } from 'node:net'
import type { Server } from 'node:net'
import { HoldfastError } from '@holdfast/runtime'
import { dmiLimits as limits } from './limits.ts'

/** Owner and group may connect. */
export const socketMode = 0o660

/**
 * Listens at `path`, after taking away a socket that a process left there which is no more. Rejects with `LISTEN_FAILED`.
 */
export async function listenOnSocket(server: Server, path: string): Promise<void> {
  const failure = (why: string, cause?: unknown): HoldfastError =>
    new HoldfastError('LISTEN_FAILED', `dmi: cannot listen on ${path}: ${why}`, { cause })
  if (Buffer.byteLength(path) > limits.addressBytes.value) {
    throw failure(`the path of a socket has at most ${limits.addressBytes.value} bytes: set dmi.socket to a shorter one`)
  }
  const there = await lstat(path).catch(() => undefined)
  if (there?.isSocket() === false) throw failure('something is there that is no socket: set dmi.socket to another path')
  if (there !== undefined) {
    if (await answers(path)) throw failure('another process listens there: stop it, or set dmi.socket to another path')
    await unlink(path)
  }
  await new Promise<void>((resolve, reject) => {
    const failed = (cause: Error): void => reject(failure('check dmi.socket', cause))
    server.once('error', failed)
    server.listen({ path }, () => {
      server.off('error', failed)
      resolve()
    })
  })
  await chmod(path, socketMode)
}

function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ path })
    socket.once('connect', () => { socket.destroy(); resolve(true) })
    // Another user's socket may not be asked, and is not ours to take away.
    socket.once('error', error => resolve((error as { code?: unknown }).code === 'EACCES'))
  })
}
