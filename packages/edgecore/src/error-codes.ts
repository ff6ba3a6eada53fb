import type { ErrorTable } from '@holdfast/runtime'

/** What edgecore can answer; `NODE_…` is reading the node's identity. */
export const edgecoreErrorCodes = {
  NODE_NOT_JOINED: {
    cause: 'The data directory holds no identity: this node has not joined a cluster.',
    remedy: 'Make a token at cloudcore with `holdfast token create`, then run `holdfast join` here.',
    retryable: false
  },
  NODE_IDENTITY_UNREADABLE: {
    cause: 'A file of the node\'s identity is missing, damaged, or not readable by this user.',
    remedy: 'Give the named file to the user that edgecore runs as; where it is damaged, join again with --force.',
    retryable: false
  },
  NODE_IDENTITY_MISMATCH: {
    cause: 'The files of the node\'s identity do not belong together.',
    remedy: 'Restore all four files from one backup, or join again with --force.',
    retryable: false
  }
} as const satisfies ErrorTable
