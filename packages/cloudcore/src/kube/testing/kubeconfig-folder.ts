import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeKubeconfig, type KubeconfigFields } from '@holdfast/kube-api'
import type { KubeAccess } from '../kube-access.ts'

/** A kubeconfig in a folder of its own, which is removed at the end of its scope. */
export class KubeconfigFolder implements AsyncDisposable {
  readonly access: KubeAccess
  readonly #folder: string

  private constructor(folder: string, path: string) {
    this.#folder = folder
    this.access = { kind: 'file', path }
  }

  static async write(fields: KubeconfigFields): Promise<KubeconfigFolder> {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-kubeconfig-'))
    const path = join(folder, 'kubeconfig')
    await writeKubeconfig(path, fields)
    return new KubeconfigFolder(folder, path)
  }

  async [Symbol.asyncDispose](): Promise<void> { await rm(this.#folder, { recursive: true }) }
}
