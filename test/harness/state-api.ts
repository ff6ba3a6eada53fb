import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Authority } from '../../packages/cloudcore/src/identity/index.ts'
import { Definitions } from '../../packages/kube-api/src/crd/definitions.ts'
import { GarbageCollector } from '../../packages/kube-api/src/garbage-collector.ts'
import { builtInResources } from '../../packages/kube-api/src/kinds/built-in-resources.ts'
import { NamespaceLifecycle } from '../../packages/kube-api/src/namespace-lifecycle.ts'
import { ObjectStore } from '../../packages/kube-api/src/object-store.ts'
import { Registry } from '../../packages/kube-api/src/registry.ts'
import { forbiddenTo } from '../../packages/kube-api/src/server/authorization.ts'
import { KubeApiServer } from '../../packages/kube-api/src/server/kube-api-server.ts'
import { writeKubeconfig } from '../../packages/kube-api/src/server/kubeconfig.ts'
import { StatusError } from '../../packages/kube-api/src/status-error.ts'
import { SystemClock, SystemRandom, silentLog } from '../../packages/runtime/src/index.ts'
import { Committer, MemoryStore } from '../../packages/store/src/index.ts'
import type { StoreEntry } from '../../packages/store/src/index.ts'
import { CutProxy } from './cut-proxy.ts'
import { DevicesApi } from './device-api.ts'
import { KubeHttp } from './kube-http.ts'
import { lastingPort } from './ports.ts'

/** What the API answers to cloudcore: `list secrets` or `* secrets` or `list *`, each with a refusal. */
export type Refusals = Readonly<Record<string, 'forbidden' | 'unavailable'>>

/** What etcd would have in a backup. */
export type Backup = readonly StoreEntry[]

const names = { administrator: 'admin', cloudcore: 'system:serviceaccount:holdfast-system:cloudcore' } as const
const firstKey = Buffer.alloc(0)
const endKey = Buffer.alloc(64, 0xff)

/**
 * The Kubernetes API of a cluster that has the device kinds, as a test scripts it: goes down and comes back, refuses cloudcore,
 * forgets history, is restored from a backup. cloudcore reaches it through `link`, the test directly.
 */
export class StateApi implements AsyncDisposable {
  readonly folder: string
  readonly link: CutProxy
  /** Of what cloudcore asks from now on; watches that are under way end with `endWatches`. */
  refusals: Refusals = {}
  readonly #authority: Authority
  readonly #historyEventsMax: number | undefined
  #store = new MemoryStore()
  #objects!: ObjectStore
  #registry!: Registry
  #controllers: readonly { close(): Promise<void> }[] = []
  #server: KubeApiServer | undefined
  #port = 0

  private constructor(folder: string, link: CutProxy, authority: Authority, historyEventsMax: number | undefined) {
    this.folder = folder
    this.link = link
    this.#authority = authority
    this.#historyEventsMax = historyEventsMax
  }

  static async start(options: { readonly historyEventsMax?: number } = {}): Promise<StateApi> {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-state-api-'))
    const authority = await Authority.open({ folder: join(folder, 'identity'), serverNames: [], hostname: 'cluster' },
      { clock: new SystemClock(), log: silentLog })
    const link = await CutProxy.open(() => api.port)
    const api = new StateApi(folder, link, authority, options.historyEventsMax)
    await api.#open()
    await api.up()
    await api.kubeconfigThrough(link, 'cloudcore.kubeconfig')
    await writeKubeconfig(api.adminKubeconfig, {
      name: 'cluster', server: api.#server!.url, caPem: authority.caPem, token: names.administrator
    })
    using administrator = await KubeHttp.open(api.adminKubeconfig)
    await new DevicesApi(administrator).installDefinitions()
    return api
  }

  get port(): number { return this.#port }

  get adminKubeconfig(): string { return join(this.folder, 'admin.kubeconfig') }

  /** Of cloudcore's account. */
  get kubeconfig(): string { return join(this.folder, 'cloudcore.kubeconfig') }

  /** For another cloudcore, with a link of its own. Its path. */
  async kubeconfigThrough(link: CutProxy, file: string): Promise<string> {
    const path = join(this.folder, file)
    await writeKubeconfig(path, {
      name: 'cluster', server: `https://127.0.0.1:${link.port}`, caPem: this.#authority.caPem,
      token: names.cloudcore
    })
    return path
  }

  async up(): Promise<void> {
    const { certificate: certificatePem, key: keyPem } = this.#authority.server
    this.#port ||= await lastingPort()
    this.#server = await KubeApiServer.open({
      name: 'cluster', host: '127.0.0.1', port: this.#port, tls: { certificatePem, keyPem },
      tokens: Object.values(names).map(name => ({ token: name, user: { name, groups: ['system:authenticated'] } })),
      version: { major: '1', minor: '32', gitVersion: 'v1.32.0', gitCommit: '', buildDate: '2026-01-01T00:00:00Z', platform: '' }
    }, {
      registry: this.#registry, objects: this.#objects, clock: new SystemClock(), random: new SystemRandom(), log: silentLog,
      authorizer: (user, attributes) => {
        const { verb, target } = attributes
        if (user.name !== names.cloudcore || target === undefined) return undefined
        const refusal = [`${verb} ${target.plural}`, `* ${target.plural}`, `${verb} *`].map(asked => this.refusals[asked])
          .find(found => found !== undefined)
        if (refusal === undefined) return undefined
        return refusal === 'forbidden' ? forbiddenTo(user, attributes)
          : new StatusError(503, 'ServiceUnavailable', 'etcdserver: request timed out')
      }
    })
  }

  async down(): Promise<void> {
    await this.#server?.close()
    this.#server = undefined
  }

  /** Ends the watches and what else cloudcore has under way; it may begin anew. */
  endWatches(): void { this.link.reset() }

  async backup(): Promise<Backup> { return await this.#store.scan({ gte: firstKey, lt: endKey, bytesMax: Infinity }) }

  /** Everything is again as it was, and so are the versions; the API is down for as long as that takes. */
  async restore(backup: Backup): Promise<void> {
    await this.down()
    await this.#close()
    this.#store = new MemoryStore()
    await new Promise<void>((resolve, reject) => {
      this.#store.write(backup.map(({ key, value }) => ({ type: 'put', key, value })), { sync: true }, error => {
        if (error === undefined) resolve()
        else reject(error)
      })
    })
    await this.#open()
    await this.up()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down()
    await this.#close()
    await this.link[Symbol.asyncDispose]()
    await rm(this.folder, { recursive: true, force: true })
  }

  async #open(): Promise<void> {
    const [clock, log] = [new SystemClock(), silentLog]
    const committer = new Committer({}, { store: this.#store, clock, onFailure: error => { throw error } })
    this.#objects = await ObjectStore.open(
      this.#historyEventsMax === undefined ? {} : { historyEventsMax: this.#historyEventsMax }, this.#store, { committer, clock, log })
    this.#registry = new Registry(builtInResources())
    const shared = { store: this.#objects, resources: this.#registry, clock, random: new SystemRandom(), log }
    const namespaces = new NamespaceLifecycle(shared)
    const garbage = new GarbageCollector(shared)
    const definitions = new Definitions({ ...shared, registry: this.#registry, garbage })
    this.#controllers = [definitions, namespaces, garbage]
    definitions.start()
    await namespaces.start()
    garbage.start()
  }

  async #close(): Promise<void> {
    await Promise.all(this.#controllers.map(controller => controller.close()))
    this.#objects.close()
  }
}
