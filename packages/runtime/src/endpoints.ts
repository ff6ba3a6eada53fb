import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomic } from './files.ts'

/** Where the parts of a running program listen, as URLs. */
export interface Endpoints {
  readonly tunnel?: string
  readonly https?: string
  readonly mqtt?: string
  readonly mqttWebSocket?: string
  readonly http?: string
  /** The socket for mappers, `unix:<path>`. */
  readonly dmi?: string | undefined
  readonly localApi?: string
  /** The Kubernetes API that cloudcore serves itself. */
  readonly kubernetes?: string
  readonly ops?: string
}

/** What `endpoints.json` holds: where a program listens, and which process that is. */
export interface PublishedEndpoints extends Endpoints {
  readonly pid: number
  /** When it became ready, RFC 3339: tells it from an earlier process with the same number. */
  readonly readySince: string
}

/**
 * `<data dir>/endpoints.json`: there while a program is ready, and only then, so that whoever starts it with port 0
 * can wait for the file and read the ports.
 *
 * Only for the process that holds the lock of the store in that folder: `open` removes what a crash left behind.
 */
export class EndpointsFile implements AsyncDisposable {
  readonly path: string
  #published: string | undefined

  private constructor(path: string) { this.path = path }

  /** The folder must exist. */
  static async open(dataDir: string): Promise<EndpointsFile> {
    const file = new EndpointsFile(join(dataDir, 'endpoints.json'))
    await rm(file.path, { force: true })
    return file
  }

  /** Says that the program is ready. */
  async publish(endpoints: Endpoints): Promise<void> {
    const content: PublishedEndpoints = { ...endpoints, pid: process.pid, readySince: new Date().toISOString() }
    this.#published = JSON.stringify(content, null, 2) + '\n'
    await writeFileAtomic(this.path, this.#published)
  }

  /** Removes what this process has published, and nobody else's. Before the store's lock is given up. Idempotent. */
  async withdraw(): Promise<void> {
    const published = this.#published
    this.#published = undefined
    if (published === undefined) return
    const found = await readFile(this.path, 'utf8').catch(() => undefined)
    if (found === published) await rm(this.path, { force: true })
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.withdraw() }
}

/** A URL that a program on this machine can connect to; an address that means `all` is written as loopback. */
export function endpointUrl(scheme: string, host: string, port: number): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host
  return `${scheme}://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`
}
