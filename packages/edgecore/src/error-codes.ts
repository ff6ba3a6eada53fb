import type { ErrorTable } from '@holdfast/runtime'

/** What edgecore can end in or log; `NODE_…` is reading the node's identity, `LINK_…` is dialling the cloud. */
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
  },
  LINK_SERVER_UNTRUSTED: {
    cause: 'The server at the tunnel\'s address has a certificate of another CA than that of the cluster the node has joined, '
      + 'or one that is not valid at this time.',
    remedy: 'Set `server` to the cluster\'s own cloudcore, restore that one\'s identity folder from a backup, or join again with '
      + '--force. Records wait on the node until then.',
    retryable: true
  },
  LINK_SERVER_NAME: {
    cause: 'The certificate of cloudcore does not carry the name or address that the node reaches it by.',
    remedy: 'Add it to `serverNames` of cloudcore and restart that, or set `server` to a name that the certificate carries.',
    retryable: true
  },
  LINK_SERVER_FOREIGN: {
    cause: 'What answers at the tunnel\'s address is not a tunnel of cloudcore.',
    remedy: 'Set `server` to the tunnel of cloudcore, port 10000 unless configured.',
    retryable: true
  },
  LINK_NODE_REFUSED: {
    cause: 'cloudcore does not take the node\'s certificate: it is of another cluster.',
    remedy: 'Set `server` to the cluster that the node has joined, or join again with --force.',
    retryable: true
  }
} as const satisfies ErrorTable
