import type { SeededRandom } from '@holdfast/runtime'
import { until } from './daemons.ts'
import type { KubeHttp } from './kube-http.ts'
import { collections, documentsOf, identityOf, placeOf, wantedOf } from './state-oracle.ts'
import type { Collection, Document, Documents } from './state-oracle.ts'

type Changed = Exclude<Collection, 'nodes'>
type Draft = Readonly<Record<string, unknown>>

interface Write {
  readonly collection: Changed
  readonly name: string
  readonly method: 'POST' | 'PATCH' | 'DELETE'
  readonly body?: Draft
  readonly query?: string
}

/** Names are few, so that what is deleted is soon there again, as another object by the same name. */
const namesOf: Readonly<Record<Changed, readonly string[]>> = {
  serviceaccounts: ['robot', 'clerk'], secrets: ['key', 'token', 'login', 'spare'], configmaps: ['settings', 'rules', 'texts'],
  services: ['front', 'back'], pods: ['web', 'cache', 'worker', 'elsewhere']
}
const kinds: Readonly<Record<Changed, string>> = {
  serviceaccounts: 'ServiceAccount', secrets: 'Secret', configmaps: 'ConfigMap', services: 'Service', pods: 'Pod'
}

/** Between two writes: a cluster that changes, not a load. */
const paceMs = 4
const retryMs = 20

/**
 * Objects of a namespace that are created, changed, deleted and created again under the same name, one write after the other;
 * Pods and ServiceAccounts that begin and stop naming Secrets. Beside them `anchor` of each kind, which the node is to have all
 * the time.
 *
 * It knows what the API acknowledged. A write that was not answered may have happened: then it looks.
 */
export class StateChurn {
  /** Writes that were acknowledged. */
  writes = 0
  /** Objects that the cluster has, at some time, not wanted on the node any more: `secrets default/key <uid>`. */
  readonly unwanted = new Set<string>()
  /** What was acknowledged and was not there later. */
  readonly lost: string[] = []
  /** Versions of an object's content that were written, acknowledged or not. */
  readonly #written = new Map<string, Set<string>>()
  readonly #node: string
  readonly #api: KubeHttp
  readonly #random: SeededRandom
  #known: Documents = { serviceaccounts: [], secrets: [], configmaps: [], services: [], pods: [], nodes: [] }
  #isKnown = false
  /** The one write of which it is not known whether it happened. */
  #inDoubt = ''
  #running: Promise<void> | undefined
  #isPaused = true
  #number = 0

  constructor({ node }: { readonly node: string }, { api, random }: { readonly api: KubeHttp, readonly random: SeededRandom }) {
    this.#node = node
    this.#api = api
    this.#random = random
  }

