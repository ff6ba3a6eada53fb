/** Bounds of the tunnel beside those that are settings. */
export const tunnelLimits = {
  outgoingBytes: {
    value: 4 * 1024 * 1024,
    unit: 'bytes',
    meaning: 'What waits to be taken by one node\'s socket.',
    atLimit: 'The connection is cut; the node comes back by itself.'
  }
} as const
