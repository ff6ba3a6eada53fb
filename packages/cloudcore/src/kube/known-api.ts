import { readFile } from 'node:fs/promises'
import { writeFileAtomic } from '@holdfast/runtime'

export interface KnownApiOptions {
  /** The file that holds the uid; beside the identity, which it belongs to. */
  readonly path: string
  /** The uid of an API that takes the place of the one before; undefined: none may. */
  readonly adopt: string | undefined
}

/**
 * Which Kubernetes API gives nodes their objects, by the uid of its namespace kube-system, over restarts. Another one, such as
 * an embedded one that began anew or a cluster that was built again, knows nothing of what nodes hold: what it does not have
 * would vanish from all of them. So it has no say until somebody says that it may (STA-48).
 */
export class KnownApi {
  readonly #options: KnownApiOptions

  constructor(options: KnownApiOptions) { this.#options = options }

  /** Undefined where this is the API, from now on too; otherwise the one that it is not. Rejects where the file cannot be used. */
  async admit(uid: string): Promise<string | undefined> {
    const { path, adopt } = this.#options
    const known = await readFile(path, 'latin1').then(text => text.trim(), (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return ''
      throw error
    })
    if (known === uid) return undefined
    if (known !== '' && adopt !== uid) return known
    await writeFileAtomic(path, `${uid}\n`)
    return undefined
  }
}
