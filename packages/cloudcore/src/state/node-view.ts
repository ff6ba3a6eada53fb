import type { KubeObject } from '@holdfast/kube-api'
import type { NodeName } from '@holdfast/runtime'
import { SortedKeys, contentVersion, stateDigest } from '@holdfast/sync'
import { boundCollections, downCollections, isBoundCollection } from './view-collections.ts'
import type { BoundCollection, DownCollection } from './view-collections.ts'
import { projectedValue } from './view-projection.ts'
import { boundNode, deviceReferences, podReferences, selectorOf, selects, serviceAccountReferences } from './view-references.ts'
import type { Reference, ServiceSelector } from './view-references.ts'

/** What one node is shown (docs/spec/state.md, STA-40 ff.). All answers agree with each other until the next change. */
export interface NodeView {
  version(collection: DownCollection, key: string): Buffer | undefined
  /** Made when it is asked for. */
  value(collection: DownCollection, key: string): Buffer | undefined
  /** `stateDigest`; kept until something of the collection changes. */
  digest(collection: DownCollection): Buffer
  /** Keys behind `after` and their versions, in order. */
  keysFrom(collection: DownCollection, after: string): Iterable<readonly [key: string, version: Buffer]>
}

export interface NodeViewsComponents {
  /** The object under this key, as `changed` told it or newer. */
  lookUp(collection: DownCollection, key: string): KubeObject | undefined
  /** An item of an opened view came, went or has other content; told when the whole change is done. */
  onChanged(node: NodeName, collection: DownCollection, key: string): void
}

/**
 * An object that is in some view, or would be if it existed. There is one for all views, so that a Secret that every node needs
 * is hashed once.
 */
interface Item {
  readonly collection: DownCollection
  readonly key: string
  object: KubeObject | undefined
  /** Undefined if and only if `object` is. */
  version: Buffer | undefined
  /** How many reasons each view has to show it: items in the view that name it, or that it is the view's own. */
  readonly holders: Map<View, number>
  /** What is in a view because this is. */
  names: Set<Item>
}

/**
 * The views of all nodes that were asked for, kept up with each change of an object. Pure.
 *
 * An item is in a view for exactly as long as something there names it: references are counted, from the node's own object, its
 * pods and its devices on. Nothing refers in a circle: a pod names services, accounts, secrets and configmaps; an account names
 * secrets; a device names its model.
 */
export class NodeViews {
  readonly #components: NodeViewsComponents
  readonly #views = new Map<string, View>()
  readonly #items = new Map<string, Item>()
  /** Where each pod and device is, and which are where: also of nodes without a view, which may be asked for later. */
  readonly #nodeOf = new Map<string, string>()
  readonly #boundTo: Readonly<Record<BoundCollection, Map<string, Set<string>>>> = { pods: new Map(), devices: new Map() }
  /** Items of pods in each namespace. */
  readonly #podsIn = new Map<string, Set<Item>>()
  /** Services that select, in each namespace. */
  readonly #selectors = new Map<string, Map<string, ServiceSelector>>()
  /** Told when the change is done. */
  #changes: { readonly view: View, readonly item: Item }[] = []

  constructor(components: NodeViewsComponents) { this.#components = components }

  /** The view of a node; kept up from now on. */
  open(node: NodeName): NodeView {
    let view = this.#views.get(node)
    if (view !== undefined) return view
    view = new View(node)
    this.#views.set(node, view)
    this.#hold(view, this.#item('nodes', node))
    for (const collection of boundCollections) {
      for (const key of this.#boundTo[collection].get(node) ?? []) {
        const object = this.#components.lookUp(collection, key)
        // One that changes in this very moment is told of in a moment.
        if (object !== undefined && boundNode(object) === node) this.#hold(view, this.#item(collection, key))
      }
    }
    this.#changes = []
    return view
  }

  /** The object under this key is now `after`; undefined: there is none. Also called for what was there from the start. */
  changed(collection: DownCollection, key: string, after: KubeObject | undefined): void {
    if (isBoundCollection(collection)) this.#boundChanged(collection, key, after)
    else {
      if (collection === 'services') this.#serviceChanged(key, after)
      const item = this.#items.get(itemId(collection, key))
      if (item !== undefined) this.#put(item, after)
    }
    const changes = this.#changes
    this.#changes = []
    for (const { view, item } of changes) this.#components.onChanged(view.node, item.collection, item.key)
  }

  #boundChanged(collection: BoundCollection, key: string, after: KubeObject | undefined): void {
    const id = itemId(collection, key)
    const node = after === undefined ? undefined : boundNode(after)
    const before = this.#nodeOf.get(id)
    if (before !== node) this.#move(collection, key, before, node)
    const view = node === undefined ? undefined : this.#views.get(node)
    if (view === undefined) return
    const item = this.#items.get(id) ?? this.#newItem(collection, key, after)
    this.#put(item, after)
    if (!item.holders.has(view)) this.#hold(view, item)
  }

