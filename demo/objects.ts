import { join } from 'node:path'
import type { Daemon } from '../test/harness/daemons.ts'
import { KubeHttp } from '../test/harness/kube-http.ts'

const namespace = '/api/v1/namespaces/default'
const configMap = `${namespace}/configmaps/speed-limit`
const secret = `${namespace}/secrets/door-code`

/** What the node's own API serves of them. */
export interface ObjectsOnNode {
  /** Of the ConfigMap; undefined: it is not there. */
  readonly speedLimit: string | undefined
  readonly hasSecret: boolean
}

/** A Pod for the node in cloudcore's Kubernetes API, with a ConfigMap and a Secret that it names. */
export class DemoObjects {
  readonly #cloud: Daemon
  readonly #edge: Daemon

  constructor(cloud: Daemon, edge: Daemon) {
    this.#cloud = cloud
    this.#edge = edge
  }

  async create(node: string): Promise<void> {
    using cluster = await this.#cluster()
    await cluster.check('POST', `${namespace}/configmaps`, {
      apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'speed-limit' }, data: { kmh: '50' }
    })
    await cluster.check('POST', `${namespace}/secrets`, {
      apiVersion: 'v1', kind: 'Secret', metadata: { name: 'door-code' }, stringData: { code: '4711' }
    })
    await cluster.check('POST', `${namespace}/pods`, {
      apiVersion: 'v1', kind: 'Pod', metadata: { name: 'gate' }, spec: {
        nodeName: node, containers: [{
          name: 'gate', image: 'registry.example/gate:1.0',
          envFrom: [{ configMapRef: { name: 'speed-limit' } }, { secretRef: { name: 'door-code', optional: true } }]
        }]
      }
    })
  }

  /** 50 becomes 30, and the Secret goes. */
  async change(): Promise<void> {
    using cluster = await this.#cluster()
    await cluster.check('PATCH', configMap, { data: { kmh: '30' } })
    await cluster.check('DELETE', secret)
  }

  async onNode(): Promise<ObjectsOnNode> {
    using local = await KubeHttp.open(join(this.#edge.dataDir, 'local.kubeconfig'))
    const { status, body } = await local.send<{ data?: Record<string, string> }>('GET', configMap)
    return {
      speedLimit: status === 200 ? body.data?.['kmh'] : undefined,
      hasSecret: (await local.send('GET', secret)).status === 200
    }
  }

  /** Why the Pod does not run, as the cluster shows it; undefined: the node has not reported it. */
  async podReason(): Promise<string | undefined> {
    using cluster = await this.#cluster()
    return (await cluster.check<{ status: { reason?: string } }>('GET', `${namespace}/pods/gate`)).status.reason
  }

  #cluster(): Promise<KubeHttp> { return KubeHttp.open(join(this.#cloud.dataDir, 'kubeconfig')) }
}
