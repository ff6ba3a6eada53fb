import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Authority } from '../../packages/cloudcore/src/identity/index.ts'
import { Definitions } from '../../packages/kube-api/src/crd/definitions.ts'
import { GarbageCollector } from '../../packages/kube-api/src/garbage-collector.ts'
import { NamespaceLifecycle } from '../../packages/kube-api/src/namespace-lifecycle.ts'
import { builtInResources } from '../../packages/kube-api/src/kinds/built-in-resources.ts'
import { ObjectStore } from '../../packages/kube-api/src/object-store.ts'
import { Registry } from '../../packages/kube-api/src/registry.ts'
import { forbiddenTo, isOpenPath, type Authorizer } from '../../packages/kube-api/src/server/authorization.ts'
import { KubeApiServer } from '../../packages/kube-api/src/server/kube-api-server.ts'
import { writeKubeconfig } from '../../packages/kube-api/src/server/kubeconfig.ts'
import { SystemClock, SystemRandom, silentLog } from '../../packages/runtime/src/index.ts'
import { Committer, MemoryStore } from '../../packages/store/src/index.ts'
import { lastingPort } from './ports.ts'

/** A rule of RBAC. */
export interface PolicyRule {
  readonly apiGroups: readonly string[]
  readonly resources: readonly string[]
  readonly resourceNames?: readonly string[]
  readonly verbs: readonly string[]
  /** Set for a rule of a Role. */
  readonly namespace?: string
}

const users = { administrator: 'admin', cloudcore: 'system:serviceaccount:holdfast-system:cloudcore' } as const

/**
 * A cluster's API that is somebody else's: cloudcore speaks to it with an account of its own, which has the rights that rules
 * give. It can be taken down and brought up again with its objects, on the same port.
 */
export class KubeCluster implements AsyncDisposable {
  readonly folder: string
  /** What cloudcore asked for and was refused, as `verb resource`. */
  readonly refused = new Set<string>()
  /** What it asked for and was given. */
  readonly used = new Set<string>()
  /** Undefined: it may do everything; no rule: nothing. */
  rules: readonly PolicyRule[] | undefined
  readonly #authority: Authority
  readonly #objects: ObjectStore
  readonly #registry: Registry
  #server: KubeApiServer | undefined
  #port = 0

  private constructor(folder: string, authority: Authority, objects: ObjectStore, registry: Registry) {
    this.folder = folder
    this.#authority = authority
    this.#objects = objects
    this.#registry = registry
  }

  static async start(): Promise<KubeCluster> {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-cluster-'))
    const [clock, log] = [new SystemClock(), silentLog]
    const authority = await Authority.open({ folder: join(folder, 'identity'), serverNames: [], hostname: 'cluster' }, { clock, log })
    const store = new MemoryStore()
    const committer = new Committer({}, { store, clock, onFailure: error => { throw error } })
    const objects = await ObjectStore.open({}, store, { committer, clock, log })
    const registry = new Registry(builtInResources())
    const shared = { store: objects, resources: registry, clock, random: new SystemRandom(), log }
    const garbage = new GarbageCollector(shared)
    new Definitions({ ...shared, registry, garbage }).start()
    await new NamespaceLifecycle(shared).start()
    garbage.start()
    const cluster = new KubeCluster(folder, authority, objects, registry)
    await cluster.up()
    for (const [file, token] of [[cluster.adminKubeconfig, 'of-the-administrator'], [cluster.kubeconfig, 'of-cloudcore']] as const) {
      await writeKubeconfig(file, {
        name: 'cluster', server: cluster.#server!.url, caPem: authority.caPem, token
      })
    }
    return cluster
  }

  get adminKubeconfig(): string { return join(this.folder, 'admin.kubeconfig') }

  /** Of cloudcore's account. */
  get kubeconfig(): string { return join(this.folder, 'cloudcore.kubeconfig') }

  /** `https://127.0.0.1:12345` */
  get url(): string { return `https://127.0.0.1:${this.#port}` }

  /** A file beside the kubeconfigs; its path. */
  async keep(name: string, text: string): Promise<string> {
    const path = join(this.folder, name)
    await writeFile(path, text)
    return path
  }

  async up(): Promise<void> {
    const { certificate: certificatePem, key: keyPem } = this.#authority.server
    this.#port ||= await lastingPort()
    this.#server = await KubeApiServer.open({
      name: 'cluster', host: '127.0.0.1', port: this.#port, tls: { certificatePem, keyPem },
      tokens: [
        { token: 'of-the-administrator', user: { name: users.administrator, groups: ['system:masters'] } },
        { token: 'of-cloudcore', user: { name: users.cloudcore, groups: ['system:serviceaccounts'] } }
      ],
      version: { major: '1', minor: '32', gitVersion: 'v1.32.0', gitCommit: '', buildDate: '2026-01-01T00:00:00Z', platform: '' }
    }, {
      registry: this.#registry, objects: this.#objects, clock: new SystemClock(), random: new SystemRandom(), log: silentLog,
      authorizer: this.#authorize
    })
  }

  async down(): Promise<void> {
    await this.#server?.close()
    this.#server = undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down()
    this.#objects.close()
    await rm(this.folder, { recursive: true, force: true })
  }

  readonly #authorize: Authorizer = (user, attributes) => {
    const { verb, target, path } = attributes
    if (user.name === users.administrator || isOpenPath(path)) return undefined
    if (user.name !== users.cloudcore) return forbiddenTo(user, attributes)
    const resource = target === undefined ? path : [target.plural, ...target.subresource === undefined ? [] : [target.subresource]].join('/')
    const may = this.rules === undefined || this.rules.some(({ apiGroups, resources, resourceNames, verbs, namespace }) =>
      target !== undefined && apiGroups.includes(target.group) && resources.includes(resource) && verbs.includes(verb)
      && (resourceNames === undefined || (target.name !== undefined && resourceNames.includes(target.name)))
      && (namespace === undefined || namespace === target.namespace))
    const known = may ? this.used : this.refused
    known.add(`${verb} ${resource}`)
    return may ? undefined : forbiddenTo(user, attributes)
  }
}
