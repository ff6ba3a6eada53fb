import type { ErrorTable } from '@holdfast/runtime'

/** What can go wrong between cloudcore and the Kubernetes API that it works with. */
export const kubeErrorCodes = {
  KUBE_CONFIG_INVALID: {
    cause: 'The way to the Kubernetes API cannot be made out: the kubeconfig cannot be read, lacks its context, cluster or '
      + 'user, names credentials that cannot be read, or cloudcore does not run in a cluster.',
    remedy: 'Correct what the message names; `kubectl --kubeconfig FILE get --raw /version` tries the same file.',
    retryable: false
  },
  KUBE_UNREACHABLE: {
    cause: 'The Kubernetes API did not answer, or its answer broke off: no connection, a certificate that does not fit, or '
      + 'silence for too long.',
    remedy: 'It is tried again. If it stays, look at the API server and the network between; the message has the address.',
    retryable: true
  },
  KUBE_UNAVAILABLE: {
    cause: 'The Kubernetes API is overloaded or has a failure of its own (429 or 5xx).',
    remedy: 'It is tried again, after Retry-After where the API says so.',
    retryable: true
  },
  KUBE_EXPIRED: {
    cause: 'The Kubernetes API has forgotten the version that a list or a watch was to go on from (410).',
    remedy: 'Expected: the list is made anew. If it happens all the time, the API keeps too little history for its load.',
    retryable: true
  },
  KUBE_CONFLICT: {
    cause: 'Somebody else has changed the object in the meantime, or one of that name is there already (409).',
    remedy: 'Expected: the object is read again and the change made on top of it.',
    retryable: true
  },
  KUBE_REFUSED: {
    cause: 'The Kubernetes API refused a request: not allowed (401, 403), not there (404), not valid (400, 422).',
    remedy: 'The message is the API\'s. For 403 give cloudcore\'s user the rights of deploy/kubernetes.',
    retryable: false
  },
  KUBE_ANSWER_INVALID: {
    cause: 'What answered is not a Kubernetes API, or something between changed its answer.',
    remedy: 'Check the server\'s address in the kubeconfig; the message says what was not as expected.',
    retryable: true
  },
  KUBE_ANSWER_TOO_LARGE: {
    cause: 'An answer of the Kubernetes API is larger than cloudcore takes (docs/limits.md).',
    remedy: 'Remove objects of that kind, or narrow what cloudcore selects of them.',
    retryable: false
  }
} as const satisfies ErrorTable

export type KubeErrorCode = keyof typeof kubeErrorCodes
