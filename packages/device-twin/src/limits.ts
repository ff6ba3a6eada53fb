/** Bounds of a twin (docs/spec/twin.md, TWN-3), for docs/limits.md. */
export const twinLimits = {
  properties: {
    value: 256, unit: 'properties', meaning: 'Properties of a twin; deleted ones count until they give way.',
    atLimit: 'The oldest deleted ones give way; otherwise the write is refused with TWIN_FULL.'
  },
  nameCharacters: {
    value: 253, unit: 'characters', meaning: 'Name of a property.', atLimit: 'The write is refused with TWIN_PROPERTY.'
  },
  typeCharacters: {
    value: 64, unit: 'characters', meaning: 'What a sender calls the type of a value.', atLimit: 'The write is refused with TWIN_TYPE.'
  },
  valueBytes: {
    value: 64 * 1024, unit: 'bytes', meaning: 'A value as JSON.', atLimit: 'The write is refused with TWIN_VALUE.'
  },
  valueDepth: {
    value: 16, unit: 'levels', meaning: 'Arrays and objects of a value within each other.',
    atLimit: 'The write is refused with TWIN_VALUE.'
  },
  twinBytes: {
    value: 256 * 1024, unit: 'bytes', meaning: 'A twin as it is stored and sent to the cloud.',
    atLimit: 'The oldest deleted properties give way; otherwise the write is refused with TWIN_FULL.'
  },
  aheadMs: {
    value: 5 * 60_000, unit: 'ms', meaning: 'How far a version that a node gave may be ahead of the cloud\'s clock.',
    atLimit: 'The value is taken, and the cloud stamps it anew (TWN-16).'
  }
} as const
