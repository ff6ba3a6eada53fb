import {
  inventoryEntriesMax, stateBodyBytesMax, stateChangesMax, stateCollectionsMax, stateItemsMax, stateKeyBytesMax,
  stateRawBytesMax, stateValueBytesMax, stateVersionBytesMax
} from '@holdfast/protos'

/** Bounds of State on the tunnel (docs/spec/state.md). */
export const stateLimits = {
  collections: {
    value: stateCollectionsMax, unit: 'collections', meaning: 'Collections of one direction of a tunnel.',
    atLimit: 'A frame that names more is malformed.'
  },
  items: {
    value: stateItemsMax, unit: 'items', meaning: 'Items of one collection of one node.',
    atLimit: 'The reader refuses the batch, and State of that direction rests until the next session.'
  },
  keyBytes: {
    value: stateKeyBytesMax, unit: 'bytes', meaning: 'Key of an item.', atLimit: 'The writer keeps the item back and says so.'
  },
  versionBytes: {
    value: stateVersionBytesMax, unit: 'bytes', meaning: 'Version of an item.',
    atLimit: 'The writer keeps the item back and says so.'
  },
  valueBytes: {
    value: stateValueBytesMax, unit: 'bytes', meaning: 'Value of an item.',
    atLimit: 'The writer keeps the item back and says so.'
  },
  batchChanges: {
    value: stateChangesMax, unit: 'changes', meaning: 'Puts and deletions of one batch.', atLimit: 'Another batch follows.'
  },
  batchBytes: {
    value: 256 * 1024, unit: 'bytes', meaning: 'A batch of more than one change, before compression.',
    atLimit: 'Another batch follows.'
  },
  bodyBytes: {
    value: stateBodyBytesMax, unit: 'bytes', meaning: 'Body of a batch as it is sent, announced by its first part.',
    atLimit: 'The session ends with FRAME_MALFORMED.'
  },
  rawBytes: {
    value: stateRawBytesMax, unit: 'bytes', meaning: 'Body of a batch after decompression.',
    atLimit: 'The session ends with FRAME_MALFORMED.'
  },
  inventoryEntries: {
    value: inventoryEntriesMax, unit: 'entries', meaning: 'Entries of one page of an inventory.',
    atLimit: 'Another page is asked for.'
  },
  inventoryBytes: {
    value: 32 * 1024, unit: 'bytes', meaning: 'Keys and versions of one page of an inventory.',
    atLimit: 'Another page is asked for.'
  },
  windowBytes: {
    value: 512 * 1024, unit: 'bytes', meaning: 'Batches sent and not acknowledged; one may pass it.',
    atLimit: 'Changes gather, newest value per key.'
  },
  windowRawBytes: {
    value: 4 * 1024 * 1024, unit: 'bytes', meaning: 'Batches sent and not acknowledged, before compression; one may pass it.',
    atLimit: 'Changes gather, newest value per key.'
  },
  pendingRawBytes: {
    value: 16 * 1024 * 1024, unit: 'bytes', meaning: 'Batches received and not applied, after decompression.',
    atLimit: 'The session ends with STATE_WINDOW_EXCEEDED.'
  },
  answerDelayMs: {
    value: 1, unit: 'ms',
    meaning: 'From a change that came until it is acknowledged: what it brings about, here and on the link, goes first or along.',
    atLimit: 'All that was taken in meanwhile is acknowledged at once.'
  }
} as const
