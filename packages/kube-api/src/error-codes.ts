import type { ErrorTable } from '@holdfast/runtime'

/** Operating errors of the embedded Kubernetes API; what clients of the API see are Status objects. */
export const kubeApiErrorCodes = {
  OBJECT_FORMAT_NEWER: {
    cause: 'The stored objects were written by a newer release than the one that is starting.',
    remedy: 'Install that release again, or start this one with another data directory.',
    retryable: false
  },
  OBJECT_STORE_CLOSED: {
    cause: 'The store of objects was used after it had been closed.',
    remedy: 'Expected only while the process stops; otherwise report it.',
    retryable: false
  }
} as const satisfies ErrorTable
