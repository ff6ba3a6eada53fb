import { readFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { Agent, request } from 'node:https'

export interface KubeWatchEvent<T> { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR', readonly object: T }

/** One watch of a Kubernetes API that begins with what is there; ends with the server or when it is disposed of. */
export class KubeWatch implements AsyncDisposable {
  readonly #answer: IncomingMessage
  readonly #agent: Agent

  private constructor(answer: IncomingMessage, agent: Agent) {
    this.#answer = answer
    this.#agent = agent
  }

  /** `path` is the collection's. `onEvent` is called for each line as it comes. */
  static async open<T>(kubeconfig: string, path: string, onEvent: (event: KubeWatchEvent<T>) => void): Promise<KubeWatch> {
    const { clusters, users } = JSON.parse(await readFile(kubeconfig, 'utf8')) as {
      clusters: { cluster: { 'server': string, 'certificate-authority-data': string } }[], users: { user: { token: string } }[]
    }
    const { server, 'certificate-authority-data': ca } = clusters[0]!.cluster
    const agent = new Agent({ ca: Buffer.from(ca, 'base64') })
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      request(`${server}${path}?watch=true`, { agent, headers: { authorization: `Bearer ${users[0]!.user.token}` } }, resolve)
        .on('error', reject).end()
    })
    if (answer.statusCode !== 200) throw new Error(`watch of ${path}: ${answer.statusCode}`)
    let text = ''
    answer.on('error', () => {})
    answer.setEncoding('utf8').on('data', (part: string) => {
      const lines = (text + part).split('\n')
      text = lines.pop()!
      for (const line of lines) onEvent(JSON.parse(line) as KubeWatchEvent<T>)
    })
    return new KubeWatch(answer, agent)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#answer.destroy()
    this.#agent.destroy()
  }
}
