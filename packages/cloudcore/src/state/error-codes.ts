import type { ErrorTable } from '@holdfast/runtime'

/** Operating errors of State in the cloud. */
export const stateErrorCodes = {
  STATUS_REFUSED: {
    cause: 'A node reports more statuses than one node may, or in a collection that cloudcore does not take.',
    remedy: 'State that comes up from the node rests until its next session. Look for what makes so many Pods on it, or upgrade '
      + 'cloudcore.',
    retryable: true
  }
} as const satisfies ErrorTable
