/** Bounds of the embedded Kubernetes API's store (law L8). */
export const kubeApiLimits = {
  objectBytes: {
    value: 1_572_864, unit: 'bytes', meaning: 'One object as JSON text, as large as etcd takes it.',
    atLimit: '413 RequestEntityTooLarge; nothing is stored.'
  },
  objects: {
    value: 100_000, unit: 'objects', meaning: 'Objects of all kinds together.',
    atLimit: '403 Forbidden for new ones; those that are there can be changed and deleted.'
  },
  storeBytes: {
    value: 256 * 1024 * 1024, unit: 'bytes', meaning: 'JSON text of all objects together; they are kept in memory, too.',
    atLimit: '403 Forbidden for what would grow; everything can be shrunk and deleted.'
  },
  historyEvents: {
    value: 20_000, unit: 'changes',
    meaning: 'Changes that are remembered, for watches from the past and for pages of one list at one resourceVersion.',
    atLimit: 'The oldest is forgotten: who asks for what was before gets 410 Expired, and a watch whose reader is still there ends.'
  },
  historyBytes: {
    value: 32 * 1024 * 1024, unit: 'bytes', meaning: 'JSON text of the objects in the changes that are remembered.',
    atLimit: 'The oldest are forgotten, as above.'
  },
  watches: {
    value: 2_000, unit: 'watches', meaning: 'Watches at a time.',
    atLimit: '429 TooManyRequests with Retry-After.'
  },
  watchBatchBytes: {
    value: 256 * 1024, unit: 'bytes', meaning: 'JSON text of the events that the reader of a watch is given at a time, about.',
    atLimit: 'The next ones follow when it has taken these.'
  },
  listPage: {
    value: 10_000, unit: 'objects', meaning: 'Objects in one page of a list whose client asks for pages with `limit`.',
    atLimit: 'The page ends here, with the token of the next one.'
  },
  selectorLength: {
    value: 16 * 1024, unit: 'characters', meaning: 'A labelSelector or a fieldSelector.',
    atLimit: '400 BadRequest.'
  }
} as const
