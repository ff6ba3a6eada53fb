import type { ErrorTable } from '@holdfast/runtime'

/** Operating errors of the node's objects and of the API that serves them. */
export const objectErrorCodes = {
  OBJECT_REFUSED: {
    cause: 'The cloud sent an object that this node cannot hold: its key, size, version or content is not what the protocol says.',
    remedy: 'Nothing of its batch was stored, and nothing more comes down in this session. The message names the object; '
      + 'where edgecore is older than cloudcore, upgrade it.',
    retryable: false
  },
  OBJECTS_NEWER: {
    cause: 'The objects in the database were written by a newer release, in a format that this one does not know.',
    remedy: 'Install the newer release again.',
    retryable: false
  }
} as const satisfies ErrorTable
