/** Bounds of definitions and of the work that their schemas make (law L8); sizes are bounded with the bodies that carry them. */
export const crdLimits = {
  schemaNodes: {
    value: 20_000, unit: 'schemas', meaning: 'Schemas inside the schema of one version of a definition.',
    atLimit: '422 Invalid for the definition.'
  },
  schemaDepth: {
    value: 100, unit: 'levels', meaning: 'Nesting of schemas.', atLimit: '422 Invalid for the definition.'
  },
  patternInstructions: {
    value: 10_000, unit: 'instructions', meaning: 'Of the machine that one `pattern` is made into; repetitions are written out.',
    atLimit: '422 Invalid for the definition.'
  },
  schemaPatternInstructions: {
    value: 100_000, unit: 'instructions', meaning: 'Of all patterns in the schema of one version of a definition.',
    atLimit: '422 Invalid for the definition.'
  },
  validationSteps: {
    value: 20_000_000, unit: 'steps',
    meaning: 'Work to check one object: one for each value and schema that meet, one for each character and instruction of a '
      + 'pattern, or part of a class in it.',
    atLimit: '422 Invalid for the object.'
  },
  selectableFields: {
    value: 8, unit: 'fields', meaning: 'That one version of a definition makes selectable, as by the real server.',
    atLimit: '422 Invalid for the definition.'
  }
} as const
