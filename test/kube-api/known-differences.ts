import type { Json } from '../../packages/kube-api/src/object.ts'

/** Recorded requests that are answered otherwise here, for one reason. */
export interface KnownDifference {
  readonly scenario: string
  /** `seq` of each of them. */
  readonly requests: readonly number[]
  /** What is answered instead, and why; a sentence or two of docs/kubernetes.md. */
  readonly reason: string
  /** Sent as JSON after the only request, so that what follows finds what the recorded server had made of it. */
  readonly instead?: Json
}

/**
 * Every difference between the recordings and this server. The replay fails where one is not here, and where one that is
 * here is gone.
 */
export const knownDifferences: readonly KnownDifference[] = [
  {
    scenario: 'discovery',
    requests: [2, 3, 44],
    reason: 'The version is Holdfast\'s own; `major` and `minor` are those of the API that is served, 1.32.'
  },
  {
    scenario: 'discovery',
    requests: [8],
    reason: 'The verbose report names the checks that there are: that the server answers, and its store.'
  },
  {
    scenario: 'discovery',
    requests: [21, 24, 26, 29, 30, 31, 32, 33, 38, 41],
    reason: 'These groups are not served: what is not there is answered as an unknown path.'
  },
  {
    scenario: 'discovery',
    requests: [27],
    reason: 'Definitions are stored as v1 here, as v1beta1 there: `storageVersionHash` tells the two apart and means nothing else.'
  },
  {
    scenario: 'namespace',
    requests: [14],
    reason: 'Server-side apply is not served: 415 with a sentence, before anything else is looked at.'
  },
  {
    scenario: 'openapi',
    requests: [1, 3, 4],
    reason: 'The v2 document is a valid one without paths and definitions: clients that read it leave checking to the server.'
  },
  {
    scenario: 'openapi',
    requests: [6, 7],
    reason: 'The v3 documents hold what kubectl needs of them: which kind takes which parameters, and the fields of the kinds that '
      + 'are served.'
  },
  {
    scenario: 'openapi',
    requests: [8],
    reason: 'The v3 documents are JSON only: 406 for a client that takes nothing but protobuf.'
  },
  {
    scenario: 'rest-configmap',
    requests: [52],
    reason: 'Bodies are JSON, or protobuf for what kubectl makes with its create commands. YAML is 415: clients turn it into JSON '
      + 'themselves, and a YAML parser does not belong where anybody can send to it.',
    instead: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'fromyaml' }, data: { k: 'v' } }
  },
  {
    scenario: 'rest-configmap',
    requests: [53],
    reason: 'Answers are JSON: 406 for a client that takes nothing but YAML.'
  },
  {
    scenario: 'watch',
    requests: [46],
    reason: 'The refusal is a Status in JSON, not in YAML.'
  },
  {
    scenario: 'crd',
    requests: [7],
    reason: 'The scale subresource of custom resources is not served, so discovery does not name it.'
  },
  {
    scenario: 'openapi',
    requests: [10],
    reason: 'The v3 document of a group of definitions holds their schemas and what kubectl needs of their paths, like those of '
      + 'built-in kinds.'
  },
  {
    scenario: 'rest-customresource',
    requests: [23, 24, 25, 26, 33],
    reason: 'The scale subresource of custom resources is not served: 404. What the recorded requests changed through it is as it was '
      + 'before; `spec.replicas` can be changed by a patch of the object.'
  },
  {
    scenario: 'rest-customresource',
    requests: [28],
    reason: 'An object of a version that is not served is refused without a warning of the fields that its schema would not have.'
  }
]

/** The numbers of the requests of a scenario that are known to be answered otherwise. */
export function knownRequests(scenario: string): Set<number> {
  return new Set(knownDifferences.filter(known => known.scenario === scenario).flatMap(({ requests }) => requests))
}
