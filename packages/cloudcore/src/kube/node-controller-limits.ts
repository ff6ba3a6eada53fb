/** When a node counts as away, and how often Kubernetes hears of nodes. */
export const nodeControllerLimits = {
  awayAfterMs: {
    value: 20_000, unit: 'milliseconds',
    meaning: 'After a node\'s tunnel has ended; a dead link is found to be dead within 25 s before that.',
    atLimit: 'The Node is marked as away: Ready is Unknown, and it is tainted with holdfast.dev/unreachable:NoSchedule.'
  },
  startGraceMs: {
    value: 60_000, unit: 'milliseconds', meaning: 'After a start of cloudcore, for nodes that have not come back.',
    atLimit: 'They are marked as away.'
  },
  leaseDurationMs: {
    value: 40_000, unit: 'milliseconds', meaning: 'A Lease that nobody renewed for so long is stale.',
    atLimit: 'A cluster\'s node lifecycle controller takes the node for lost.'
  },
  renewIntervalMs: {
    value: 15_000, unit: 'milliseconds', meaning: 'Longest time between two renewals of a connected node\'s Lease.',
    atLimit: 'It is renewed.'
  },
  renewalsPerSecond: {
    value: 200, unit: 'renewals a second', meaning: 'Renewals of Leases, of all nodes.', atLimit: 'They wait.'
  },
  renewalsInFlight: {
    value: 16, unit: 'renewals',
    meaning: 'Renewals of Leases that wait for Kubernetes\' answer.', atLimit: 'The others wait.'
  },
  leaseLookMs: {
    value: 15_000, unit: 'milliseconds',
    meaning: 'After a start, before the Lease of a node that has not come back is looked at first.',
    atLimit: 'It is looked at, to see later whether another cloudcore renews it.'
  },
  writesPerSecond: {
    value: 200, unit: 'writes a second', meaning: 'Writes of Nodes, and confirmations of deleted Pods, of all nodes.',
    atLimit: 'They wait; nodes take turns.'
  },
  writesInFlight: {
    value: 16, unit: 'writes',
    meaning: 'Writes of Nodes, and confirmations of deleted Pods, that wait for Kubernetes\' answer.',
    atLimit: 'The others wait; nodes take turns.'
  },
  requestMs: {
    value: 15_000, unit: 'milliseconds',
    meaning: 'One go at a Node, a Lease or a deleted Pod.', atLimit: 'It is tried again.'
  },
  retryMs: {
    value: 10_000, unit: 'milliseconds',
    meaning: 'Longest back-off before one of these is tried again, unless Kubernetes asks for more.',
    atLimit: 'It is tried again.'
  },
  refusedRetryMs: {
    value: 60_000, unit: 'milliseconds', meaning: 'After Kubernetes has refused one of these for good (such as 403 or 422).',
    atLimit: 'It is tried again.'
  },
  duplicateLookMs: {
    value: 5000, unit: 'milliseconds', meaning: 'Between two looks at which nodes have an identity that two machines use.',
    atLimit: 'The condition DuplicateIdentity follows.'
  },
  deletionSettleMs: {
    value: 5000, unit: 'milliseconds',
    meaning: 'After a node has connected, before a deleted Pod is confirmed by what it reported.',
    atLimit: 'What it reports now counts.'
  },
  deletionUnreportedMs: {
    value: 300_000, unit: 'milliseconds', meaning: 'A deleted Pod of which a connected node reports nothing.',
    atLimit: 'The node does not have it: the deletion is confirmed.'
  },
  deletionOrphanedMs: {
    value: 40_000, unit: 'milliseconds', meaning: 'A deleted Pod whose Node does not exist, nor is connected.',
    atLimit: 'Nobody is there to let go of it: the deletion is confirmed.'
  }
} as const
