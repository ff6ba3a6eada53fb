/** Bounds of what goes from nodes into Kubernetes. */
export const statusLimits = {
  statusBytes: {
    value: 256 * 1024, unit: 'bytes', meaning: 'What a node reports of one object, as JSON.',
    atLimit: 'The item is given up and logged; the others go on.'
  },
  statusDepth: {
    value: 32, unit: 'levels', meaning: 'Nesting of what a node reports of one object.',
    atLimit: 'The item is given up and logged; the others go on.'
  },
  itemsPerNode: {
    value: 50_000, unit: 'items', meaning: 'Items of one up collection of one node (STA-1).',
    atLimit: 'The batch is refused: State that comes up rests until the next session.'
  },
  pendingBytes: {
    value: 4 * 1024 * 1024, unit: 'bytes', meaning: 'Taken in from one node and not written yet, as JSON.',
    atLimit: 'Nothing more is acknowledged until some of it is written; changes gather on the node.'
  },
  writeIntervalMs: {
    value: 1000, unit: 'milliseconds', meaning: 'Between two writes of one object\'s status.',
    atLimit: 'What changes meanwhile is written after it, newest only.'
  },
  writesPerSecond: {
    value: 400, unit: 'writes a second', meaning: 'Writes of statuses to Kubernetes, of all nodes.',
    atLimit: 'They wait; nodes take turns.'
  },
  writesBurst: {
    value: 800, unit: 'writes', meaning: 'Writes of statuses at once after a quiet time.', atLimit: 'The rate above holds.'
  },
  writesInFlight: {
    value: 32, unit: 'writes', meaning: 'Writes of statuses that wait for Kubernetes\' answer.',
    atLimit: 'The others wait; nodes take turns.'
  },
  writeMs: {
    value: 30_000, unit: 'milliseconds', meaning: 'A write of a status, with the reads that it takes.',
    atLimit: 'It counts as unanswered and is tried again, from what is there then.'
  },
  retryMs: {
    value: 30_000, unit: 'milliseconds',
    meaning: 'Longest back-off before a write is tried again, unless Kubernetes asks for more.',
    atLimit: 'It is tried again.'
  },
  refusedRetryMs: {
    value: 300_000, unit: 'milliseconds', meaning: 'After Kubernetes has refused a write for good (such as 403 or 422).',
    atLimit: 'Both sides compare again, and what is refused then waits once more.'
  },
  compareIntervalMs: {
    value: 10_000, unit: 'milliseconds', meaning: 'Between two comparisons of a collection that comes up, in one session.',
    atLimit: 'The next one waits.'
  },
  settleMs: {
    value: 30_000, unit: 'milliseconds', meaning: 'At connect, the wait for what was taken in before to be written.',
    atLimit: 'It is given up; the node says it again.'
  },
  unseenMs: {
    value: 60_000, unit: 'milliseconds', meaning: 'For so long a write of ours counts although the watch has not shown it.',
    atLimit: 'What the watch shows counts.'
  }
} as const
