import type { ErrorTable } from '@holdfast/runtime'

/** Operating errors of the twins on a node; what is wrong with a write is in the device-twin package's table. */
export const twinsErrorCodes = {
  TWIN_DEVICE_UNKNOWN: {
    cause: 'A write to a device that is no Device of this node: there is none by that name, or its spec.nodeName is another node\'s.',
    remedy: 'Create the Device in the cluster with this node\'s name in spec.nodeName, or look at namespace and name.',
    retryable: false
  },
  TWINS_NEWER: {
    cause: 'The twins in the database were written by a newer release, in a format that this one does not know.',
    remedy: 'Install the newer release again.',
    retryable: false
  }
} as const satisfies ErrorTable
