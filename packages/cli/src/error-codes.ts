import type { ErrorTable } from '@holdfast/runtime'

/** What the `holdfast` commands can end in; `JOIN_…` is `holdfast join`, `UP_…` is `holdfast up`. */
export const cliErrorCodes = {
  JOIN_OPTION_INVALID: {
    cause: 'The server, the token or the node\'s name given to `holdfast join` is not of the right form.',
    remedy: 'Correct the named option.',
    retryable: false
  },
  JOIN_IDENTITY_EXISTS: {
    cause: 'The data directory holds an identity already.',
    remedy: 'Nothing, when the node has joined before. To replace its identity, stop edgecore and add --force.',
    retryable: false
  },
  JOIN_UNREACHABLE: {
    cause: 'The server did not answer, or not in time.',
    remedy: 'Check the address and the port (cloudcore HTTPS, 10002 unless set), and what lies between.',
    retryable: true
  },
  JOIN_CA_MISMATCH: {
    cause: 'The server\'s CA is not the one that the token was made by. The token has not been sent.',
    remedy: 'Check that --server is the cloudcore that made the token. If it is, somebody stands between.',
    retryable: false
  },
  JOIN_SERVER_NAME: {
    cause: 'The server\'s certificate does not carry the name that --server uses. The token has not been sent.',
    remedy: 'Use a name that it carries, or add this one to `serverNames` of cloudcore and restart it.',
    retryable: false
  },
  JOIN_SERVER_UNTRUSTED: {
    cause: 'The server\'s certificate is not valid under the CA of the token. The token has not been sent.',
    remedy: 'Check that --server is the cloudcore that made the token, and that the clock here is not years ahead.',
    retryable: false
  },
  JOIN_REFUSED: {
    cause: 'cloudcore refused: the token has expired, was used, is for another node, or the request is not acceptable.',
    remedy: 'The message holds its reason and code. Mostly: make a new token with `holdfast token create`.',
    retryable: false
  },
  JOIN_ANSWER_INVALID: {
    cause: 'The answer is not one of a cloudcore, or the certificate in it is not the one that was asked for.',
    remedy: 'Check that --server is the HTTPS port of a cloudcore of a matching version.',
    retryable: false
  },
  JOIN_NOT_WRITTEN: {
    cause: 'The identity cannot be written to the data directory.',
    remedy: 'Check its permissions and free space.',
    retryable: false
  },
  CLOUD_UNREACHABLE: {
    cause: 'The operations port of cloudcore did not answer, or not in time.',
    remedy: 'Start cloudcore, or give the URL of its operations port (9091 unless set) with --cloud or HOLDFAST_CLOUD.',
    retryable: true
  },
  CLOUD_REFUSED: {
    cause: 'cloudcore refused what was asked; the message holds its reason.',
    remedy: 'Correct what the message names. A cursor that has expired is answered with the first one there is.',
    retryable: false
  },
  CLOUD_ANSWER_INVALID: {
    cause: 'What answered is not the operations port of a cloudcore, or of one of another version.',
    remedy: 'Check the URL given with --cloud or HOLDFAST_CLOUD.',
    retryable: false
  },
  CLOUD_CONNECTION_LOST: {
    cause: 'The connection to cloudcore broke off in the middle of an answer.',
    remedy: 'Ask again; `holdfast records` goes on with the --cursor that the message names.',
    retryable: true
  },
  UP_ALREADY_RUNNING: {
    cause: 'A daemon runs on the data directory given to `holdfast up`.',
    remedy: 'Stop the named process, or choose another --data-dir.',
    retryable: false
  },
  UP_FILE_UNREADABLE: {
    cause: 'A file in the data directory given to `holdfast up` is damaged, or not readable by this user.',
    remedy: 'The message names the file and what to do with it.',
    retryable: false
  },
  UP_DAEMON_ENDED: {
    cause: 'A daemon that `holdfast up` started ended before it was ready.',
    remedy: 'The message holds the end of its log, which says why.',
    retryable: false
  },
  UP_NOT_READY: {
    cause: 'A daemon that `holdfast up` started was not ready, or not connected, in time.',
    remedy: 'The message holds the end of its log. Another cloud\'s data in the data directory is a common reason.',
    retryable: false
  }
} as const satisfies ErrorTable