  /** The anchors, and a first of everything. */
  async begin(): Promise<void> {
    await this.look()
    await this.#send({ collection: 'serviceaccounts', name: 'anchor', method: 'POST', body: { imagePullSecrets: [{ name: 'anchor' }] } })
    await this.#send({ collection: 'secrets', name: 'anchor', method: 'POST', body: { data: this.#data() } })
    await this.#send({ collection: 'configmaps', name: 'anchor', method: 'POST', body: { data: this.#data() } })
    await this.#send({ collection: 'services', name: 'anchor', method: 'POST', body: this.#service('anchor') })
    await this.#send({ collection: 'pods', name: 'anchor', method: 'POST', body: {
      metadata: { labels: { app: 'anchor' } },
      spec: {
        nodeName: this.#node, serviceAccountName: 'anchor',
        containers: [{ name: 'main', image: 'registry.example/anchor:1.0', envFrom: [{ configMapRef: { name: 'anchor' } }] }]
      }
    } })
  }

  run(): void {
    this.#isPaused = false
    this.#running ??= this.#run()
  }

  /** Has stopped when this resolves. */
  async pause(): Promise<void> {
    this.#isPaused = true
    await this.#running
    this.#running = undefined
  }

  async progress(count: number, withinMs = 60_000): Promise<void> {
    const enough = this.writes + count
    await until(`${count} more writes are acknowledged`, () => this.writes >= enough, withinMs)
  }

  /** Runs for so many writes. */
  async burst(count: number): Promise<void> {
    this.run()
    await this.progress(count)
    await this.pause()
  }

  /** Deletes and creates again all that is there of its kinds but for the anchors, each under its name. */
  async recreateAll(): Promise<void> {
    await this.look()
    for (const collection of collections) {
      if (collection === 'nodes') continue
      for (const name of namesOf[collection]) {
        if (this.#has(collection, name) === undefined) continue
        await this.#send({ collection, name, method: 'DELETE', query: '?gracePeriodSeconds=0' })
        await this.#send({ collection, name, method: 'POST', body: this.#draft(collection, name) })
      }
    }
  }

  /** Everything that was wanted until now may go: the cluster itself has changed, or is not the same. */
  forget(): void {
    for (const collection of collections) for (const object of this.#known[collection]) this.unwanted.add(identityOf(collection, object))
    this.#isKnown = false
    this.#known = { serviceaccounts: [], secrets: [], configmaps: [], services: [], pods: [], nodes: [] }
  }

  /** Whether an object is as somebody wrote it at some time; Nodes are cloudcore's. */
  wasWritten(collection: Collection, object: Document): boolean {
    return collection === 'nodes' || this.#written.get(identityOf(collection, object))?.has(contentOf(object)) === true
  }

  /** Reads what is there, and compares it with what was acknowledged. */
  async look(): Promise<void> {
    const there = await documentsOf(this.#api)
    if (this.#isKnown) {
      for (const collection of collections) {
        // Pods and Nodes are others' to change, too.
        if (collection === 'pods' || collection === 'nodes') continue
        const found = new Map(there[collection].map(object => [identityOf(collection, object), object]))
        const acknowledged = new Set(this.#known[collection].map(object => identityOf(collection, object)))
        for (const [id, object] of found) {
          if (!acknowledged.has(id) && placeOf(collection, object) !== this.#inDoubt) this.lost.push(`${id} is there, and was deleted`)
        }
        for (const object of this.#known[collection]) {
          const now = found.get(identityOf(collection, object))
          if (placeOf(collection, object) === this.#inDoubt) continue
          if (now === undefined) this.lost.push(`${identityOf(collection, object)} is gone`)
          else if (contentOf(now) !== contentOf(object)) {
            this.lost.push(`${identityOf(collection, object)} is ${contentOf(now)}, not ${contentOf(object)}`)
          }
        }
      }
    }
    this.#becomes(there)
    for (const collection of collections) for (const object of there[collection]) this.#note(collection, object)
    this.#isKnown = true
    this.#inDoubt = ''
  }

  async #run(): Promise<void> {
    while (!this.#isPaused) {
      try {
        if (!this.#isKnown || this.#inDoubt !== '') await this.look()
        await this.#send(this.#next())
        await new Promise(resolve => { setTimeout(resolve, paceMs) })
      } catch {
        await new Promise(resolve => { setTimeout(resolve, retryMs) })
      }
    }
  }

  /** Rejects where it was not answered, or not so that it is known what became of it. */
  async #send(write: Write): Promise<void> {
    const { collection, name, method, body, query = '' } = write
    const path = `/api/v1/namespaces/default/${collection}`
    const sent = method !== 'POST' ? body : {
      apiVersion: 'v1', kind: kinds[collection], ...body, metadata: { ...body?.['metadata'] as Draft | undefined, name }
    }
    this.#inDoubt = `${collection} default/${name}`
    const before = this.#has(collection, name)
    // From here on what only this object named may go.
    if (before !== undefined) this.#mayGo(collection, before, method === 'PATCH' ? merged(before, body!) : undefined)
    if (before !== undefined && method === 'PATCH') this.#note(collection, merged(before, body!))
    const { status, body: answer } = await this.#api.send<Document>(method, method === 'POST' ? path : `${path}/${name}${query}`, sent)
    if (status === 404 || status === 409) return
    if (status < 200 || status > 299) throw new Error(`${method} ${path}/${name}: ${status} ${JSON.stringify(answer)}`)
    this.writes++
    const after = method === 'DELETE' ? undefined : answer
    this.#becomes(withObject(this.#known, collection, name, after))
    if (after !== undefined) this.#note(collection, after)
    this.#inDoubt = ''
  }

  #has(collection: Collection, name: string): Document | undefined {
    return this.#known[collection].find(({ metadata }) => metadata.name === name && metadata.namespace === 'default')
  }

  #note(collection: Collection, object: Document): void {
    const id = identityOf(collection, object)
    const contents = this.#written.get(id) ?? new Set()
    this.#written.set(id, contents.add(contentOf(object)))
  }

  /** What the node is to have for sure: a Pod that is being deleted may go at any time, with what only it names. */
  #wanted(documents: Documents): Set<string> {
    const pods = documents.pods.filter(({ metadata }) => metadata['deletionTimestamp'] === undefined)
    return new Set([...wantedOf(this.#node, { ...documents, pods })].map(([place, object]) =>
      identityOf(place.slice(0, place.indexOf(' ')) as Collection, object)))
  }

  #mayGo(collection: Changed, before: Document, after: Document | undefined): void {
    this.#differ(withObject(this.#known, collection, before.metadata.name, after))
  }

  #becomes(documents: Documents): void {
    this.#differ(documents)
    this.#known = documents
  }

  /** Whatever is there before or behind a change, and is not wanted behind it, may go. */
  #differ(documents: Documents): void {
    const wanted = this.#wanted(documents)
    for (const collection of collections) {
      for (const object of [...this.#known[collection], ...documents[collection]]) {
        const id = identityOf(collection, object)
        if (!wanted.has(id)) this.unwanted.add(id)
      }
    }
  }

  // ── what is written ────────────────────────────────────────────────────────────────────────────────────────────────

  #next(): Write {
    const random = this.#random
    const collection = this.#pick(['secrets', 'secrets', 'configmaps', 'configmaps', 'pods', 'pods', 'serviceaccounts', 'services'] as const)
    // An anchor's content changes; it never goes.
    if (random.chance(0.1)) {
      const anchored = this.#pick(['secrets', 'configmaps'] as const)
      return { collection: anchored, name: 'anchor', method: 'PATCH', body: { data: this.#data() } }
    }
    const name = this.#pick(namesOf[collection])
    if (this.#has(collection, name) === undefined) return { collection, name, method: 'POST', body: this.#draft(collection, name) }
    if (collection === 'pods' && random.chance(0.5)) {
      return { collection, name, method: 'PATCH', body: { metadata: { labels: { app: this.#pick(['front', 'back', 'none']) } } } }
    }
    if (collection === 'pods' || random.chance(0.4)) {
      const isGraceful = collection === 'pods' && random.chance(0.3)
      return { collection, name, method: 'DELETE', query: isGraceful ? '' : '?gracePeriodSeconds=0' }
    }
    return { collection, name, method: 'PATCH', body: this.#draft(collection, name) }
  }

  #draft(collection: Changed, name: string): Draft {
    switch (collection) {
      case 'secrets':
      case 'configmaps': return { data: this.#data() }
      case 'services': return this.#service(name)
      case 'serviceaccounts': return { imagePullSecrets: this.#some(namesOf.secrets).map(secret => ({ name: secret })) }
      case 'pods': return {
        metadata: { labels: { app: this.#pick(['front', 'back', 'none']) } },
        spec: {
          nodeName: name === 'elsewhere' ? 'edge-of-another' : this.#node,
          ...this.#random.chance(0.5) && { serviceAccountName: this.#pick(namesOf.serviceaccounts) },
          containers: [{
            name: 'main', image: 'registry.example/main:1.0',
            envFrom: this.#some(namesOf.configmaps).map(of => ({ configMapRef: { name: of } })),
            env: this.#some(namesOf.secrets).map((of, i) => ({ name: `KEY_${i}`, valueFrom: { secretKeyRef: { name: of, key: 'value' } } }))
          }],
          volumes: this.#some(namesOf.secrets).map((of, i) => ({ name: `volume-${i}`, secret: { secretName: of } }))
        }
      }
    }
  }

  #service(app: string): Draft {
    return { spec: { selector: { app }, ports: [{ port: 80 + this.#random.integer(0, 9) }] } }
  }

  /** Base64, so that it is good for Secrets too; another one each time. */
  #data(): Draft {
    const value = Buffer.from(`${++this.#number} `.repeat(this.#random.integer(1, 40))).toString('base64')
    return { value }
  }

  #pick<T>(list: readonly T[]): T { return list[this.#random.integer(0, list.length - 1)]! }

  #some<T>(list: readonly T[]): T[] { return list.filter(() => this.#random.chance(0.4)) }
}

/** What a write says of an object; versions and what others add are no part of it. */
function contentOf({ data, imagePullSecrets, spec, metadata }: Document): string {
  const { selector, ports } = (spec ?? {}) as { readonly selector?: unknown, readonly ports?: readonly { readonly port: number }[] }
  return JSON.stringify({ data, imagePullSecrets, selector, ports: ports?.map(({ port }) => port), labels: metadata.labels })
}

/** As a merge patch of few members does it. */
function merged(object: Document, patch: Draft): Document {
  const { metadata, ...rest } = patch
  return { ...object, ...rest, metadata: { ...object.metadata, ...metadata as Draft | undefined } }
}

function withObject(documents: Documents, collection: Changed, name: string, object: Document | undefined): Documents {
  const others = documents[collection].filter(({ metadata }) => metadata.name !== name || metadata.namespace !== 'default')
  return { ...documents, [collection]: object === undefined ? others : [...others, object] }
}
