import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomic } from './files.ts'

/** Where the parts of a running program listen, as URLs. */
export interface Endpoints {
  readonly tunnel?: string
  readonly https?: string
  readonly mqtt?: string
  readonly http?: string
  readonly ops?: string
}

/**
 * `<data dir>/endpoints.json`: there while a program is ready, and only then, so that whoever starts it with port 0
 * can wait for the file and read the ports. `open` removes what a crash left behind.
 */
export class EndpointsFile implements AsyncDisposable {
  readonly path: string

  private constructor(path: string) { this.path = path }

  /** The folder must exist. */
  static async open(dataDir: string): Promise<EndpointsFile> {
    const file = new EndpointsFile(join(dataDir, 'endpoints.json'))
    await rm(file.path, { force: true })
    return file
  }

  /** Says that the program is ready. */
  async publish(endpoints: Endpoints): Promise<void> {
    await writeFileAtomic(this.path, JSON.stringify(endpoints, null, 2) + '\n')
  }

  async [Symbol.asyncDispose](): Promise<void> { await rm(this.path, { force: true }) }
}

/** A URL that a program on this machine can connect to; an address that means `all` is written as loopback. */
export function endpointUrl(scheme: string, host: string, port: number): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host
  return `${scheme}://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`
}
