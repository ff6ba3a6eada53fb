export { nodeControllerLimits } from './node-controller-limits.ts'

/** Bounds on what cloudcore takes from the Kubernetes API. */
export const kubeClientLimits = {
  listPage: {
    value: 500, unit: 'objects', meaning: 'Objects that are asked for at a time in a list.',
    atLimit: 'The list goes on with the next page.'
  },
  listPageBytes: {
    value: 16 * 1024 * 1024, unit: 'bytes', meaning: 'One page of a list.',
    atLimit: 'The list begins again with smaller pages; one object that is larger fails it (KUBE_ANSWER_TOO_LARGE).'
  },
  listBytes: {
    value: 256 * 1024 * 1024, unit: 'bytes', meaning: 'All pages of a list together.',
    atLimit: 'The list fails (KUBE_ANSWER_TOO_LARGE); what was known before stays.'
  },
  informerObjects: {
    value: 100_000, unit: 'objects', meaning: 'Objects of one kind that are listed or kept.',
    atLimit: 'Further ones are not taken (KUBE_ANSWER_TOO_LARGE); what was known before stays.'
  },
  answerBytes: {
    value: 4 * 1024 * 1024, unit: 'bytes', meaning: 'An answer with one object.',
    atLimit: 'KUBE_ANSWER_TOO_LARGE.'
  },
  watchLineBytes: {
    value: 4 * 1024 * 1024, unit: 'bytes', meaning: 'One event of a watch.',
    atLimit: 'The watch ends (KUBE_ANSWER_TOO_LARGE) and the objects are listed again.'
  },
  requestMs: {
    value: 30_000, unit: 'ms', meaning: 'A request and its answer; one page of a list.',
    atLimit: 'KUBE_UNREACHABLE; tried again by whoever asked.'
  },
  watchSilenceMs: {
    value: 150_000, unit: 'ms', meaning: 'A watch of which nothing is heard; a bookmark is due every minute.',
    atLimit: 'The watch ends (KUBE_UNREACHABLE) and is begun anew.'
  },
  watchSeconds: {
    value: 300, unit: 's', meaning: 'A watch at least, twice that at most; spread, so that not all begin anew at once.',
    atLimit: 'The server ends it, and the next one goes on from there.'
  },
  expiredLists: {
    value: 2, unit: 'lists', meaning: 'Lists that expire between their pages, one after the other.',
    atLimit: 'The next one is asked for in one piece.'
  },
  retryAfterMs: {
    value: 60_000, unit: 'ms', meaning: 'A wait that the API asks for with Retry-After.',
    atLimit: 'No longer than this is waited.'
  }
} as const
