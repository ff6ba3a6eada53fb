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

const through = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i)

const noCustomResources = 'CustomResourceDefinitions are not served yet, so their resources are not either.'

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
  { scenario: 'crd', requests: [...through(3, 29), 31], reason: noCustomResources },
  { scenario: 'deletion', requests: [67, ...through(69, 75), 89, 90, 91], reason: noCustomResources },
  { scenario: 'discovery', requests: [22, 25, 27, 34, 35], reason: noCustomResources },
  { scenario: 'openapi', requests: [10, 11], reason: noCustomResources },
  { scenario: 'patch', requests: [...through(51, 56)], reason: noCustomResources },
  { scenario: 'rest-customresource', requests: [...through(2, 43), 45, 46, 47], reason: noCustomResources },
  { scenario: 'validation', requests: [...through(2, 26), 37, ...through(60, 68), 70, 71], reason: noCustomResources },
  { scenario: 'watch', requests: [...through(50, 58), 66], reason: noCustomResources }
]

/** The numbers of the requests of a scenario that are known to be answered otherwise. */
export function knownRequests(scenario: string): Set<number> {
  return new Set(knownDifferences.filter(known => known.scenario === scenario).flatMap(({ requests }) => requests))
}
