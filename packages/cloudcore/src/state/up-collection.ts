import type { KubeObject } from '@holdfast/kube-api'
import type { NodeName } from '@holdfast/runtime'
import type { Informer, ObjectPlace } from '../kube/kube-client.ts'
import { mergedNodeStatus, mergedPodStatus, placeOf, readReport, recordedVersion, statusOf, statusPatch } from './status-document.ts'
import type { StatusReport } from './status-document.ts'
import type { StatusDecision, StatusDropReason, StatusWriter } from './status-writer.ts'
import type { NodeLinks } from './up-links.ts'
import { boundNode } from './view-references.ts'

/** What is written of one item, or when there is none any more. */
export interface UpItem {
  /** What it is decided by; the first one is the object that it is recorded on. */
  readonly places: readonly [ObjectPlace, ...ObjectPlace[]]
  /** Why it must not be written, whatever the version; `isRead` as in `StatusWrite`. */
  refusal(objects: readonly (KubeObject | undefined)[], isRead: boolean): StatusDropReason | undefined
  /** The next request that brings the objects to what the item says, and with the last one records the version. */
  next(objects: readonly (KubeObject | undefined)[]): StatusDecision
}

/** One collection that nodes send up: which objects are the record of its items (STA-31), and how items are written. */
export interface UpCollection {
  readonly name: string
  /** Of the objects that items are recorded on. Keys are the objects'. */
  readonly informer: Informer
  /** Of what else items are decided by: none is taken before these have synced, too. */
  readonly references: readonly Informer[]
  /**
   * Of the objects whose node says the items, where these can move: what a node says is the record no more once another node had
   * the object, and a node that was given it back before it saw that it was gone does not say it again by itself.
   */
  readonly owners?: Informer
  readonly writer: StatusWriter
  /** An item that meets no object is kept until there is one: a node may say it before the object is made. */
  readonly waitsForObjects: boolean
  /** Of which node's item the object is the record, or would be; undefined: of none. */
  nodeOf(object: KubeObject): string | undefined
  /** There has to be a record under this key: where it is lost, the node is to say it again. */
  isExpected(node: NodeName, key: string): boolean
  /** Reads an item of this version (32 hexadecimal digits); a text says why it is none. The value is not kept. */
  read(node: NodeName, key: string, version: string, value: Buffer): UpItem | string
  /** What takes the record away, and leaves the rest; undefined where the key is nothing that the node may report on. */
  removal(node: NodeName, key: string): UpItem | undefined
}

/** The version of the node's item that is recorded on an object. */
export function recordOf(collection: UpCollection, node: NodeName, object: KubeObject | undefined): string | undefined {
  return object !== undefined && collection.nodeOf(object) === node ? recordedVersion(object) : undefined
}

/** The node that a Pod or a Device is bound to. */
export function nodeOf(object: KubeObject | undefined): string | undefined {
  const nodeName: unknown = object === undefined ? undefined : boundNode(object)
  return typeof nodeName === 'string' ? nodeName : undefined
}

/** Statuses of Pods (STA-35). */
export function podStatuses({ pods, writer }: { readonly pods: Informer, readonly writer: StatusWriter }): UpCollection {
  return {
    name: 'pod-status', informer: pods, references: [], writer, waitsForObjects: false,
    nodeOf, isExpected: () => false,
    read: (node, key, version, value) => {
      const report = readReport(node, 'pod-status', key, value)
      if (typeof report === 'string') return report
      return {
        places: [report.place],
        refusal: ([pod]) => pod === undefined ? 'gone' : pod.metadata.uid !== report.uid || nodeOf(pod) !== node ? 'another' : undefined,
        next: ([pod]) => statusWrite(report.place, pod!, mergedPodStatus(statusOf(pod!), report.status), version)
      }
    },
    removal: (node, key) => {
      const place = placeOf(node, 'pod-status', key)
      return place && {
        places: [place],
        refusal: ([pod]) => pod === undefined ? 'gone' : nodeOf(pod) !== node ? 'another' : undefined,
        next: ([pod]) => statusWrite(place, pod!, statusOf(pod!), undefined)
      }
    }
  }
}

export interface NodeStatusesComponents {
  readonly nodes: Informer
  readonly links: Pick<NodeLinks, 'connected'>
  readonly writer: StatusWriter
}

/** The status of each Node itself (STA-35, STA-38). */
export function nodeStatuses({ nodes, links, writer }: NodeStatusesComponents): UpCollection {
  const gone = ([object]: readonly (KubeObject | undefined)[]): StatusDropReason | undefined => object === undefined ? 'gone' : undefined
  return {
    name: 'node-status', informer: nodes, references: [], writer, waitsForObjects: true,
    nodeOf: ({ metadata }) => metadata.name, isExpected: () => false,
    read: (node, key, version, value) => {
      const report = readReport(node, 'node-status', key, value)
      if (typeof report === 'string') return report
      return {
        places: [report.place],
        refusal: gone,
        // Ready, as it was, does not hold of a node that is away, and the record must not say that it was written.
        next: ([object]) => links.connected(node)
          ? statusWrite(report.place, object!, mergedNodeStatus(statusOf(object!), report.status), version)
          : { kind: 'drop', reason: 'away' }
      }
    },
    removal: (node, key) => {
      const place = placeOf(node, 'node-status', key)
      return place && { places: [place], refusal: gone, next: ([object]) => statusWrite(place, object!, statusOf(object!), undefined) }
    }
  }
}

function statusWrite(place: ObjectPlace, base: KubeObject, status: StatusReport['status'], version: string | undefined): StatusDecision {
  return {
    kind: 'write', isLast: true,
    request: { verb: 'patch', place, patch: statusPatch(base, status, version), subresource: 'status' }
  }
}
