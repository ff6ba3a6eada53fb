import type { Clock, Log, Random, Service } from '@holdfast/runtime'
import type { Committer, Store } from '@holdfast/store'
import { Definitions } from './crd/definitions.ts'
import { GarbageCollector } from './garbage-collector.ts'
import { builtInResources } from './kinds/built-in-resources.ts'
import { NamespaceLifecycle } from './namespace-lifecycle.ts'
import { ObjectStore, type ObjectStoreOptions } from './object-store.ts'
import { Registry } from './registry.ts'
import { KubeApiServer, type KubeApiServerOptions } from './server/kube-api-server.ts'

export interface EmbeddedKubeApiOptions {
  readonly server: KubeApiServerOptions
  readonly objects: ObjectStoreOptions
}

export interface EmbeddedKubeApiComponents {
  readonly store: Store
  readonly committer: Committer
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Works on the objects by itself. */
interface Controller {
  readonly isIdle: boolean
  idle(): Promise<void>
  close(): Promise<void>
}

/**
 * A Kubernetes API without a cluster: objects on a store, the kinds that are built in and what definitions add to them, what
 * works on them in the background, and the server in front.
 */
export class EmbeddedKubeApi implements Service, AsyncDisposable {
  readonly name = 'kube-api'
  readonly objects: ObjectStore
  readonly registry: Registry
  readonly server: KubeApiServer
  readonly #controllers: readonly Controller[]
  #closed: Promise<void> | undefined

  private constructor(objects: ObjectStore, registry: Registry, server: KubeApiServer, controllers: readonly Controller[]) {
    this.objects = objects
    this.registry = registry
    this.server = server
    this.#controllers = controllers
  }

  /** Rejects with `LISTEN_FAILED` or what the store says. */
  static async open(options: EmbeddedKubeApiOptions, components: EmbeddedKubeApiComponents): Promise<EmbeddedKubeApi> {
    const { store, clock, random, log } = components
    const objects = await ObjectStore.open(options.objects, store, components)
    const registry = new Registry(builtInResources())
    const shared = { store: objects, resources: registry, clock, random, log }
    const namespaces = new NamespaceLifecycle(shared)
    const garbage = new GarbageCollector(shared)
    const definitions = new Definitions({ ...shared, registry, garbage })
    // First what is served: what refers to a kind that is not there is left alone.
    definitions.start()
    await namespaces.start()
    garbage.start()
    const server = await KubeApiServer.open(options.server, { registry, objects, clock, random, log })
    return new EmbeddedKubeApi(objects, registry, server, [definitions, namespaces, garbage])
  }

  /** To be called when the store has been opened anew after a failed write (store: Database). */
  async reopen(store: Store, suspect: boolean): Promise<void> { await this.objects.reopen(store, suspect) }

  /** Resolves when the controllers have nothing left to do; what one does may be an occasion for another one. */
  async idle(): Promise<void> {
    while (!this.#controllers.every(({ isIdle }) => isIdle)) {
      await Promise.all(this.#controllers.map(controller => controller.idle()))
    }
  }

  async run(signal: AbortSignal): Promise<void> {
    if (!signal.aborted) await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }))
    await this.close()
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.close() }

  /** Requests first, then what works in the background, then the objects. The store is its owner's to close. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    await this.server.close()
    await Promise.all(this.#controllers.map(controller => controller.close()))
    this.objects.close()
  }
}
