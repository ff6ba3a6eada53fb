/** Bounds of what is told and held of objects of built-in kinds (law L8); their size is bounded with the body that carries them. */
export const kindLimits = {
  toldFieldsMax: {
    value: 100, unit: 'fields', meaning: 'unknown or repeated fields of a document that are told of',
    atLimit: 'the others are left out of the warnings or the refusal, as by the real server'
  },
  toldCausesMax: {
    value: 1_000, unit: 'causes', meaning: 'of one refusal of an object', atLimit: 'what is wrong beyond that is not looked for'
  },
  dataBytesMax: { value: 1_048_576, unit: 'B', meaning: 'all values of a ConfigMap or a Secret together', atLimit: '422 Invalid' }
} as const
