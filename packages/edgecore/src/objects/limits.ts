/** Bounds of the node's objects and of the API that serves them (law L8). */
export const objectLimits = {
  itemsPerCollection: {
    value: 50_000, unit: 'items', meaning: 'Items of one collection (STA-1).',
    atLimit: 'The batch is refused: OBJECT_REFUSED; nothing more is taken in until the next session.'
  },
  keyBytes: {
    value: 512, unit: 'bytes', meaning: 'Key of an item: `namespace/name` or `name` (STA-1).',
    atLimit: 'The batch is refused: OBJECT_REFUSED; nothing more is taken in until the next session.'
  },
  valueBytes: {
    value: 3 * 1024 * 1024, unit: 'bytes', meaning: 'Value of an item: an object as JSON (STA-1).',
    atLimit: 'The batch is refused: OBJECT_REFUSED; nothing more is taken in until the next session.'
  },
  historyEvents: {
    value: 2000, unit: 'changes', meaning: 'Changes of objects that are remembered for watches and for pages of one list.',
    atLimit: 'The oldest is forgotten: who asks for what was before gets 410 Expired.'
  },
  historyBytes: {
    value: 1024 * 1024, unit: 'bytes', meaning: 'JSON text of the objects in the changes that are remembered.',
    atLimit: 'The oldest are forgotten, as above.'
  },
  watches: {
    value: 200, unit: 'watches', meaning: 'Watches of the local API at a time.', atLimit: '429 TooManyRequests with Retry-After.'
  },
  watchBatchBytes: {
    value: 128 * 1024, unit: 'bytes', meaning: 'JSON text of the events that a watch is given at a time, about.',
    atLimit: 'The next ones follow when it has taken these.'
  },
  recentBytes: {
    value: 256 * 1024, unit: 'bytes',
    meaning: 'Values of items that came lately, kept to know what was there before their next change; twice that, with those before them.',
    atLimit: 'The oldest are forgotten, and read from the disk.'
  },
  listBytes: {
    value: 32 * 1024 * 1024, unit: 'bytes', meaning: 'JSON text of the objects in one answer of the local API.',
    atLimit: 'A page that was asked for with `limit` ends there, and the next one goes on; without `limit` 413 RequestEntityTooLarge.'
  },
  loadPageBytes: {
    value: 256 * 1024, unit: 'bytes', meaning: 'Stored items read at a time where a whole collection is looked at.',
    atLimit: 'The next ones are read when these have been looked at.'
  }
} as const
