export { statusLimits } from './status-limits.ts'

/** Bounds of what nodes are shown. */
export const nodeViewLimits = {
  sourceLength: {
    value: 128, unit: 'characters', meaning: 'The name of the Kubernetes API in a position: its kube-system\'s uid.',
    atLimit: 'cloudcore does not take such a name.'
  },
  positionAheadMs: {
    value: 1000, unit: 'ms', meaning: 'How long a node may have seen more than an informer before the API is asked whether it went back.',
    atLimit: 'The objects are listed anew; until then the collection is not ready.'
  },
  askIntervalMs: {
    value: 10_000, unit: 'ms', meaning: 'Between two such lists of one kind, for all nodes together; doubled with each one that fails.',
    atLimit: 'The nodes that wait share the next list.'
  },
  askIntervalMaxMs: {
    value: 160_000, unit: 'ms', meaning: 'The interval, however often a list failed.', atLimit: 'It is not doubled any more.'
  },
  lookAgainMs: {
    value: 20, unit: 'ms', meaning: 'Between two looks at whether what nodes wait for is known, while informers move.',
    atLimit: 'What moves in between is looked at once.'
  }
} as const
