import { makeInformer, CoreV1Api, KubeConfig, type KubernetesObject } from '@kubernetes/client-node'
import type { KubeObject } from '@holdfast/kube-api'
import { type SeededRandom, SystemClock, type Timer, wait } from '@holdfast/runtime'
import type { KubeClient } from '../kube-client.ts'
import { KubeError } from '../kube-error.ts'
import { kindPath, kubeKinds } from '../kube-kinds.ts'

const { configMaps } = kubeKinds

/** Creates, changes, deletes and creates again ConfigMaps of a few names, through whatever happens to the API. */
export class Churn {
  readonly #client: KubeClient
  readonly #random: SeededRandom
  readonly #names: number
  readonly #clock = new SystemClock()
  #stopped = false
  #writes = 0
  #outages = 0

  constructor(options: { readonly names: number }, components: { readonly client: KubeClient, readonly random: SeededRandom }) {
    this.#names = options.names
    this.#client = components.client
    this.#random = components.random
  }

  /** Writes that the API has answered well. */
  get writes(): number { return this.#writes }

  /** Writes that it has not answered. */
  get outages(): number { return this.#outages }

  stop(): void { this.#stopped = true }

  /** Until `stop`. Rejects with what the API says that is neither an outage nor a conflict. */
  async run(): Promise<void> {
    while (!this.#stopped) {
      try {
        await this.#write()
        this.#writes++
      } catch (error) {
        if (!(error instanceof KubeError) || !error.isRetryable) throw error
        if (error.status === 0) this.#outages++
        await wait(this.#clock, 5)
      }
    }
  }

  async #write(): Promise<void> {
    const number = this.#random.integer(1, this.#names)
    const place = { kind: configMaps, namespace: number % 2 === 0 ? 'default' : 'kube-system', name: `churned-${number}` }
    const data = { value: String(this.#random.uint32()), padding: 'x'.repeat(this.#random.integer(0, 2000)) }
    const there = await this.#client.get(place)
    if (there === undefined) {
      const metadata = { name: place.name, namespace: place.namespace }
      await this.#client.create(configMaps, { apiVersion: 'v1', kind: 'ConfigMap', metadata, data })
    } else if (this.#random.chance(0.3)) {
      await this.#client.delete(place, { uid: there.metadata.uid! })
    } else if (this.#random.chance(0.5)) {
      await this.#client.replace(place, { ...there, data })
    } else {
      await this.#client.mergePatch(place, { metadata: { resourceVersion: there.metadata.resourceVersion }, data })
    }
  }
}

/** `namespace/name → uid@resourceVersion` of each. */
export function versionsOf(objects: Iterable<KubeObject | KubernetesObject>): Record<string, string> {
  return Object.fromEntries(Array.from(objects, ({ metadata }): [string, string] =>
    [`${metadata!.namespace}/${metadata!.name}`, `${metadata!.uid}@${metadata!.resourceVersion}`]).toSorted(([a], [b]) => a < b ? -1 : 1))
}

/** What is in the API now. */
export async function versionsIn(client: KubeClient): Promise<Record<string, string>> {
  return versionsOf((await client.list(configMaps, {}, new AbortController().signal)).items)
}

/** The library's own informer of ConfigMaps, driven as its documentation says: started anew some time after an error. */
export class LibraryInformer {
  readonly #informer: ReturnType<typeof makeInformer>
  readonly #restartMs: number
  readonly #clock = new SystemClock()
  #timer: Timer | undefined
  #errors = 0

  constructor(kubeconfigPath: string, restartMs: number) {
    const config = new KubeConfig()
    config.loadFromFile(kubeconfigPath)
    const core = config.makeApiClient(CoreV1Api)
    this.#restartMs = restartMs
    this.#informer = makeInformer(config, kindPath(configMaps), () => core.listConfigMapForAllNamespaces())
    this.#informer.on('error', () => {
      this.#errors++
      this.#timer = this.#clock.after(this.#restartMs, () => { void this.#informer.start() })
    })
  }

  /** Errors that it has told. */
  get errors(): number { return this.#errors }

  versions(): Record<string, string> { return versionsOf((this.#informer as unknown as { list(): KubernetesObject[] }).list()) }

  start(): Promise<void> { return this.#informer.start() }

  async stop(): Promise<void> {
    this.#timer?.cancel()
    await this.#informer.stop()
  }
}
