import { readFile } from 'node:fs/promises'
import { Agent, request } from 'node:https'

export interface KubeAnswer<T> { readonly status: number, readonly body: T }

/** Plain requests to a Kubernetes API, many at a time, over connections that are kept. */
export class KubeHttp implements Disposable {
  readonly #server: string
  readonly #token: string
  readonly #agent: Agent

  private constructor(server: string, token: string, ca: string) {
    this.#server = server
    this.#token = token
    this.#agent = new Agent({ ca, keepAlive: true, maxSockets: 8 })
  }

  /** As a kubeconfig says that a daemon has written: one cluster, one user with a token. */
  static async open(kubeconfig: string): Promise<KubeHttp> {
    const { clusters, users } = JSON.parse(await readFile(kubeconfig, 'utf8')) as {
      clusters: { cluster: { 'server': string, 'certificate-authority-data': string } }[], users: { user: { token: string } }[]
    }
    const { server, 'certificate-authority-data': ca } = clusters[0]!.cluster
    return new KubeHttp(server, users[0]!.user.token, Buffer.from(ca, 'base64').toString())
  }

  send<T>(method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: object): Promise<KubeAnswer<T>> {
    const contentType = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json'
    return new Promise((resolve, reject) => {
      const sent = request(`${this.#server}${path}`, {
        method, agent: this.#agent, headers: { 'authorization': `Bearer ${this.#token}`, 'content-type': contentType }
      }, answer => {
        let text = ''
        answer.setEncoding('utf8').on('data', (part: string) => { text += part }).on('error', reject)
        answer.on('end', () => { resolve({ status: answer.statusCode!, body: JSON.parse(text) as T }) })
      })
      sent.on('error', reject)
      sent.end(body === undefined ? undefined : JSON.stringify(body))
    })
  }

  /** Rejects where the answer is not 2xx. */
  async check<T>(...args: Parameters<KubeHttp['send']>): Promise<T> {
    const { status, body } = await this.send<T>(...args)
    if (status < 200 || status > 299) throw new Error(`${args[0]} ${args[1]}: ${status} ${JSON.stringify(body)}`)
    return body
  }

  [Symbol.dispose](): void { this.#agent.destroy() }
}
