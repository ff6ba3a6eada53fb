/** Bounds of patches (law L8); a patch's size is bounded with the body that carries it. */
export const patchLimits = {
  patchOperations: {
    value: 10_000, unit: 'operations', meaning: 'Operations of one JSON patch.',
    atLimit: '413 RequestEntityTooLarge, as the real server answers.'
  },
  patchDepth: {
    value: 512, unit: 'levels', meaning: 'Nesting of a patch, and of the object that it leads to.',
    atLimit: '400 BadRequest where the patch is deeper, 422 Invalid where the result would be.'
  },
  patchCopiedBytes: {
    value: 3 * 1024 * 1024, unit: 'bytes', meaning: 'What the copy operations of one JSON patch add to the object, in all.',
    atLimit: '422 Invalid, as the real server answers.'
  },
  patchMovedElements: {
    value: 50_000_000, unit: 'elements',
    meaning: 'Elements of lists into or out of which the operations of one JSON patch put others, counted each time.',
    atLimit: '413 RequestEntityTooLarge.'
  }
} as const
