import { backoffDelayMs, describeError, wait } from '@holdfast/runtime'
import type { Clock, Log, NodeName, Random, Service } from '@holdfast/runtime'
import type { NodeState } from '../hub/hub.ts'
import { Devices } from '../devices/devices.ts'
import type { DevicesOptions } from '../devices/devices.ts'
import { NodeSources } from '../state/node-source.ts'
import { StatusWriter, statusWriterDefaults } from '../state/status-writer.ts'
import type { NodeLinks } from '../state/up-links.ts'
import { nodeStatuses, podStatuses } from '../state/up-collection.ts'
import { UpTargets } from '../state/up-target.ts'
import { downCollections, viewKinds } from '../state/view-collections.ts'
import type { DownCollection } from '../state/view-collections.ts'
import { ControllersClient } from './controllers-client.ts'
import type { KubeAccess } from './kube-access.ts'
import { kindName, kubeKinds } from './kube-kinds.ts'
import { KnownApi } from './known-api.ts'
import type { KnownApiOptions } from './known-api.ts'
import { ListInformer } from './list-informer.ts'
import { NodeController, nodeControllerDefaults } from './node-controller.ts'
import { NodeLeases } from './node-lease.ts'
import { NodeTolerations } from './node-tolerations.ts'
import { PodDeletions } from './pod-deletion.ts'
import { RestClient } from './rest-client.ts'

export interface ControllersOptions {
  readonly access: KubeAccess
  readonly knownApi: KnownApiOptions
  /** Something evicts from nodes that are away, and is to be kept from it. */
  readonly keepPods: boolean
  /** Whether the API shares this process, or is shared with everybody else in a cluster. */
  readonly api: DevicesOptions['api']
}

export interface ControllersComponents {
  readonly links: NodeLinks
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Between attempts at what has to succeed once. */
const retry = { baseMs: 1000, maxMs: 30_000 } as const

/**
 * Everything of cloudcore that has to do with Kubernetes, embedded or a cluster's: informers, what goes down to nodes and what
 * comes up from them. Nothing of it is waited for: with an API that is down, slow or refuses, nodes keep what they have, and it
 * is tried again.
 */
export class Controllers implements Service {
  readonly name = 'kubernetes'
  readonly informers: Readonly<Record<DownCollection, ListInformer>>
  readonly deviceStatuses: ListInformer
  readonly writer: StatusWriter
  readonly devices: Devices
  readonly targets: UpTargets
  readonly leases: NodeLeases
  readonly nodeController: NodeController
  readonly deletions: PodDeletions
  readonly tolerations: NodeTolerations | undefined
  readonly #client: ControllersClient
  readonly #knownApi: KnownApi
  readonly #sources: NodeSources
  readonly #components: ControllersComponents
  /** What has stopped all of it. */
  #fault = ''
  /** Why the API has no name yet. */
  #anonymous = 'not asked yet'

