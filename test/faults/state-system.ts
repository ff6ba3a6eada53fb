import { join } from 'node:path'
import { expect } from 'vitest'
import { CutProxy } from '../harness/cut-proxy.ts'
import { Fleet, until } from '../harness/daemons.ts'
import type { Daemon, DaemonOptions } from '../harness/daemons.ts'
import { KubeHttp } from '../harness/kube-http.ts'
import type { StateApi } from '../harness/state-api.ts'
import { StateChurn } from '../harness/state-churn.ts'
import { documentsOf, heldDifferences, reportDifferences } from '../harness/state-oracle.ts'
import type { Documents } from '../harness/state-oracle.ts'
import { StateWatch } from '../harness/state-watch.ts'
import { metricOf, randomOf, seed } from './fault-system.ts'

export const node = 'edge-1'

/** O6: from the last fault until both sides are equal. Back-offs of 30 s, twice, on a machine that does other things too. */
export const convergenceMs = 90_000

/** Everything takes minutes: where nothing else is asked for, only the cases are run in which most can go wrong. */
export const isFull = process.env['ROUNDS'] !== undefined

export interface StateSystemOptions {
  /** Number of the test: its random moments are its own. */
  readonly test: number
  /** cloudcore in mode `cluster`, against an API that the test scripts. Default: the embedded one. */
  readonly api?: StateApi
  readonly edge?: DaemonOptions
}

interface Route {
  to: Daemon
  port: number | undefined
}

/** One cloudcore, one edgecore, a Kubernetes API that changes, and a client of the node's API that sees what goes. */
export class StateSystem implements AsyncDisposable {
  readonly fleet: Fleet
  readonly edge: Daemon
  /** Between the node and the cloud. */
  readonly link: CutProxy
  /** The cluster's API, for its administrator. */
  readonly cluster: KubeHttp
  readonly local: KubeHttp
  readonly churn: StateChurn
  readonly watch: StateWatch
  /** Where the node's link leads: to a cloudcore, or to a port before it. */
  readonly route: Route

  private constructor(
    fleet: Fleet, edge: Daemon, link: CutProxy, route: Route, cluster: KubeHttp, local: KubeHttp, churn: StateChurn
  ) {
    this.fleet = fleet
    this.edge = edge
    this.link = link
    this.cluster = cluster
    this.local = local
    this.churn = churn
    this.route = route
    this.watch = new StateWatch(join(edge.dataDir, 'local.kubeconfig'))
  }

  /** Everything runs, the anchors are on the node. */
  static async start({ test, api, edge: edgeOptions = {} }: StateSystemOptions): Promise<StateSystem> {
    const fleet = await Fleet.start(api === undefined ? {} : { cloud: { set: ['kube.mode=cluster', `kube.kubeconfig=${api.kubeconfig}`] } })
    let link: CutProxy | undefined
    try {
      const route: Route = { to: fleet.cloud, port: undefined }
      link = await CutProxy.open(() => route.port ?? Number(new URL(route.to.endpoints.tunnel!).port))
      const edge = await fleet.join(node, {
        ...edgeOptions, set: [`server=wss://127.0.0.1:${link.port}`, 'link.retryMax=300ms', ...edgeOptions.set ?? []]
      })
      await edge.start()
      const cluster = await KubeHttp.open(api?.adminKubeconfig ?? join(fleet.cloud.dataDir, 'kubeconfig'))
      const local = await KubeHttp.open(join(edge.dataDir, 'local.kubeconfig'))
      const churn = new StateChurn({ node }, { api: cluster, random: randomOf(test) })
      const system = new StateSystem(fleet, edge, link, route, cluster, local, churn)
      await churn.begin()
      await system.converged('the anchors')
      return system
    } catch (error) {
      await fleet[Symbol.asyncDispose]()
      await link?.[Symbol.asyncDispose]()
      throw error
    }
  }

  get cloud(): Daemon { return this.fleet.cloud }

  /** Stops the churn, and waits until O5 holds. Gives how long that took, in ms. Nothing may have gone that is still wanted. */
  async converged(what: string, withinMs = convergenceMs): Promise<number> {
    await this.churn.pause()
    const startedMs = performance.now()
    let differences: readonly string[] = []
    try {
      await until('both sides are equal', async () => {
        try {
          const [cluster, local] = [await documentsOf(this.cluster), await documentsOf(this.local)]
          differences = [...heldDifferences(node, cluster, local), ...reportDifferences(cluster, local)]
        } catch (error) {
          differences = [String(error)]
        }
        return differences.length === 0
      }, withinMs)
    } catch (error) {
      throw new Error(`${what}, seed ${seed}: ${String(error)}\n${differences.slice(0, 10).join('\n')}`)
    }
    const tookMs = performance.now() - startedMs
    await this.churn.look()
    this.expectNothingWrong(what)
    return tookMs
  }

  /** What the cluster wanted all the time is still there, and what it acknowledged. */
  expectNothingWrong(what: string): void {
    expect(this.watch.deletions.filter(gone => !this.churn.unwanted.has(gone)), `${what}, seed ${seed}: gone and still wanted`).toEqual([])
    expect(this.churn.lost, `${what}, seed ${seed}: acknowledged by the API and lost`).toEqual([])
  }

  /** What the node serves now; what it reports of itself changes by itself, and is left out. */
  async held(): Promise<Documents> {
    const local = await documentsOf(this.local)
    return { ...local, nodes: local.nodes.map(own => ({ ...own, status: {}, metadata: { ...own.metadata, resourceVersion: '' } })) }
  }

  /** Where cloudcore meets another API than before, says that it may take its place, as an operator does. True where it did. */
  async adoptApi(): Promise<boolean> {
    let text = ''
    await until('cloudcore knows its API, or that it is another one', async () => {
      text = await (await fetch(`${this.cloud.endpoints.ops}/readyz?verbose`)).text()
      return /^\[i\]kubernetes (in sync$|.*kube\.adopt=)/m.test(text)
    }, 60_000)
    const adopted = /--set (kube\.adopt=[^\s)]+)/.exec(text)?.[1]
    if (adopted === undefined) return false
    await this.cloud.stop()
    this.cloud.settings = [adopted]
    await this.cloud.start()
    await this.linked()
    return true
  }

  async linked(): Promise<void> {
    await until('the link is up', async () => await metricOf(this.edge, 'holdfast_edge_link_up') === 1, 60_000)
  }

  async unlinked(): Promise<void> {
    await until('the link is down', async () => await metricOf(this.edge, 'holdfast_edge_link_up') === 0, 60_000)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.churn.pause()
    await this.watch[Symbol.asyncDispose]()
    this.cluster[Symbol.dispose]()
    this.local[Symbol.dispose]()
    await this.fleet[Symbol.asyncDispose]()
    await this.link[Symbol.asyncDispose]()
  }
}

/** What `/readyz?verbose` says of Kubernetes. */
export async function kubernetesOf(cloud: Daemon): Promise<string> {
  const text = await (await fetch(`${cloud.endpoints.ops}/readyz?verbose`)).text()
  return /^\[i\]kubernetes (.*)$/m.exec(text)?.[1] ?? ''
}
