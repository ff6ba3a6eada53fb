/** Bounds of the cloud log (law L8). */
export const cloudLogLimits = {
  nodesMax: {
    value: 20_000, unit: 'nodes', meaning: 'Nodes that the cloud log knows.',
    atLimit: 'A further node is refused with LOG_NODES_FULL.'
  },
  lanesPerNodeMax: {
    value: 64, unit: 'lanes', meaning: 'Lanes that the cloud log knows of one node.',
    atLimit: 'A further lane is refused with LOG_LANES_FULL.'
  },
  epochsPerLaneMax: {
    value: 65_536, unit: 'epochs', meaning: 'Epochs that the cloud log knows of one lane.',
    atLimit: 'A further epoch is refused with LOG_EPOCHS_FULL until retention has dropped an older one.'
  },
  unusedEpochs: {
    value: 8192, unit: 'epochs',
    meaning: 'Epochs of a lane that a node has announced and never used, in memory only.',
    atLimit: 'The older half of them is forgotten.'
  },
  epochsKept: {
    value: 64, unit: 'epochs', meaning: 'Newest epochs of a lane that stay known although retention has dropped their records.',
    atLimit: 'An older one is forgotten; its totals stay with the lane.'
  },
  recentBatches: {
    value: 256, unit: 'batches', meaning: 'Newest batches of a stream whose CRC is in memory, to recognise what is sent again.',
    atLimit: 'Older ones are looked up on disk.'
  },
  segmentBytes: {
    value: 16 * 1024 * 1024, unit: 'bytes', meaning: 'Entries between two checkpoints, and the unit that retention drops.',
    atLimit: 'A checkpoint is written in the same commit.'
  },
  segmentEntries: {
    value: 4096, unit: 'entries', meaning: 'Entries between two checkpoints, and the unit that retention drops.',
    atLimit: 'A checkpoint is written in the same commit.'
  },
  pageBytes: {
    value: 256 * 1024, unit: 'bytes', meaning: 'Stored bytes that one reader holds at a time, about.',
    atLimit: 'The next page is read when the reader has taken this one.'
  },
  readersMax: {
    value: 256, unit: 'requests', meaning: 'Requests for records being answered at a time.',
    atLimit: 'A further one is answered 503 with Retry-After.'
  }
} as const