  #move(collection: BoundCollection, key: string, from: string | undefined, to: string | undefined): void {
    const id = itemId(collection, key)
    const boundTo = this.#boundTo[collection]
    if (from !== undefined) {
      const view = this.#views.get(from)
      const item = this.#items.get(id)
      if (view !== undefined && item?.holders.has(view) === true) this.#release(view, item)
      removeFrom(boundTo, from, key)
    }
    if (to === undefined) {
      this.#nodeOf.delete(id)
      return
    }
    this.#nodeOf.set(id, to)
    addTo(boundTo, to, key)
  }

  #serviceChanged(key: string, after: KubeObject | undefined): void {
    const namespace = namespaceOf(key)
    const selector = after === undefined ? undefined : selectorOf(after)
    const selectors = this.#selectors.get(namespace) ?? new Map<string, ServiceSelector>()
    if (selector === undefined) selectors.delete(key)
    else selectors.set(key, selector)
    if (selectors.size > 0) this.#selectors.set(namespace, selectors)
    else this.#selectors.delete(namespace)
    for (const pod of this.#podsIn.get(namespace) ?? []) {
      const service = this.#items.get(itemId('services', key))
      const isNamed = service !== undefined && pod.names.has(service)
      const isSelected = selector !== undefined && selects(selector, pod.object!)
      if (isNamed && !isSelected) {
        pod.names.delete(service)
        for (const view of pod.holders.keys()) this.#release(view, service)
      } else if (!isNamed && isSelected) {
        const named = service ?? this.#newItem('services', key, after)
        pod.names.add(named)
        for (const view of pod.holders.keys()) this.#hold(view, named)
      }
    }
  }

  #item(collection: DownCollection, key: string): Item {
    return this.#items.get(itemId(collection, key)) ?? this.#newItem(collection, key, this.#components.lookUp(collection, key))
  }

  /** It has no holder yet; the caller gives it one. */
  #newItem(collection: DownCollection, key: string, object: KubeObject | undefined): Item {
    const item: Item = { collection, key, object: undefined, version: undefined, holders: new Map(), names: new Set() }
    this.#items.set(itemId(collection, key), item)
    if (collection === 'pods') addTo(this.#podsIn, namespaceOf(key), item)
    this.#put(item, object)
    return item
  }

  #put(item: Item, object: KubeObject | undefined): void {
    const before = item.version
    const version = object === undefined ? undefined : contentVersion(projectedValue(item.collection, object))
    item.object = object
    // What it names is in what the version is of; what selects a pod is looked at when a service changes.
    if (before === version || (before !== undefined && version?.equals(before) === true)) return
    item.version = version
    const old = item.names
    item.names = this.#namesOf(item)
    for (const view of item.holders.keys()) {
      this.#show(view, item)
      for (const named of item.names) if (!old.has(named)) this.#hold(view, named)
      for (const named of old) if (!item.names.has(named)) this.#release(view, named)
    }
  }

  #namesOf({ collection, key, object }: Item): Set<Item> {
    const references = object === undefined ? undefined : referencesIn[collection]?.(object)
    if (object === undefined || references === undefined) return new Set()
    const names = new Set(references.map(reference => this.#item(reference.collection, reference.key)))
    if (collection !== 'pods') return names
    for (const [service, selector] of this.#selectors.get(namespaceOf(key)) ?? []) {
      if (selects(selector, object)) names.add(this.#item('services', service))
    }
    return names
  }

  #hold(view: View, item: Item): void {
    const count = item.holders.get(view) ?? 0
    item.holders.set(view, count + 1)
    if (count > 0) return
    if (item.version !== undefined) this.#show(view, item)
    for (const named of item.names) this.#hold(view, named)
  }

  #release(view: View, item: Item): void {
    const count = item.holders.get(view)!
    if (count > 1) {
      item.holders.set(view, count - 1)
      return
    }
    item.holders.delete(view)
    if (item.version !== undefined) this.#show(view, item)
    for (const named of item.names) this.#release(view, named)
    if (item.holders.size > 0) return
    this.#items.delete(itemId(item.collection, item.key))
    if (item.collection === 'pods') removeFrom(this.#podsIn, namespaceOf(item.key), item)
  }

  /** Brings the view's list in line with the item. */
  #show(view: View, item: Item): void {
    const { collection, key, version } = item
    view.set(collection, key, version !== undefined && item.holders.has(view) ? item : undefined)
    this.#changes.push({ view, item })
  }
}

/** What objects of a kind name. */
const referencesIn: { readonly [Name in DownCollection]?: (object: KubeObject) => readonly Reference[] } = {
  pods: podReferences, serviceaccounts: serviceAccountReferences, devices: deviceReferences
}

/** Items of one view, by collection. */
class View implements NodeView {
  readonly node: NodeName
  readonly #collections = Object.fromEntries(downCollections.map(name => [name, { items: new SortedKeys(), digest: undefined }])) as
    Record<DownCollection, { readonly items: SortedKeys<Item>, digest: Buffer | undefined }>

  constructor(node: NodeName) { this.node = node }

  set(collection: DownCollection, key: string, item: Item | undefined): void {
    const held = this.#collections[collection]
    held.digest = undefined
    if (item === undefined) held.items.delete(key)
    else held.items.set(key, item)
  }

  version(collection: DownCollection, key: string): Buffer | undefined { return this.#collections[collection].items.get(key)?.version }

  value(collection: DownCollection, key: string): Buffer | undefined {
    const object = this.#collections[collection].items.get(key)?.object
    return object === undefined ? undefined : projectedValue(collection, object)
  }

  digest(collection: DownCollection): Buffer {
    const held = this.#collections[collection]
    return held.digest ??= stateDigest(this.keysFrom(collection, ''))
  }

  *keysFrom(collection: DownCollection, after: string): Generator<readonly [key: string, version: Buffer]> {
    for (const [key, item] of this.#collections[collection].items.from(after)) yield [key, item.version!]
  }
}

const itemId = (collection: DownCollection, key: string): string => `${collection} ${key}`

/** Of a key `namespace/name`. */
const namespaceOf = (key: string): string => key.slice(0, key.indexOf('/'))

function addTo<T>(sets: Map<string, Set<T>>, name: string, member: T): void {
  const set = sets.get(name)
  if (set === undefined) sets.set(name, new Set([member]))
  else set.add(member)
}

function removeFrom<T>(sets: Map<string, Set<T>>, name: string, member: T): void {
  const set = sets.get(name)
  if (set?.delete(member) === true && set.size === 0) sets.delete(name)
}
