import type { KubeObject } from '@holdfast/kube-api'
import { describeError } from '@holdfast/runtime'
import type { Clock, Log } from '@holdfast/runtime'
import type { KubeClient, KubeKind, KubeList, ListSelection, ObjectPlace, WatchEvent } from './kube-client.ts'
import { kubeStatus, unanswered, type KubeError } from './kube-error.ts'
import { unlessAborted } from './unless-aborted.ts'

export interface ControllersClientOptions {
  /** After an attempt that failed, the next one is made no earlier. */
  readonly retryMs: number
}

export interface ControllersClientComponents {
  /** Makes the client: loads its library, reads the kubeconfig and the credentials. */
  readonly open: () => Promise<KubeClient & AsyncDisposable>
  readonly clock: Clock
  readonly log: Log
}

/**
 * A KubeClient that is there at once, and opened by the first request. Where that fails (a kubeconfig that is not there yet,
 * say), requests fail with it, as with an API that does not answer, and a later one tries again.
 */
export class ControllersClient implements KubeClient, AsyncDisposable {
  readonly #options: ControllersClientOptions
  readonly #components: ControllersClientComponents
  #opening: Promise<KubeClient> | undefined
  #opened: AsyncDisposable | undefined
  /** When the last attempt failed. */
  #failedMs = -Infinity
  #failure = ''
  readonly #listFailures = new Map<KubeKind, { readonly text: string, readonly isMissing: boolean }>()
  readonly #closed = new AbortController()

  constructor(options: ControllersClientOptions, components: ControllersClientComponents) {
    this.#options = options
    this.#components = components
  }

  /** Why there is no client, or why the last list of a kind that the API knows failed; empty where nothing is wrong. */
  get failure(): string {
    const failed = [...this.#listFailures.values()].filter(({ isMissing }) => !isMissing)
    return this.#failure || failed.map(({ text }) => text).join('; ')
  }

  /** Kinds that the API did not know when they were listed last. */
  get missing(): readonly KubeKind[] {
    return [...this.#listFailures].filter(([, { isMissing }]) => isMissing).map(([kind]) => kind)
  }

  async get(place: ObjectPlace): Promise<KubeObject | undefined> { return await (await this.#client()).get(place) }

  async list(kind: KubeKind, selection: ListSelection, signal: AbortSignal): Promise<KubeList> {
    const client = await unlessAborted(this.#client(), signal)
    try {
      const list = await client.list(kind, selection, signal)
      this.#listFailures.delete(kind)
      return list
    } catch (error) {
      if (!signal.aborted) this.#listFailures.set(kind, { text: describeError(error), isMissing: kubeStatus(error) === 404 })
      throw error
    }
  }

  async watch(
    kind: KubeKind, selection: ListSelection, resourceVersion: string, onEvent: (event: WatchEvent) => void, signal: AbortSignal
  ): Promise<void> {
    await (await unlessAborted(this.#client(), signal)).watch(kind, selection, resourceVersion, onEvent, signal)
  }

  async create(kind: KubeKind, object: KubeObject): Promise<KubeObject> { return await (await this.#client()).create(kind, object) }

  async replace(place: ObjectPlace, object: KubeObject, subresource?: 'status'): Promise<KubeObject> {
    return await (await this.#client()).replace(place, object, subresource)
  }

  async mergePatch(place: ObjectPlace, patch: object, subresource?: 'status'): Promise<KubeObject> {
    return await (await this.#client()).mergePatch(place, patch, subresource)
  }

  async delete(place: ObjectPlace, options?: { readonly gracePeriodSeconds?: number, readonly uid?: string }): Promise<void> {
    await (await this.#client()).delete(place, options)
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.close() }

  /** Cuts what is under way, and what waits for a client that is being opened. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return
    this.#closed.abort(closedError())
    await this.#opened?.[Symbol.asyncDispose]()
  }

  #client(): Promise<KubeClient> {
    if (this.#closed.signal.aborted) return Promise.reject(closedError())
    const { clock } = this.#components
    if (this.#opening === undefined) {
      if (clock.monotonicMs() - this.#failedMs < this.#options.retryMs) return Promise.reject(unanswered('Unreachable', this.#failure))
      this.#opening = this.#open()
    }
    return unlessAborted(this.#opening, this.#closed.signal)
  }

  async #open(): Promise<KubeClient> {
    const { open, clock, log } = this.#components
    try {
      const client = await open()
      if (this.#closed.signal.aborted) await client[Symbol.asyncDispose]()
      this.#opened = client
      this.#failure = ''
      return client
    } catch (error) {
      const failure = describeError(error)
      // Once for each reason, however often it is tried again.
      if (failure !== this.#failure) log.error('no way to the Kubernetes API; it is tried again', { error: failure })
      this.#failure = failure
      this.#failedMs = clock.monotonicMs()
      this.#opening = undefined
      throw unanswered('Unreachable', failure, error)
    }
  }
}

const closedError = (): KubeError => unanswered('Closed', 'the client of the Kubernetes API is closed')