  constructor({ access, knownApi, keepPods, api }: ControllersOptions, components: ControllersComponents) {
    const { links, clock, random } = components
    const log = components.log.with({ part: 'kubernetes' })
    this.#components = { ...components, log }
    this.#knownApi = new KnownApi(knownApi)
    this.#client = new ControllersClient({ retryMs: retry.baseMs }, {
      open: () => RestClient.open({ access }, { clock, random }), clock, log
    })
    const client = this.#client
    this.informers = Object.fromEntries(downCollections.map(name =>
      [name, new ListInformer({ kind: viewKinds[name] }, { client, clock, random, log })])) as Record<DownCollection, ListInformer>
    this.deviceStatuses = new ListInformer({ kind: kubeKinds.deviceStatuses }, { client, clock, random, log })
    const { pods, nodes, devices, devicemodels } = this.informers
    this.writer = new StatusWriter(statusWriterDefaults, { client, informers: [pods, nodes], clock, random, log })
    this.devices = new Devices({ api }, {
      client, devices, deviceModels: devicemodels, deviceStatuses: this.deviceStatuses, nodes, clock, random, log
    })
    this.#sources = new NodeSources({ informers: { ...this.informers, devices: this.devices.stamped }, clock, log })
    const { writer } = this
    const collections = [podStatuses({ pods, writer }), nodeStatuses({ nodes, links, writer }), this.devices.twins]
    this.targets = new UpTargets({ collections, clock, log })
    this.leases = new NodeLeases({ client, nodes, links, clock, random, log })
    this.deletions = new PodDeletions({ client, pods, nodes, links, clock, random, log })
    this.tolerations = keepPods ? new NodeTolerations({ client, pods, nodes, clock, random, log }) : undefined
    this.nodeController = new NodeController(nodeControllerDefaults, { client, nodes, links, leases: this.leases, clock, random, log })
  }

  /** For the Hub. Undefined where there is none any more. */
  stateOf(node: NodeName): NodeState | undefined {
    return this.#fault !== '' ? undefined : { down: this.#sources.of(node), up: this.targets.of(node) }
  }

  /** All that nodes are to hold is known, and nothing has stopped since. */
  get inSync(): boolean {
    return this.#fault === '' && this.#anonymous === '' && this.#all.every(informer => informer.synced)
  }

  /** One line for people. */
  get status(): string {
    if (this.#fault !== '') return `stopped by a fault, restart cloudcore: ${this.#fault}`
    const { missing } = this.#client
    const waiting = this.#all.filter(({ synced, kind }) => !synced && !missing.includes(kind)).map(({ kind }) => kind.plural)
    const failure = this.#client.failure || this.#anonymous
    const known = waiting.length === 0 && this.#anonymous === ''
      ? failure === '' ? 'in sync' : `in sync until now; ${failure}`
      : `waits for ${waiting.length === 0 ? 'the API to be known' : waiting.join(', ')}${failure === '' ? '' : ` (${failure})`}`
    return missing.length === 0 ? known : `${known}; but for ${missing.map(kindName).join(', ')}, which the API does not know: `
      + 'kubectl apply -k deploy/crds'
  }

  get #all(): readonly ListInformer[] { return [...Object.values(this.informers), this.deviceStatuses] }

  /** Resolves when `signal` aborts and nothing more is asked of the API; what is being asked is cut. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = new AbortController()
    const aborted = new Promise<void>(resolve => {
      if (signal.aborted) resolve()
      else signal.addEventListener('abort', () => { resolve() }, { once: true })
    })
    const parts = [this.#identify(stop.signal), ...this.#all.map(informer => informer.run(stop.signal))]
    try {
      // A part ends before it is told to only by a fault. That is no reason to take the Log down, too.
      await Promise.race([aborted, ...parts.map(part => part.then(() => aborted))])
    } catch (error) {
      this.#fault = describeError(error)
      this.#components.log.error('what has to do with Kubernetes is stopped by a fault; nodes keep what they have', {
        error: error instanceof Error ? error.stack : this.#fault
      })
    }
    stop.abort(signal.reason)
    this.deletions.close()
    this.tolerations?.close()
    this.nodeController.close()
    this.leases.close()
    this.targets.close()
    this.#sources.close()
    this.devices.close()
    this.writer.close()
    await this.#client.close()
    await Promise.allSettled(parts)
    await aborted
  }

  /** What nodes have seen is of one API, named by the uid of its kube-system. */
  async #identify(signal: AbortSignal): Promise<void> {
    const { clock, random, log } = this.#components
    for (let attempt = 0; !signal.aborted; attempt++) {
      let reason: string
      try {
        const namespace = await this.#client.get({ kind: kubeKinds.namespaces, name: 'kube-system' })
        const uid = namespace?.metadata.uid
        const before = uid === undefined ? undefined : await this.#knownApi.admit(uid)
        if (uid !== undefined && before === undefined) {
          this.#sources.identify(uid)
          this.#anonymous = ''
          return
        }
        reason = uid === undefined ? 'the Kubernetes API has no namespace kube-system, whose uid would name it'
          : `this is another Kubernetes API (uid of kube-system ${uid}) than before (${before}): nodes keep the objects that they have; `
            + `where it is meant to take the other's place, start cloudcore with --set kube.adopt=${uid}`
      } catch (error) {
        if (signal.aborted) return
        reason = describeError(error)
      }
      if (reason !== this.#anonymous) log.warn('nodes wait for the Kubernetes API', { error: reason })
      this.#anonymous = reason
      await wait(clock, backoffDelayMs(attempt, retry, random), signal).catch(() => undefined)
    }
  }
}
