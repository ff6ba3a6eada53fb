/** Bounds of the node's objects and of the API that serves them (law L8). */
export const objectLimits = {
  itemsPerCollection: {
    value: 50_000, unit: 'items', meaning: 'Items of one collection (STA-1).',
    atLimit: 'The batch is refused: OBJECT_REFUSED; the session ends.'
  },
  keyBytes: {
    value: 512, unit: 'bytes', meaning: 'Key of an item: `namespace/name` or `name` (STA-1).',
    atLimit: 'The batch is refused: OBJECT_REFUSED; the session ends.'
  },
  valueBytes: {
    value: 3 * 1024 * 1024, unit: 'bytes', meaning: 'Value of an item: an object as JSON (STA-1).',
    atLimit: 'The batch is refused: OBJECT_REFUSED; the session ends.'
  },
  loadPageBytes: {
    value: 256 * 1024, unit: 'bytes', meaning: 'Stored items read at a time where a whole collection is looked at.',
    atLimit: 'The next ones are read when these have been looked at.'
  }
} as const
