import { readFile } from 'node:fs/promises'
import { request } from 'node:https'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { KubeHttp } from './kube-http.ts'
import { collections, identityOf, placeOf } from './state-oracle.ts'
import type { Collection, Document } from './state-oracle.ts'

interface Event { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'ERROR' | 'BOOKMARK', readonly object: Document }
interface List { readonly metadata: { readonly resourceVersion: string }, readonly items: readonly Document[] }

const againMs = 20

/**
 * Follows what a node serves, through all its restarts, as a client of its local API would: goes on from where a watch ended,
 * and lists anew where it cannot. Remembers every object that was taken away.
 */
export class StateWatch implements AsyncDisposable {
  /** `secrets default/key <uid>`, once for each time, in the order in which they went. */
  readonly deletions: string[] = []
  /** Changes of any kind that were seen. */
  changes = 0
  readonly #kubeconfig: string
  readonly #following: Promise<unknown>
  #request: ClientRequest[] = []
  #isClosed = false

  constructor(kubeconfig: string) {
    this.#kubeconfig = kubeconfig
    this.#following = Promise.all(collections.map(collection => this.#follow(collection)))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true
    for (const sent of this.#request) sent.destroy()
    await this.#following
  }

  async #follow(collection: Collection): Promise<void> {
    const known = new Map<string, Document>()
    let version = ''
    while (!this.#isClosed) {
      try {
        if (version === '') version = await this.#list(collection, known)
        version = await this.#watch(collection, known, version)
      } catch {
        // The node is down, or on its way up.
        await new Promise(resolve => { setTimeout(resolve, againMs) })
      }
    }
  }

  async #list(collection: Collection, known: Map<string, Document>): Promise<string> {
    using api = await KubeHttp.open(this.#kubeconfig)
    const { items, metadata } = await api.check<List>('GET', `/api/v1/${collection}`)
    const there = new Map(items.map(object => [placeOf(collection, object), object]))
    for (const [place, object] of known) if (!there.has(place)) this.#take(collection, known, { type: 'DELETED', object })
    for (const object of items) this.#take(collection, known, { type: 'MODIFIED', object })
    return metadata.resourceVersion
  }

  /** Resolves with the version from which to go on; '' where that is not possible. Rejects where it did not begin. */
  async #watch(collection: Collection, known: Map<string, Document>, from: string): Promise<string> {
    const { clusters, users } = JSON.parse(await readFile(this.#kubeconfig, 'utf8')) as {
      clusters: { cluster: { 'server': string, 'certificate-authority-data': string } }[], users: { user: { token: string } }[]
    }
    const { server, 'certificate-authority-data': ca } = clusters[0]!.cluster
    let sent!: ClientRequest
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      sent = request(`${server}/api/v1/${collection}?watch=1&allowWatchBookmarks=true&resourceVersion=${from}`, {
        agent: false, ca: Buffer.from(ca, 'base64'), headers: { authorization: `Bearer ${users[0]!.user.token}` }
      }, resolve)
      sent.on('error', reject)
      sent.end()
      this.#request.push(sent)
      if (this.#isClosed) sent.destroy()
    })
    let version = from
    let text = ''
    try {
      if (answer.statusCode === 410) return ''
      if (answer.statusCode !== 200) throw new Error(`${answer.statusCode}`)
      for await (const part of answer.setEncoding('utf8')) {
        const lines = (text + String(part)).split('\n')
        text = lines.pop()!
        for (const line of lines) {
          const event = JSON.parse(line) as Event
          if (event.type === 'ERROR') return ''
          version = String(event.object.metadata['resourceVersion'])
          if (event.type !== 'BOOKMARK') this.#take(collection, known, event)
        }
      }
      return version
    } catch (error) {
      if (version === from) throw error
      return version
    } finally {
      sent.destroy()
      this.#request = this.#request.filter(one => one !== sent)
    }
  }

  #take(collection: Collection, known: Map<string, Document>, { type, object }: Event): void {
    this.changes++
    const place = placeOf(collection, object)
    const before = known.get(place)
    if (before !== undefined && (type === 'DELETED' || before.metadata.uid !== object.metadata.uid)) {
      this.deletions.push(identityOf(collection, before))
    }
    if (type === 'DELETED') known.delete(place)
    else known.set(place, object)
  }
}
