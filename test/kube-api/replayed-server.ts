import { EmbeddedKubeApi } from '../../packages/kube-api/src/embedded-kube-api.ts'
import type { Json } from '../../packages/kube-api/src/object.ts'
import { kubeApiServerLimits } from '../../packages/kube-api/src/server/limits.ts'
import { SeededRandom, jsonLog } from '../../packages/runtime/src/index.ts'
import { HandClock } from '../../packages/runtime/src/testing/hand-clock.ts'
import { Committer, MemoryStore } from '../../packages/store/src/index.ts'
import type { Recording } from './recording.ts'
import { recordedDefinitions } from './recorded-definitions.ts'

const rootCaDescription = 'Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the '
  + 'internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.'

/** A server in memory, with what was there when a recording began. Its log is for people who look into a failure. */
export class ReplayedServer implements AsyncDisposable {
  readonly token = 'admin-of-the-replay'
  readonly #clock: HandClock
  readonly #startMs: number
  readonly log: string[] = []
  readonly #api: EmbeddedKubeApi
  readonly #committer: Committer

  private constructor(clock: HandClock, api: EmbeddedKubeApi, committer: Committer, log: string[]) {
    this.#clock = clock
    this.#startMs = clock.nowMs
    this.#api = api
    this.#committer = committer
    this.log = log
  }

  static async open({ recordedAt, needs }: Recording): Promise<ReplayedServer> {
    const clock = new HandClock(Date.parse(recordedAt))
    const store = new MemoryStore()
    const committer = new Committer({}, { store, clock, onFailure: error => { throw error } })
    const lines: string[] = []
    const api = await EmbeddedKubeApi.open({
      server: {
        name: 'replayed',
        host: '127.0.0.1',
        port: 0,
        tokens: [{ token: 'admin-of-the-replay', user: { name: 'recorder', groups: ['system:masters'] } }],
        version: {
          major: '1', minor: '32', gitVersion: 'v1.32.0-holdfast', gitCommit: 'unknown', buildDate: '2026-01-01T00:00:00Z',
          platform: 'linux/amd64'
        }
      },
      objects: {}
    }, {
      store, committer, clock, random: new SeededRandom(1), log: jsonLog('warn', line => lines.push(line), () => clock.wallMs())
    })
    const server = new ReplayedServer(clock, api, committer, lines)
    await server.addRootCa('default')
    for (const definition of api.registry.group('apiextensions.k8s.io') === undefined ? [] : recordedDefinitions(needs)) {
      await server.post('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', definition)
    }
    await api.idle()
    // The recorded server had been running for a while.
    server.forgetHistory()
    return server
  }

  /** Lets time pass up to so long after the start of the recording. */
  passTo(atMs: number): void { this.#clock.advance(Math.max(0, this.#startMs + atMs - this.#clock.nowMs)) }

  get url(): string { return this.#api.server.url }

  /** What the controller manager of the recorded cluster put into every namespace. */
  async addRootCa(namespace: string): Promise<void> {
    await this.post(`/api/v1/namespaces/${namespace}/configmaps`, {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'kube-root-ca.crt', annotations: { 'kubernetes.io/description': rootCaDescription } },
      data: { 'ca.crt': 'a certificate' }
    })
  }

  /** As if the history had become too old: of one resource or of all. */
  forgetHistory(resource?: string): void { this.#api.objects.forgetHistory(resource) }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = this.#api.close()
    this.#clock.advance(kubeApiServerLimits.drainMs.value)
    await closed
    await this.#committer.close()
  }

  /** Rejects where it is not taken. */
  async post(path: string, body: Json): Promise<void> {
    const response = await fetch(`${this.url}${path}`, {
      method: 'POST',
      headers: { 'authorization': `Bearer ${this.token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body)
    })
    if (!response.ok) throw new Error(`${path}: ${await response.text()}`)
  }
}
